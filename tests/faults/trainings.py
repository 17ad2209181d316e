"""Small trainings of every method that can be cut anywhere, and the comparison of what they leave, bit for bit."""
import json
import shutil

import numpy as np

from gluon_fgvc import data, methods
from gluon_fgvc.engine import checkpoint
from gluon_fgvc.engine.fit import Training
from gluon_fgvc.engine.log import Log
from gluon_fgvc.runs import load_config
from gluon_fgvc.runs.build import contexts_from
from gluon_fgvc.runs.training import _fit
from tests import small_run

EPOCHS, SIZE = 3, 64
# What makes a method small, and gives it two phases in three epochs where it has any.
SMALL = {
    'attention_scaled': {'schedule': 'AFA'}, 'cra_cnn': {'size': SIZE}, 'pmg': {'features': 16},
    'ssn': {'saliency_backbone': 'mobilenetv2_0.25', 'saliency_size': 32, 'sampled_size': 32},
    'tasn': {'attention_backbone': 'mobilenetv2_0.25', 'attention_size': 32, 'attention_channels': 8,
             'sampled_size': 32},
}
# Settings of the training under which a resumed run must equal an uninterrupted one: name → overrides. A new option
# that carries a state or draws random numbers is one line here.
OPTIONS = {
    'plain': (),
    'everything': (('train.mixup', 0.2), ('train.label_smoothing', 0.1), ('train.ema', 0.9),
                   ('data.sampler', 'weighted'), ('train.class_weights', 'balanced')),
    'recipe': (('train.cutmix', 1.0), ('train.mixup', 0.2), ('train.accumulate', 2), ('train.ema', 0.9)),
    'adam': (('train.optimizer', {'name': 'adam', 'lr': 1e-3}),),
    'local': (('run.kvstore', 'local'),),
    'uneven': (('data.last_batch', 'keep'), ('data.batch_size', 7)),  # 18 images: 7, 7, 4
    'tiny': (('data.last_batch', 'keep'), ('data.batch_size', 17)),   # and of the 18th alone
}


def configuration(folder, method='finetune', options=(), devices=1, workers=0):
    """Return the configuration of a small training of ``method``; ``folder`` receives the images, once."""
    if not (folder / 'cfg.yaml').exists():
        small_run.write(folder, train=24, test=2)
    own = {'name': method, **SMALL.get(method, {})}
    return load_config(folder / 'cfg.yaml', [
        ('data.root', str(folder / 'images')), ('data.train', {'random_resized_crop': SIZE, 'flip': True}),
        ('data.eval', {'resize': [SIZE, SIZE]}), ('method', own), ('train.epochs', EPOCHS),
        ('run.contexts', [f'cpu{device}' for device in range(devices)]), ('data.workers', workers),
        ('run.log_every', 2), *options])


def train(cfg, folder):
    """Train in run folder ``folder``, or go on with what it holds, without the test and the report."""
    folder.mkdir(parents=True, exist_ok=True)
    log = Log(folder, checkpoint.recover(folder, print))
    _fit(cfg, data.build(cfg.data), contexts_from(cfg.run.contexts), log, None)


class Cuts:
    """Copies of a run folder as a kill leaves it right after a checkpoint was written.

    :param monkeypatch: of pytest; ``wanted(now)`` says, of a :class:`~gluon_fgvc.engine.state.Progress`, whether to
        keep a copy, under ``parent/<epoch>-<batch>``.
    """

    def __init__(self, monkeypatch, parent, wanted=lambda now: True):
        keep = Training.keep

        def keep_and_copy(training, state, trainer):
            kept = keep(training, state, trainer)
            target = parent / f'{state.now.epoch}-{state.now.batch}'
            if wanted(state.now) and not target.exists():
                shutil.copytree(state.folder, target)
            return kept

        monkeypatch.setattr(Training, 'keep', keep_and_copy)


def assert_same(run, whole):
    """What two run folders keep of their trainings is equal: every array, every figure, every record."""
    for kind in checkpoint.KINDS:
        ours, theirs = (dict(checkpoint.read(folder, kind)) for folder in (run, whole))
        ours['files'], theirs['files'] = (sorted(record['files']) for record in (ours, theirs))
        assert ours == theirs, kind  # the hash of all parameters is one of them
    ours, theirs = (checkpoint.load_arrays(folder, checkpoint.read(folder, 'last')) for folder in (run, whole))
    assert list(ours) == list(theirs) and ours
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)
    assert small_run.records(run) == small_run.records(whole)


def assert_same_to_the_end(run, whole):
    """Two run folders are equal, and so are their evaluations of the test split."""
    assert_same(run, whole)
    ours, theirs = ({**json.loads((folder / 'evaluation.json').read_text()), 'evaluated_at': None}
                    for folder in (run, whole))
    assert ours == theirs


def cuts_of(method):
    """Return name → (epoch, batch) of the four moments at which a training of ``method`` is cut.

    A method with one phase has no boundary between two; in its place is the end of another epoch.
    """
    phases = methods_phases(method)
    boundary = next((epoch for epoch in range(1, EPOCHS) if phases[epoch] != phases[epoch - 1]), 1)
    end = next((epoch for epoch in range(1, EPOCHS) if epoch != boundary), 1)
    return {'phase boundary': (boundary, 0), 'epoch end': (end, 0), 'mid-epoch': (1, 2), 'last batch': (1, 4)}


def methods_phases(method):
    """Return the name of the phase of each epoch."""
    from gluon_fgvc import backbones
    built = methods.create(method, backbones.get('mobilenetv2_0.25'), 2, **SMALL.get(method, {}))
    return [phase.name for phase in built.phases(EPOCHS) for _ in range(phase.epochs)]

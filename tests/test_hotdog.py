"""The hot dog tutorial: its configurations, its commands, a run from end to end, and the book's loop beside ours."""
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
import yaml
from mxnet import autograd, gluon
from mxnet.gluon.model_zoo import vision

from gluon_fgvc import config, data, nn
from gluon_fgvc import runs as run
from gluon_fgvc.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from gluon_fgvc.commands import cli, study, train
from gluon_fgvc.engine.fit import TrainingData, fit
from gluon_fgvc.engine.log import Log
from gluon_fgvc.studies import plan_file
from tests import hotdog_archive, hotdog_book

ROOT = Path(__file__).parents[1]
STUDIES = sorted((ROOT / 'studies').glob('hotdog*.yaml'))
FINETUNED = ROOT / 'configs/finetune/hotdog_resnet18_v2.yaml'


def load(path, *overrides):
    return run.load_config(path, config.parse_overrides(overrides))


def variants():
    """Dict of (study, variant) → configuration."""
    return {(path.stem, variant.name): load(ROOT / variant.config, *variant.overrides)
            for path in STUDIES for variant in plan_file.read(path).variants}


# --- configurations and commands -------------------------------------------------------------

def test_the_configurations_are_the_book_s():
    cfg = load(FINETUNED)
    assert cfg.data.train == config.TrainView(random_resized_crop=224, flip=True)
    assert cfg.data.eval == config.EvalView(resize=(256, 256), crop=224)
    assert cfg.data.batch_size == 128 and cfg.train.epochs == 5 and cfg.train.schedule == config.Constant()
    assert cfg.train.optimizer == config.SGD(lr=0.01, momentum=0, wd=0.001)
    assert cfg.backbone == config.BackboneConfig('resnet18_v2', 'zoo') and cfg.method.options.lr_mult == 10
    assert cfg.data.val_fraction == 0.1  # the book has no validation split


@pytest.mark.parametrize('study_name, name, overrides', [
    ('hotdog', 'whole', ()),
    ('hotdog', 'scratch', ('backbone.weights=none', 'train.optimizer.lr=0.1', 'method.lr_mult=1')),
    ('hotdog', 'frozen', ('method.cut=fc',)),
    ('hotdog', 'imagenet-row', ('method.init_from_imagenet={0: hotdog}',)),
    ('hotdog_lr', 'lr0.1', ('train.optimizer.lr=0.1',))])
def test_the_variants_differ_from_it_in_nothing_else(study_name, name, overrides):
    assert variants()[study_name, name] == load(FINETUNED, *overrides)
    assert (load(FINETUNED, *overrides) != load(FINETUNED)) == (name != 'whole')


@pytest.mark.parametrize('name, variant', [('hotdog_resnet18_v2_book', 'whole'),
                                           ('hotdog_resnet18_v2_scratch_book', 'scratch')])
def test_the_books_own_run(name, variant):
    """2,000 images in batches of 128: 15 full ones and one of 80; nothing else differs from ours."""
    ours, book = variants()['hotdog', variant], load(ROOT / f'configs/finetune/{name}.yaml')
    assert (book.data.val_fraction, book.data.last_batch, ours.data.last_batch) == (0, 'keep', 'discard')
    rest = replace(book.data, val_fraction=ours.data.val_fraction, last_batch='discard')
    assert replace(book, data=rest) == ours
    images = data.ImageSet('train', [f'{i}.png' for i in range(2000)], np.zeros(2000, 'int64'))
    loader = run.build.loader_of(run.build.changed(book, {'data.workers': 0}), images, train=True)
    assert len(loader) == 16 and [len(batch) for batch in loader.order(0)] == [128] * 15 + [80]


def test_the_halves_of_the_comparison_see_the_same_images():
    found = variants()
    tuned, scratch = found['hotdog_tuned', 'tuned'], found['hotdog_tuned', 'tuned-scratch']
    assert tuned.data == scratch.data and (tuned.backbone.weights, scratch.backbone.weights) == ('zoo', 'none')
    assert tuned.data.train.color_jitter == 0.2 and scratch.train.schedule.warmup == 5


def test_print_config_gives_a_configuration_that_reads_back(capsys):
    assert cli.run(train.main, ['--cfg', str(FINETUNED), '--print-config']) == 0
    tree = yaml.safe_load(capsys.readouterr().out)
    method_options = type(load(FINETUNED).method.options)
    assert config.from_tree(tree, data.options, lambda name: method_options) == load(FINETUNED)


def commands():
    """Every command line of the tutorial and of the headers of its files."""
    text = (ROOT / 'docs/tutorials/hotdog.md').read_text('utf-8')
    for path in [FINETUNED, *STUDIES]:
        text += re.sub(r'(?m)^# ?', '', path.read_text('utf-8'))
    lines = text.replace('\\\n', ' ').splitlines()
    found = {line.strip() for line in lines if re.match(r'\s*python tools/(train|study)\.py ', line)}
    return sorted(found)


@pytest.mark.parametrize('command', commands())
def test_the_commands_are_accepted(command, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = shlex.split(command, comments=True)[1:]
    if words[0] == 'tools/study.py':
        assert cli.run(study.main, [*words[1:], '--plan', '--work-dir', str(tmp_path)]) == 0
    else:
        assert cli.run(train.main, [*words[1:], '--print-config']) == 0


def test_every_study_is_in_the_tutorial():
    text = (ROOT / 'docs/tutorials/hotdog.md').read_text('utf-8')
    assert len(STUDIES) == 7 and [path.name for path in STUDIES if path.name not in text] == []


# --- from end to end -------------------------------------------------------------------------

def tool(name, *words):
    """Run a tool as a user does; return what it prints."""
    done = subprocess.run([sys.executable, str(ROOT / f'tools/{name}.py'), *map(str, words)], cwd=ROOT,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.slow
def test_the_tutorial_from_training_to_prediction(tmp_path):
    hotdog_archive.write(tmp_path / 'data' / 'hotdog.zip', 60, 20, 56)
    folder = tmp_path / 'run'
    tool('train', '--cfg', FINETUNED, '--work-dir', folder, f"data.root={tmp_path / 'data'}", 'backbone.weights=none',
         'run.contexts=[cpu0]', 'data.train.random_resized_crop=48', 'data.train.scale=[0.5,1]',
         'data.eval.resize=[54,54]', 'data.eval.crop', 48, 'data.batch_size', 8, 'data.workers', 1, 'train.epochs', 2)
    trained = json.loads((folder / 'evaluation.json').read_text())
    assert trained['images'] == 40 and trained['chosen_by']['split'] == 'val' and trained['top1'] >= 0.75
    assert (folder / 'report.html').is_file() and json.loads((folder / 'classes.json').read_text())[0] == 'hotdog'

    assert 'test: top-1' in tool('evaluate', folder)
    again = json.loads((folder / 'evaluation.json').read_text())
    assert {**again, 'evaluated_at': trained['evaluated_at']} == trained
    assert len((folder / 'test_evaluations.jsonl').read_text().splitlines()) == 2  # neither is hidden

    assert 'exported to' in tool('export', folder)
    photographs = tmp_path / 'data' / 'hotdog' / 'test'
    predicted = {}
    for model in (folder, folder / 'export'):
        tool('predict', model, photographs, '--out', tmp_path / 'out', '--overwrite', '--format', 'json', '--no-sheet')
        images = json.loads(next((tmp_path / 'out').glob('*.json')).read_text())['images']
        predicted[model] = {image['path']: image['predictions'][0]['class'] for image in images}
    assert predicted[folder] == predicted[folder / 'export'] and len(predicted[folder]) == 40
    right = [os.path.basename(os.path.dirname(path)) == name for path, name in predicted[folder].items()]
    assert np.mean(right) == trained['top1']


# --- exercises -------------------------------------------------------------------------------

@pytest.fixture
def initial(tmp_path):
    path = tmp_path / 'initial.npz'
    np.savez(path, **hotdog_book.initial_parameters())
    return path


@pytest.fixture
def images(tmp_path):
    """The unpacked folder of a small archive, 22 + 22 training images of 64 px."""
    hotdog_archive.write(tmp_path / 'images' / 'hotdog.zip', 22, 6, 64, square=True)
    with zipfile.ZipFile(tmp_path / 'images' / 'hotdog.zip') as bundle:
        bundle.extractall(tmp_path / 'images')
    return tmp_path / 'images' / 'hotdog'


def fit_ours(cfg, initial, folder, order=None, normalize=None):
    """Train ``cfg`` from ``initial`` as tools/train.py does, but in a given order; return rows and parameters.

    The test split takes the place of validation, because the book looks at it after each epoch.
    """
    source = data.build(cfg.data)
    method, ours = run.build_method(cfg, len(source.classes), [mx.cpu()])
    values = np.load(initial)
    for name, parameter in method.net.body.collect_params().items():
        parameter.set_data(mx.nd.array(values[name]))
    method.net.classifier.weight.set_data(mx.nd.array(values[f'{hotdog_book.PREFIX}dense0_weight']))
    method.net.classifier.bias.set_data(mx.nd.array(values[f'{hotdog_book.PREFIX}dense0_bias']))
    order = np.arange(len(source.train)) if order is None else np.array(order)
    view, size = data.EvalTransform(cfg.data.eval), cfg.data.batch_size
    folder.mkdir()
    loaders = data.Loader(source.train, view, size, sampler=_Fixed(order)), data.Loader(source.test, view, size)
    fit(method, TrainingData(*loaders, normalize or ours, 2), cfg, Log(folder))
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    rows = [(r['train_loss'], r['train_top1'], r['val_top1']) for r in rows if r['kind'] == 'epoch']
    final = {parameter.name: parameter.data().asnumpy() for parameter in method.net.body.collect_params().values()}
    final[f'{hotdog_book.PREFIX}dense0_weight'] = method.net.classifier.weight.data().asnumpy()
    final[f'{hotdog_book.PREFIX}dense0_bias'] = method.net.classifier.bias.data().asnumpy()
    return method, rows, final


class _Fixed:
    """A sampler with the same order in every epoch."""

    def __init__(self, order):
        self.order = order

    def __len__(self):
        return len(self.order)

    def __call__(self, epoch):
        return self.order


SMALL = ('data.train={}', 'data.eval={}', 'data.batch_size=8', 'data.workers=0', 'data.val_fraction=0',
         'backbone.weights=none', 'run.contexts=[cpu0]')


@pytest.mark.parametrize('batch_norm', ['moving', 'fixed'])
def test_exercise_3_freezes_every_bit_of_the_body_on_the_cpu(images, initial, tmp_path, batch_norm):
    cfg = load(FINETUNED, 'method.cut=fc', *SMALL, 'train.epochs=1', f'data.root={images}',
               f'method.batch_norm={batch_norm}')
    method, _, final = fit_ours(cfg, initial, tmp_path / 'run')
    before = np.load(initial)
    changed = {name for name in final if final[name].tobytes() != before[name].tobytes()}
    assert changed == {f'{hotdog_book.PREFIX}dense0_{kind}' for kind in ('weight', 'bias')}
    # What the tutorial warns of: 'moving' trains the classifier on features that evaluation never sees.
    batch = mx.nd.random.normal(shape=(8, 3, 64, 64))
    predicted = method.net(batch).asnumpy()
    with autograd.record():
        trained_on = method.net(batch).asnumpy()
    assert np.allclose(predicted, trained_on, atol=1e-4) == (batch_norm == 'fixed')


def test_the_hotdog_row_is_934_in_the_order_of_the_weights():
    from gluoncv.data.imagenet.classification import ImageNet1kAttr
    from gluoncv.model_zoo import model_store as gluoncv_store
    from mxnet.gluon.model_zoo import model_store as gluon_store
    imagenet = ImageNet1kAttr()
    assert imagenet.classes.index('hotdog') == 934 and imagenet.classes[713] == 'photocopier'
    assert imagenet.synset == sorted(imagenet.synset)
    # The list is GluonCV's statement about its weights, and those of the book's network are the same file.
    assert gluon_store._model_sha1['resnet18_v2'] == gluoncv_store._model_sha1['resnet18_v2']


def test_exercise_4_starts_from_that_row(tmp_path):
    zoo = vision.resnet18_v2()
    zoo.initialize(mx.init.Xavier())
    zoo.output.bias.initialize(mx.init.Normal(), force_reinit=True)
    zoo(mx.nd.zeros((1, 3, 32, 32)))
    zoo.save_parameters(str(tmp_path / 'zoo.params'))
    method, _ = run.build_method(load(FINETUNED, 'method.init_from_imagenet={0: hotdog}',
                                      f'backbone.weights={tmp_path / "zoo.params"}'), 2,
                                 [mx.cpu()])
    ours, theirs = method.net.classifier, zoo.output
    for kind in ('weight', 'bias'):
        value, row = getattr(ours, kind).data().asnumpy(), getattr(theirs, kind).data().asnumpy()[934]
        assert (value[0] == row).all() and (value[1] != row).any()


# --- the book's loop -------------------------------------------------------------------------

def told_both(images, initial, count=44, epochs=2):
    """What both sides are told; 44 images are five batches and a half."""
    order = np.random.default_rng(0).permutation(44)[:count].tolist()
    return {'folder': str(images), 'initial': str(initial), 'order': order, 'batch_size': 8, 'epochs': epochs,
            'lr': 0.01, 'wd': 0.001}


def assert_ours_is(book_rows, book_values, settings, tmp_path, tolerance, hybridize=False):
    """Train with our loop what the book's has trained, in the configuration of the tutorial, and compare.

    Both are given the same pixels to the last bit, and the long comparison is not hybridized: a network this far
    from trained multiplies a difference of one rounding by a hundred at every step.
    """
    cfg = load(FINETUNED, *SMALL, f"train.epochs={settings['epochs']}", f"data.root={settings['folder']}",
               f'run.hybridize={str(hybridize).lower()}')
    _, rows, values = fit_ours(cfg, settings['initial'], tmp_path / 'ours', settings['order'], hotdog_book.pixels())
    np.testing.assert_allclose(rows, book_rows, rtol=tolerance)
    assert set(values) == set(book_values)
    before = np.load(settings['initial'])
    for name in values:
        np.testing.assert_allclose(values[name], book_values[name], rtol=tolerance, atol=tolerance, err_msg=name)
    moved = {name: np.abs(values[name] - before[name]).max() for name in values}
    # All have gone further than they may differ, but for the first BatchNorm: no gradient passes through it.
    assert [name for name, move in moved.items() if move <= tolerance] == [
        f'{hotdog_book.PREFIX}batchnorm0_{kind}' for kind in ('gamma', 'beta', 'running_mean', 'running_var')]


def test_our_loop_is_the_book_s_loop_written_anew(images, initial, tmp_path):
    settings = told_both(images, initial)
    assert_ours_is(*hotdog_book.train_plain(settings), settings, tmp_path, tolerance=1e-6)


def test_so_is_a_hybridized_step(images, initial, tmp_path):
    settings = told_both(images, initial, count=8, epochs=1)
    assert_ours_is(*hotdog_book.train_plain(settings), settings, tmp_path, tolerance=5e-6, hybridize=True)


def test_our_pixels_are_the_book_s(images):
    source = data.build(load(FINETUNED, *SMALL, f'data.root={images}').data)
    image = data.read_image(source.train.paths[0])
    ours = nn.Normalize(IMAGENET_MEAN, IMAGENET_STD)(mx.nd.array(image[None], dtype='uint8'))[0].asnumpy()
    book = gluon.data.vision.ImageFolderDataset(str(images / 'train'))
    assert book.synsets == list(source.classes) and [label for _, label in book.items] == source.train.labels.tolist()
    assert [path for path, _ in book.items] == source.train.paths
    np.testing.assert_allclose(ours, hotdog_book.pixels()(book[0][0]).asnumpy(), atol=1e-6)


@pytest.mark.tutorial
@pytest.mark.skipif(importlib.util.find_spec('d2l') is None, reason='needs the package d2l: make test-tutorial')
def test_our_loop_is_the_book_s_own(images, initial, tmp_path):
    settings = told_both(images, initial)
    (tmp_path / 'settings.json').write_text(json.dumps(settings))
    subprocess.run([sys.executable, str(ROOT / 'tests/hotdog_book.py'), str(tmp_path / 'settings.json'),
                    str(tmp_path / 'book.npz')], check=True)
    book = dict(np.load(tmp_path / 'book.npz'))
    assert_ours_is(book.pop('rows'), book, settings, tmp_path, tolerance=1e-6)

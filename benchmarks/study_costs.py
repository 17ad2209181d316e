"""What a training step of each variant of a study costs, or a prediction (``--predict``), against the first variant.

Variants take turns. A turn is a whole training by ``engine.fit``, all phases and epochs of the configuration, on a few
batches of noise an epoch; the first batch of an epoch warms up, loading and checkpoints are left out. Predictions are
of the network that is deployed, compiled.
"""
import tempfile
import time

import mxnet as mx
import numpy as np
from mxnet import autograd

from benchmarks.comparison import Comparison
from benchmarks.training_loop import TimedLog
from gluon_fgvc import config, data, runs
from gluon_fgvc.commands import cli
from gluon_fgvc.engine.fit import TrainingData, fit
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.parameters import compile_net
from gluon_fgvc.studies import plan_file


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--study', required=True, metavar='FILE', help='a study, e.g. studies/cub100.yaml')
    parser.add_argument('--variant', action='append', metavar='NAME',
                        help='a variant to measure, again for more, the baseline first; default: all')
    parser.add_argument('--predict', action='store_true', help='measure predictions in the place of training steps')
    parser.add_argument('--classes', type=cli.positive, default=100, metavar='K', help='default: %(default)s')
    parser.add_argument('--steps', type=cli.positive, default=3, metavar='N',
                        help='batches of an epoch, or of a turn of predictions, after one to warm up; '
                             'default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=3, metavar='N',
                        help='turns of each; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of the variants; ``options`` are those of :func:`add_options`."""
    study = plan_file.read(options.study)
    variants = study.named(options.variant) if options.variant else study.variants
    settings = {variant.name: runs.load_config(variant.config, config.parse_overrides(variant.overrides))
                for variant in variants}
    take_turn = _predictions if options.predict else _training
    seconds = {name: [] for name in settings}
    for _ in range(options.rounds):
        for name, cfg in settings.items():
            seconds[name].append(take_turn(cfg, options))
    return Comparison(settings={'study': study.name, 'what': 'prediction' if options.predict else 'training',
                                'batch': next(iter(settings.values())).data.batch_size, 'steps': options.steps},
                      unit='batch' if options.predict else 'step', seconds=seconds)


def _training(cfg, options):
    """Return the seconds of a step, the mean of all epochs."""
    method, normalize = runs.build_method(cfg, options.classes, runs.contexts_from(cfg.run.contexts))
    batches = _Batches(cfg, data.TrainTransform(cfg.data.train), options)
    with tempfile.TemporaryDirectory() as folder:
        fit(method, TrainingData(batches, None, normalize, options.classes), cfg, TimedLog(folder, batches.stop))
    return batches.seconds / options.steps / cfg.train.epochs


def _predictions(cfg, options):
    """Return the seconds of a batch."""
    method, normalize = runs.build_method(cfg, options.classes, runs.contexts_from(cfg.run.contexts))
    net = method.deployed()
    compile_net(net, True)
    batches = _Batches(cfg, data.EvalTransform(cfg.data.eval), options)
    with autograd.predict_mode():
        for batch in batches.epoch(0):
            net(normalize(batch.images)).wait_to_read()
    batches.stop()
    return batches.seconds / options.steps


class _Batches:
    """What ``fit`` takes for its loader: the same batch of noise again and again, and a clock beside it."""

    def __init__(self, cfg, transform, options):
        if transform.output_size is None:
            raise ConfigError('data: images keep shapes of their own; give a crop, or resize to [height, width]')
        shape = (cfg.data.batch_size, *transform.output_size, 3)
        rng = np.random.RandomState(0)
        labels = rng.randint(0, options.classes, cfg.data.batch_size)
        self._batch = data.Batch(mx.nd.array(rng.randint(0, 256, shape), dtype='uint8'), mx.nd.array(labels),
                                 np.arange(cfg.data.batch_size))
        self.image_set = data.ImageSet('train', [''] * len(labels), labels.astype('int64'))
        self.transform, self._steps, self.seconds = transform, options.steps, 0.0

    def __len__(self):
        return 1 + self._steps

    def epoch(self, epoch):
        yield self._batch
        mx.nd.waitall()
        self._started = time.perf_counter()
        for _ in range(self._steps):
            yield self._batch

    def stop(self):
        mx.nd.waitall()
        self.seconds += time.perf_counter() - self._started

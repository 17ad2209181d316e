"""Networks that tests of pruning cut channels out of."""
import mxnet as mx
import numpy as np
from mxnet import nd
from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as layers

from gluon_fgvc import backbones, nn


def classifier(name='mobilenetv2_0.25', seed=0, **kwargs):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = nn.Classifier(backbones.get(name, **kwargs), 3)
    net.classifier.initialize(mx.init.Xavier())
    return net


def images(count=2, side=64, seed=0):
    return nd.array(np.random.RandomState(seed).normal(size=(count, 3, side, side)))


def scatter_statistics(net, seed=0):
    rng = np.random.RandomState(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith(('running_mean', 'beta', 'bias')):
            parameter.set_data(nd.array(rng.uniform(-0.5, 1, parameter.shape)))
        elif name.endswith(('running_var', 'gamma')):
            parameter.set_data(nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
    return net


class Unpadded(HybridBlock):
    """Every kind of layer between prunable channels, without padding: constants are then exact at every pixel."""

    def __init__(self):
        super().__init__(prefix='unpadded_')
        with self.name_scope():
            self.first = layers.Conv2D(6, 3, in_channels=3)
            self.bn1 = layers.BatchNorm(in_channels=6)
            self.depthwise = layers.Conv2D(6, 3, groups=6, in_channels=6, use_bias=False)
            self.bn2 = layers.BatchNorm(in_channels=6, scale=False)
            self.second = layers.Conv2D(5, 3, in_channels=6, use_bias=False)
            self.bn3 = layers.BatchNorm(in_channels=5)
            self.third = layers.Conv2D(4, 3, in_channels=5)
            self.act = layers.LeakyReLU(0.1)

    def hybrid_forward(self, F, x):
        x = F.clip(F.relu(self.bn1(self.first(x))), 0, 6)
        x = F.Pooling(self.bn2(self.depthwise(x)), kernel=(2, 2), stride=(1, 1), pool_type='avg')
        x = self.act(self.bn3(self.second(x)))
        return self.third(x)


class Two(HybridBlock):
    """Two convolutions, an average and a classifier."""

    def __init__(self):
        super().__init__(prefix='two_')
        with self.name_scope():
            self.conv = layers.Conv2D(3, 1, in_channels=2, use_bias=False)
            self.next = layers.Conv2D(2, 1, in_channels=3, use_bias=False)

    def hybrid_forward(self, F, x):
        return F.mean(self.next(F.relu(self.conv(x))), axis=(2, 3))


def two():
    net = Two()
    net.initialize()
    net.conv.weight.set_data(nd.array([[1, -2], [0.5, 0.5], [3, 0]]).reshape((3, 2, 1, 1)))
    net.next.weight.set_data(nd.array([[1, 2, -1], [0, 1, 1]]).reshape((2, 3, 1, 1)))
    return net

"""Multiply-adds and parameters, by hand and against published figures."""
import mxnet as mx
import pytest
from mxnet import gluon
from mxnet.gluon import nn

from gluon_fgvc import backbones
from gluon_fgvc.nn import complexity


def test_layers_by_hand():
    net = nn.HybridSequential(prefix='net_')
    with net.name_scope():
        net.add(nn.Conv2D(8, 3, strides=2, padding=1, groups=2, in_channels=4), nn.BatchNorm(in_channels=8),
                nn.Dense(5, in_units=8 * 3 * 4))
    found = complexity.layers(net(mx.sym.var('data')), data=(2, 4, 6, 8))
    assert [(layer.name, layer.weight, layer.output, layer.multiply_adds) for layer in found] == [
        ('net_conv0_fwd', 'net_conv0_weight', (2, 8, 3, 4), 2 * 8 * 3 * 4 * (2 * 3 * 3)),
        ('net_dense0_fwd', 'net_dense0_weight', (2, 5), 2 * 5 * 96)]
    assert complexity.multiply_adds(net, 4, 6, 8) == 8 * 3 * 4 * 18 + 5 * 96
    assert complexity.parameters(net) == 8 * 18 + 8 + 8 + 8 + 96 * 5 + 5  # no running statistics


class Twice(gluon.HybridBlock):
    """One convolution, applied twice, to maps of two sizes; both are outputs."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 3, in_channels=3)

    def hybrid_forward(self, F, x):
        first = self.conv(x)
        return first, self.conv(first)


def test_a_shared_layer_counts_as_often_as_it_is_applied():
    net = Twice()
    assert complexity.multiply_adds(net, 3, 8, 8) == 3 * 27 * (6 * 6 + 4 * 4)
    assert complexity.parameters(net) == 3 * 27 + 3


# Parameters with a classifier: torchvision's and timm's model tables; those of the wide nets for CIFAR are the released
# code's of WARN (base: its table; the other: its WARN with 3 attention modules less what those have in WRN-28-10).
@pytest.mark.parametrize('name, classes, expected', [
    ('resnet18_v1b', 1000, 11_689_512), ('resnet50_v1b', 1000, 25_557_032), ('wide_resnet50_2', 1000, 68_883_240),
    ('densenet121', 1000, 7_978_856), ('mobilenetv2_1.0', 1000, 3_504_872), ('googlenet', 1000, 6_624_904),
    ('efficientnet_lite0', 1000, 4_652_008), ('efficientnet_lite1', 1000, 5_416_680),
    ('efficientnet_lite2', 1000, 6_092_072), ('cifar_wideresnet28_10', 10, 36_479_226),
    ('warn_wideresnet28_10', 10, 36_479_226), ('warn_wideresnet28_10_base', 10, 36_479_194),
    ('warn_wideresnet28_10_base', 100, 36_536_884),
    ('warn_wideresnet40_10', 10, 56_328_194 - (36_965_634 - 36_479_226))])
def test_parameters(name, classes, expected):
    net = backbones.build(name)
    assert complexity.parameters(net) + classes * (net.pool_units + 1) == expected


@pytest.mark.parametrize('name, side, expected', [
    ('resnet18_v1b', 224, 1.81), ('resnet50_v1b', 224, 4.09), ('wide_resnet50_2', 224, 11.40), ('vgg16', 224, 15.35),
    ('inceptionv3', 299, 5.71), ('densenet121', 224, 2.83), ('mobilenetv2_1.0', 224, 0.30),
    ('warn_wideresnet28_10_base', 32, 5.24), ('warn_wideresnet40_10', 32, 8.198 - (5.367 - 5.243))])
def test_billions_of_multiply_adds(name, side, expected):
    assert complexity.multiply_adds(backbones.build(name), 3, side, side) / 1e9 == pytest.approx(expected, abs=6e-3)

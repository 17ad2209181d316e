"""The five-convolution network for Cluttered Translated MNIST (Rodríguez et al., Attend and Rectify, ECCV 2018, 4.2).

Five 3×3 convolutions, BatchNorm and a 3×3 pool after each of the first three, two fully connected layers, the second
of which is a method's classifier. Widths, strides and padding are not in the paper: here convolutions keep the size,
pools of stride 2 halve it (40 → 20 → 10 → 5), and the last map is averaged before the first fully connected layer, so
that images of any size fit. A place of ``pool1`` sees 5×5 pixels, as the paper says of its fourth module.
"""
from mxnet import gluon
from mxnet.gluon import nn

from gluon_fgvc.backbones.base import Backbone

NAMES = ('cluttered_cnn',)
CHANNELS = 32, 64, 128, 128, 128
HIDDEN = 256


def build(name, global_pool):
    """Return (backbone, namings of weight files); the stages are pool1, pool2, pool3 and conv5.

    Under another pool than 'gap' the classifier is the only fully connected layer.
    """
    layers, before = [], 3
    with gluon.HybridBlock(prefix=f'{name}_').name_scope():
        for index, channels in enumerate(CHANNELS):
            pooled = index < 3
            layers.append([nn.Conv2D(channels, 3, padding=1, in_channels=before, use_bias=not pooled),
                           *([nn.BatchNorm(in_channels=channels)] if pooled else []), nn.Activation('relu'),
                           *([nn.MaxPool2D(3, 2, 1)] if pooled else [])])
            before = channels
        hidden = nn.Dense(HIDDEN, in_units=before, activation='relu')
    backbone = Backbone(name, [], [*layers[:3], layers[3] + layers[4]], mean=(0, 0, 0), std=(1, 1, 1),
                        global_pool=global_pool, stage_names=('pool1', 'pool2', 'pool3', 'conv5'))
    if global_pool == 'gap':
        backbone.pool.add(hidden)
        backbone.pool_units = HIDDEN
    return backbone, (backbone.naming(),)

"""EfficientNet-Lite0 to 2: EfficientNets without squeeze-excitation, with ReLU6 for swish.

Tan and Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019;
the Lite variants are TensorFlow's TPU repository's. There the stem, the last convolution and the number of
blocks in the first and last row of the table are not scaled; Lite1 is made for 240 px, Lite2 for 260 px.
"""
import math

from mxnet import gluon
from mxnet.gluon import nn

from gluon_fgvc.backbones.base import Backbone, Naming
from gluon_fgvc.nn.relu6 import relu6

# repeat, kernel, stride of the first, expansion, channels; the stem runs up to the first stage
_STEM = [(1, 3, 1, 1, 16)]
_STAGES = [[(2, 3, 2, 6, 24)],
           [(2, 5, 2, 6, 40)],
           [(3, 3, 2, 6, 80), (3, 5, 1, 6, 112)],
           [(4, 5, 2, 6, 192), (1, 3, 1, 6, 320)]]
# width, depth, side of the images in pixels
_SCALES = {'efficientnet_lite0': (1.0, 1.0, 224), 'efficientnet_lite1': (1.0, 1.1, 240),
           'efficientnet_lite2': (1.1, 1.2, 260)}
NAMES = tuple(_SCALES)
_MEAN, _STD = (127 / 255,) * 3, (128 / 255,) * 3


class Convolution(gluon.HybridBlock):
    """Convolution, BatchNorm and, unless ``linear``, ReLU6, with TensorFlow's 'same' padding.

    'same' pads at stride 2 an even side by kernel - 2, one pixel more after than before, and an odd one by
    kernel - 1. A compiled graph does not know its input's size, so this block pads at every size as it must at
    the one the network is made for, like the ``Conv2dStaticSamePadding`` of the PyTorch port the weights come
    from: ``odd`` is whether the side is odd there. So TensorFlow's rule holds at that size, and wherever sides
    are odd and even in the same places: for Lite0 at all multiples of 32. Elsewhere a map is moved by a pixel, or
    an odd side n gives (n - 1) / 2 instead of (n + 1) / 2 outputs. No input pixel is left out.
    """

    def __init__(self, channels, in_channels, kernel=1, stride=1, groups=1, linear=False, odd=False):
        super().__init__()
        self._linear = linear
        before = (kernel - 1) // 2 if odd else (kernel - 2) // 2
        after = kernel // 2
        self.pad = (before, after) if stride == 2 else None  # pixels before and after; surgery changes them
        with self.name_scope():
            self.conv = nn.Conv2D(channels, kernel, stride, padding=0 if self.pad else kernel // 2, groups=groups,
                                  use_bias=False, in_channels=in_channels)
            self.bn = nn.BatchNorm(momentum=0.99, epsilon=1e-3, in_channels=channels)

    def hybrid_forward(self, F, x):
        if self.pad:
            x = F.pad(x, mode='constant', pad_width=(0, 0, 0, 0, *self.pad, *self.pad))
        x = self.bn(self.conv(x))
        return x if self._linear else relu6(F, x)


class _Block(gluon.HybridBlock):
    """Inverted residual: expand, depthwise convolution, project; plus the input where shapes allow."""

    def __init__(self, channels, in_channels, kernel, stride, expansion, odd):
        super().__init__()
        middle = in_channels * expansion
        self._residual = stride == 1 and channels == in_channels
        with self.name_scope():
            self.expand = Convolution(middle, in_channels) if expansion > 1 else None
            self.depthwise = Convolution(middle, middle, kernel, stride, groups=middle, odd=odd)
            self.project = Convolution(channels, middle, linear=True)

    def hybrid_forward(self, F, x):
        out = self.expand(x) if self.expand else x
        out = self.project(self.depthwise(out))
        return x + out if self._residual else out


def _blocks(specification, in_channels, scale, side):
    (width, depth, _), blocks = scale, []
    for repeat, kernel, stride, expansion, channels in specification:
        channels = _scaled(channels, width)
        for index in range(math.ceil(repeat * depth) if repeat > 1 else 1):  # single blocks are the first and last row
            blocks.append(_Block(channels, in_channels, kernel, stride if index == 0 else 1, expansion, side % 2 == 1))
            in_channels = channels
    return blocks


def _scaled(channels, width):
    """The multiple of 8 nearest to ``width * channels`` that is no more than a tenth below it."""
    nearest = int(channels * width + 4) // 8 * 8
    return nearest if nearest >= 0.9 * channels * width else nearest + 8


def build(name, global_pool):
    """Return (backbone, namings of weight files); Lite0's channels are 24, 40, 112 and 1280."""
    scale = width, _, side = _SCALES[name]
    scope = gluon.HybridBlock(prefix=f'{name}_')  # gives the layers prefixes that do not depend on other nets
    with scope.name_scope():
        stem, side = [Convolution(32, 3, kernel=3, stride=2, odd=side % 2 == 1)], -(-side // 2)
        stem += _blocks(_STEM, 32, scale, side)
        stages, last_row = [], _STEM[-1]
        for specification in _STAGES:
            stages.append(_blocks(specification, _scaled(last_row[-1], width), scale, side))
            last_row, side = specification[-1], -(-side // 2)
        last = Convolution(1280, _scaled(last_row[-1], width))
    blocks = [*stem[1:], *(block for stage in stages for block in stage)]
    stages[-1].append(last)
    backbone = Backbone(name, stem, stages, _MEAN, _STD, global_pool)
    return backbone, (backbone.naming(), _torch_naming(stem[0], blocks, last))


def _torch_naming(first, blocks, last):
    names = {}

    def add(convolution, conv, bn):
        names[f'{conv}.weight'] = convolution.conv.weight
        for ours, theirs in (('gamma', 'weight'), ('beta', 'bias'), ('running_mean',) * 2, ('running_var',) * 2):
            names[f'{bn}.{theirs}'] = getattr(convolution.bn, ours)

    add(first, '_conv_stem', '_bn0')
    for index, block in enumerate(blocks):
        prefix = f'_blocks.{index}.'
        if block.expand:
            add(block.expand, prefix + '_expand_conv', prefix + '_bn0')
        add(block.depthwise, prefix + '_depthwise_conv', prefix + '_bn1')
        add(block.project, prefix + '_project_conv', prefix + '_bn2')
    add(last, '_conv_head', '_bn1')
    return Naming("the PyTorch port 'efficientnet_lite_pytorch'", names, ('_fc.weight', '_fc.bias'),
                  unused=r'.*\.num_batches_tracked')

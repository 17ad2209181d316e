"""Larger last maps: strides taken out of a backbone whose parameters stay as they are.

A layer that halves the resolution computes a quarter of the positions that it could. Without its stride it
computes them all, and whatever follows finds its inputs twice as far apart; where every later kernel is
spread by that factor (dilation, "à trous"), the map of before is every second pixel, each way, of the new one.
Chen et al., "DeepLab", TPAMI 2018, Sec. 3.1; Yu et al., "Dilated Residual Networks", CVPR 2017.

In inference that is exact but for rounding, at the border too, with two exceptions: averages over a whole map
(squeeze-excitation, split attention) have more pixels to average, and of a map with an odd side EfficientNet's
strided convolutions leave the last position out.
"""
import re

from mxnet.gluon import nn

from gluon_fgvc.backbones.efficientnet_lite import Convolution
from gluon_fgvc.errors import ConfigError

OUTPUT_STRIDES = (8, 16)
_SUITED = re.compile(r'(se_)?res(net|next|nest)|senet|wide_resnet|mobilenetv2|efficientnet_lite')


def set_output_stride(backbone, output_stride, dilate=True):
    """Take the strides out of the last stages of ``backbone``, so that its last map has stride ``output_stride``.

    :param backbone: a :class:`~gluon_fgvc.backbones.base.Backbone` not yet hybridized: a ResNet of any kind for
        ImageNet, a MobileNetV2 or an EfficientNet-Lite. Its ``strides`` change.
    :param output_stride: 8 or 16.
    :param dilate: whether what follows is spread (see above); without, receptive fields shrink.
    :raises ConfigError: if the family or the stride is another.
    """
    if output_stride not in OUTPUT_STRIDES:
        raise ConfigError(f"backbone.output_stride: {output_stride} is not one of "
                          f"{', '.join(map(str, OUTPUT_STRIDES))} or null")
    if not _SUITED.match(backbone.name):
        raise ConfigError(f"backbone.output_stride: '{backbone.name}' keeps its stride of {backbone.strides[-1]}; only "
                          'ResNets for ImageNet, MobileNetV2 and EfficientNet-Lite can change it')
    spread = 1  # pixels between neighbours of the map of before in the new one
    for stage_name, stride in zip(backbone.stage_names, backbone.strides):
        if stride > output_stride:
            for block in getattr(backbone, stage_name):
                spread = _take_stride(block, spread, dilate)
    backbone.infer_shapes()


def set_stage_strides(backbone, strides):
    """Let only those stages of ``backbone`` halve the resolution whose number in ``strides`` is 2.

    Nothing is spread: kernels see neighbours that are nearer than where their weights were trained, as in the released
    localisation net of TASN, a ResNet-18 of strides 1, 1, 2, 1.

    :param backbone: as for :func:`set_output_stride`.
    :param strides: 1 or 2 for each stage, 1 for the first.
    :raises ConfigError: if the family or the strides do not suit.
    """
    own = [1, *(after // before for before, after in zip(backbone.strides, backbone.strides[1:]))]
    wrong = len(strides) != len(own) or any(value not in (1, had) for value, had in zip(strides, own))
    if not _SUITED.match(backbone.name) or wrong:
        raise ConfigError(f"strides {list(strides)} do not suit '{backbone.name}', whose stages have {own}; each can "
                          'be 1 or stay, in ResNets for ImageNet, MobileNetV2 and EfficientNet-Lite')
    for stage_name, stride, had in zip(backbone.stage_names, strides, own):
        if stride < had:
            for block in getattr(backbone, stage_name):
                _take_stride(block, 1, dilate=False)
    backbone.infer_shapes()


def _take_stride(block, spread, dilate):
    """Spread the layers of ``block``, whose inputs are ``spread`` apart, and return how far apart its outputs are.

    No path through a block strides twice, so a layer with a stride sees the block's input whatever path it is on.
    """
    spread_behind = spread
    for parent, name, layer in list(_layers(block)):
        strided = max(layer._kwargs['stride']) > 1
        if strided and dilate:
            spread_behind = 2 * spread
        change = _spread_convolution if isinstance(layer, nn.Conv2D) else _spread_pool
        change(parent, name, layer, spread if strided else spread_behind)
    return spread_behind


def _layers(block, parent=None, name=None):
    """Yield (parent, its name for it, layer) of all layers with a window, in the order in which they were made."""
    if isinstance(block, (nn.Conv2D, nn.AvgPool2D)):
        yield parent, name, block
    else:
        for name, child in block._children.items():
            yield from _layers(child, block, name)


def _spread_convolution(parent, name, layer, spread):
    kernel = layer._kwargs['kernel']
    layer._kwargs.update(stride=(1, 1), dilate=tuple(spread if side > 1 else 1 for side in kernel),
                         pad=tuple(spread * side for side in layer._kwargs['pad']))
    if isinstance(parent, Convolution) and parent.pad:
        before = parent.pad[0]
        parent.pad = spread * before, spread * (kernel[0] - 1 - before)


def _spread_pool(parent, name, layer, spread):
    pool = _SpreadAvgPool2D(spread, layer._kwargs)
    if name in vars(parent):
        setattr(parent, name, pool)  # registers it as well
    else:
        parent._children[name] = pool


class _SpreadAvgPool2D(nn.AvgPool2D):
    """Averages over windows whose pixels are ``spread`` apart, one at each position of a map (N,C,H,W).

    :param settings: those of the pool with stride whose windows these are; its output is every ``spread``-th, or
        in the first strided layer every second, pixel of this one's.
    """

    def __init__(self, spread, settings):
        super().__init__(settings['kernel'], strides=1, padding=settings['pad'],
                         count_include_pad=settings['count_include_pad'])
        self._window, self._spread = settings['kernel'][0], spread
        self._before = settings['pad'][0] * spread
        self._after = (self._window - 1) * spread - self._before

    def hybrid_forward(self, F, x):
        sums = self._sums(F, x)
        if self._kwargs['count_include_pad']:
            return sums / self._window ** 2
        return F.broadcast_div(sums, self._sums(F, F.ones_like(F.slice_axis(x, axis=1, begin=0, end=1))))

    def _sums(self, F, x):
        x = F.pad(x, mode='constant', pad_width=(0, 0, 0, 0, *(self._before, self._after) * 2))
        for axis in (2, 3):
            shifts = [index * self._spread for index in range(self._window)]
            x = sum(F.slice_axis(x, axis=axis, begin=shift, end=shift - shifts[-1] or None) for shift in shifts)
        return x

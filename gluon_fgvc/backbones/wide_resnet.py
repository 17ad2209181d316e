"""Wide residual networks (Zagoruyko and Komodakis, BMVC 2016) that no Gluon zoo has.

``imagenet_net``: ResNets v1b whose 3×3 convolutions are twice as wide, torchvision's ``wide_resnet50_2``.

``build``: the CIFAR nets of WARN (Rodríguez et al., "Attend and Rectify", ECCV 2018) as its released code has
them. GluonCV's ``cifar_wideresnet`` differs: there the 1×1 convolution of a shortcut sees the BN-ReLU of the
block's input, here the raw input; and there BatchNorm stands before and behind the first convolution.
"""
import re

from mxnet import gluon
from mxnet.gluon import nn

from gluon_fgvc.backbones.base import Backbone, Naming
from gluon_fgvc.errors import ConfigError

# The attention modules stand on the first kind, with a BN-ReLU behind the first convolution (its 32 parameters are
# what the counts of the two differ by); the second, without, is what they are compared with.
NAMES = tuple(f'warn_wideresnet{size}{base}' for size in ('28_10', '40_10') for base in ('', '_base'))
_MEAN, _STD = (125.3 / 255, 123.0 / 255, 113.9 / 255), (63.0 / 255, 62.1 / 255, 66.7 / 255)


class _Block(gluon.HybridBlock):
    """BN-ReLU-conv twice, added to the raw input, or to its 1×1 convolution where the shape changes."""

    def __init__(self, channels, in_channels, stride):
        super().__init__()
        with self.name_scope():
            self.bn0 = nn.BatchNorm(in_channels=in_channels)
            self.conv0 = nn.Conv2D(channels, 3, stride, 1, use_bias=False, in_channels=in_channels)
            self.bn1 = nn.BatchNorm(in_channels=channels)
            self.conv1 = nn.Conv2D(channels, 3, 1, 1, use_bias=False, in_channels=channels)
            self.conv_reduce = (nn.Conv2D(channels, 1, stride, use_bias=False, in_channels=in_channels)
                                if channels != in_channels else None)
            self.dropout = None

    def hybrid_forward(self, F, x):
        out = F.relu(self.bn1(self.conv0(F.relu(self.bn0(x)))))
        out = self.conv1(self.dropout(out) if self.dropout else out)
        return out + (self.conv_reduce(x) if self.conv_reduce else x)


def build(name, global_pool):
    """Return (backbone, namings of weight files) of a net of WARN; the channels are 160, 320 and 640."""
    depth, width = map(int, re.search(r'(\d+)_(\d+)', name).groups())
    stages, in_channels = [], 16
    with gluon.HybridBlock(prefix=f'{name}_').name_scope():
        stem = [nn.Conv2D(16, 3, 1, 1, use_bias=False, in_channels=3)]
        if not name.endswith('_base'):
            stem += [nn.BatchNorm(in_channels=16), nn.Activation('relu')]
        for channels, stride in ((16 * width, 1), (32 * width, 2), (64 * width, 2)):
            blocks = []
            for index in range((depth - 4) // 6):
                blocks.append(_Block(channels, in_channels, stride if index == 0 else 1))
                in_channels = channels
            stages.append(blocks)
        closing = [nn.BatchNorm(in_channels=in_channels), nn.Activation('relu')]
    backbone = Backbone(name, stem, [*stages[:-1], stages[-1] + closing], _MEAN, _STD, global_pool)
    return backbone, (backbone.naming(), released_naming(backbone))


def set_dropout(backbone, rate):
    """Drop a share of the channels between the two convolutions of each block of ``backbone``, in training.

    Whole channels, as the released code does.

    :param backbone: one of ``NAMES``, not yet hybridized.
    :raises ConfigError: if it is another.
    """
    if backbone.name not in NAMES:
        raise ConfigError(f"backbone.dropout: '{backbone.name}' has no dropout within its blocks; only "
                          f"{', '.join(NAMES)} have")
    for stage in backbone.stage_names:
        for block in getattr(backbone, stage):
            if isinstance(block, _Block):
                block.dropout = nn.Dropout(rate, axes=(2, 3))


def released_naming(backbone):
    """The names of the released code, whose nets with and without attention differ in the last BatchNorm's."""
    stem, stages = list(backbone.stem), [list(getattr(backbone, stage)) for stage in backbone.stage_names]
    stages[-1], (last_bn, _) = stages[-1][:-2], stages[-1][-2:]
    blocks = {f'group_{group}.block_{index}.': block
              for group, stage in enumerate(stages) for index, block in enumerate(stage)}
    names, bns = {'conv0.weight': stem[0].weight}, {'bn' if len(stem) == 1 else 'bn_g2': last_bn}
    if len(stem) > 1:
        bns['bn0'] = stem[1]
    for prefix, block in blocks.items():
        bns[prefix + 'bn0'], bns[prefix + 'bn1'] = block.bn0, block.bn1
        for conv in ('conv0', 'conv1', 'conv_reduce'):
            if getattr(block, conv):
                names[f'{prefix}{conv}.weight'] = getattr(block, conv).weight
    for name, bn in bns.items():
        names.update({f'{name}.weight': bn.gamma, f'{name}.bias': bn.beta,
                      f'{name}.running_mean': bn.running_mean, f'{name}.running_var': bn.running_var})
    return Naming("WARN's released code", names, ('classifier.weight', 'classifier.bias'),
                  unused=r'(att\d|output_gate)\..*|.*\.num_batches_tracked', imagenet=False)


def imagenet_net(name):
    """Return ``wide_resnet50_2`` or ``wide_resnet101_2`` as GluonCV would build it."""
    from gluoncv.model_zoo.resnetv1b import BottleneckV1b, ResNetV1b

    class WideBottleneck(BottleneckV1b):
        def __init__(self, planes, *args, **kwargs):
            super().__init__(2 * planes, *args, **kwargs)
            self.conv3 = nn.Conv2D(4 * planes, kernel_size=1, use_bias=False)
            self.bn3 = nn.BatchNorm(in_channels=4 * planes)

    depth = re.search(r'\d+', name).group()
    return ResNetV1b(WideBottleneck, {'50': [3, 4, 6, 3], '101': [3, 4, 23, 3]}[depth])

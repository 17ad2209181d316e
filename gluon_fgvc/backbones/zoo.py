"""The image classification nets of the GluonCV and Gluon model zoos, regrouped into stem and stages.

The parameters are the zoo net's own, so files that were saved from a zoo net fit. All nets here apply their
layers one after the other; ``_divide`` follows the strides along that chain, and no family needs code of its
own. What stands behind the last map (pools, fully connected layers, classifier) gives way to the backbone's
pool; auxiliary classifiers are not built.

Where both zoos have a net, GluonCV's is built and its weights are fetched. It has the same parameters, so that
files of both fit, but for MobileNetV2: the Gluon zoo's first block has a 1×1 convolution that the paper's has not.
"""
import os
import re

from mxnet import gluon, sym
from mxnet.gluon import nn

from gluon_fgvc.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Backbone, Naming, strides_of
from gluon_fgvc.nn.relu6 import ReLU6

NAMES = (
    *(f'resnet{depth}_{version}' for depth in (18, 34, 50, 101, 152) for version in ('v1', 'v1b', 'v2')),
    *(f'resnet{depth}_v1{kind}' for depth in (50, 101, 152) for kind in 'cdes'),
    'wide_resnet50_2', 'wide_resnet101_2',
    *(f'{se}resnext{kind}' for se in ('', 'se_') for kind in ('50_32x4d', '101_32x4d', '101_64x4d', '101e_64x4d')),
    *(f'se_resnet{depth}_{version}' for depth in (18, 34, 50, 101, 152) for version in ('v1', 'v2')),
    'senet_154', 'senet_154e',
    *(f'resnest{depth}' for depth in (14, 26, 50, 101, 200, 269)),
    *(f'vgg{depth}{bn}' for depth in (11, 13, 16, 19) for bn in ('', '_bn')),
    *(f'densenet{depth}' for depth in (121, 161, 169, 201)),
    *(f'mobilenet{kind}{width}' for kind in ('', 'v2_') for width in ('1.0', '0.75', '0.5', '0.25')),
    'mobilenetv3_large', 'mobilenetv3_small',
    'inceptionv3', 'googlenet', 'squeezenet1.0', 'squeezenet1.1', 'alexnet',
    *(f'cifar_resnet{depth}_{version}' for depth in (20, 56, 110) for version in ('v1', 'v2')),
    *(f'cifar_wideresnet{size}' for size in ('16_10', '28_10', '40_8', '40_10')),
    'cifar_resnext29_32x4d', 'cifar_resnext29_16x64d',
)
# scripts/classification/cifar of GluonCV normalises so; the standard deviations are means over images, not over pixels.
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def build(name, global_pool):
    """Return (backbone, namings of weight files) of the zoo net ``name``."""
    with gluon.HybridBlock(prefix=f'{name}_').name_scope():  # names that do not depend on other nets
        net = _zoo_net(name)
    stem, stages, top = _divide(list(net.features if hasattr(net, 'features') else net._children.values()))
    mean, std = (_CIFAR_MEAN, _CIFAR_STD) if name.startswith('cifar_') else (IMAGENET_MEAN, IMAGENET_STD)
    backbone = Backbone(name, stem, stages, mean, std, global_pool)
    structural = net._collect_params_with_prefix()
    global_names = {parameter.name[len(net.prefix):]: parameter for parameter in structural.values()}
    classifier = _linear_classifier(net, top)
    return backbone, (backbone.naming(), _naming('the zoo net', structural, backbone, classifier),
                      _naming('the zoo net before MXNet 1.3', global_names, backbone, classifier))


def _zoo_net(name):
    from gluoncv import model_zoo
    if name.startswith('wide_resnet'):
        from gluon_fgvc.backbones import wide_resnet
        return wide_resnet.imagenet_net(name)
    if name == 'cifar_wideresnet40_10':
        return model_zoo.get_cifar_wide_resnet(40, 10, prefix='')
    fixed = re.match(r'resnet\d+_v1[b-s]|resnest|mobilenetv3', name)  # those choose a prefix themselves
    kwargs = {} if fixed else {'prefix': '', 'pretrained': False}
    net = model_zoo.get_model(name, **kwargs)
    if name.startswith('resnest'):
        net.apply(_without_drop_block)
    net.apply(_with_quick_relu6)
    return net


def _with_quick_relu6(block):
    """Let the ReLU6 of MobileNetV2 and V3, of which MXNet and GluonCV each have one, compute as ours does."""
    if type(block).__name__.lower() == 'relu6':
        block.__class__ = ReLU6


def _without_drop_block(block):
    """DropBlock's masks hold for images of 224 px only, and whether it drops is frozen when a net is compiled."""
    if getattr(block, 'dropblock_prob', 0):
        block.dropblock_prob = 0
        for name in [name for name in block._children if name.startswith('dropblock')]:
            del block._children[name]


def _divide(layers):
    """Return (stem, stages, top) for the ``layers`` that a net applies one after the other.

    A stage begins where the resolution halves, except that the layers up to the first such place and the pool
    behind it are the stem. In a net whose blocks work at the resolution of the image (CIFAR) they are stage 1.
    """
    end = next(index for index, layer in enumerate(layers) if _leads_out(layer))
    layers, top = layers[:end], layers[end:]
    while isinstance(layers[-1], nn.MaxPool2D):  # VGG and AlexNet
        top.insert(0, layers.pop())
    x, maps = sym.var('images'), []
    for layer in layers:
        x = layer(x)
        maps.append(x)
    strides = strides_of(sym.Group(maps))
    starts = [index for index in range(1, len(layers)) if strides[index] > strides[index - 1]]
    starts = [index for index in starts if any(map(_convolves, layers[:index]))]  # v2 nets begin with BatchNorm
    blocks = [index for index, layer in enumerate(layers) if len(layer._children) and not isinstance(layer, nn.Conv2D)]
    if blocks and strides[blocks[0]] == 1:
        starts.insert(0, blocks[0])
    if isinstance(layers[starts[0]], nn.MaxPool2D):
        starts[0] += 1
    groups = [layers[start:end] for start, end in zip([0, *starts], [*starts, len(layers)])]
    return groups[0], [_opened(group) for group in groups[1:]], top


def _leads_out(layer):
    """Whether ``layer``, or its first layer, is one that only stands before a classifier."""
    while type(layer) is nn.HybridSequential and len(layer):
        layer = layer[0]
    return isinstance(layer, (nn.GlobalAvgPool2D, nn.AvgPool2D, nn.Flatten, nn.Dropout, nn.Dense))


def _convolves(layer):
    return any(parameter.name.endswith('weight') for parameter in layer.collect_params().values())


def _opened(layers):
    """Put the blocks of a stage in the place of the sequence that holds them."""
    return [inner for layer in layers for inner in (layer if type(layer) is nn.HybridSequential else [layer])]


def _linear_classifier(net, top):
    """Return the classifier if it is linear on the average of the last map, else None.

    VGG, AlexNet and MobileNetV3 have further layers in between, SqueezeNet rectifies before it averages.
    """
    layers = []
    top = [*top, *(child for name, child in net._children.items() if name == 'output')]
    while top:
        layer = top.pop()
        layers.append(layer)
        top += layer._children.values()
    if any(isinstance(layer, (nn.Activation, nn.MaxPool2D)) for layer in layers):
        return None
    classifiers = {id(layer): layer for layer in layers if isinstance(layer, (nn.Dense, nn.Conv2D))}
    return next(iter(classifiers.values())) if len(classifiers) == 1 else None


def _naming(kind, names, backbone, classifier):
    """Divide the zoo net's ``names`` among backbone, classifier and what neither needs (VGG's fc6, fc7)."""
    kept = {parameter.name for parameter in backbone.collect_params().values()}
    top = {name: parameter.name for name, parameter in names.items() if parameter.name not in kept}
    pair = tuple(next((name for name in top if classifier and top[name] == f'{classifier.prefix}{part}'), '')
                 for part in ('weight', 'bias'))
    return Naming(kind, {name: parameter for name, parameter in names.items() if parameter.name in kept},
                  pair, unused='|'.join(re.escape(name) for name in top if name not in pair))


def store(name):
    """Return (file name without suffix, sha1, URL of its zip) of the zoo's weights of ``name``, or None."""
    from gluoncv.model_zoo import model_store
    sha1 = model_store._model_sha1.get(name)
    if sha1 is None:
        return None
    stem = f'{name}-{sha1[:8]}'
    repository = os.environ.get('MXNET_GLUON_REPO', model_store.apache_repo_url).rstrip('/') + '/'
    return stem, sha1, model_store._url_format.format(repo_url=repository, file_name=stem)

"""ResNets, VGGs and MobileNets of the Gluon and GluonCV model zoos, regrouped into stages.

The parameters are the zoo net's own, so files that were saved from a zoo net fit. The maps of the
four stages have the strides 4, 8, 16 and 32; VGG's, whose last pool gives way to the global one, 2,
4, 8 and 16.
"""
import os
import re

from mxnet.gluon import nn
from mxnet.gluon.model_zoo import model_store as gluon_store
from mxnet.gluon.model_zoo import vision

from gluon_fgvc.backbones.base import Backbone, Naming


def _resnet_v1(net):
    layers = list(net.features)  # conv, bn, relu, pool; four stages; pool
    return layers[:4], [list(stage) for stage in layers[4:8]], net.output


def _resnet_v2(net):
    layers = list(net.features)  # bn, conv, bn, relu, pool; four stages; bn, relu; pool, flatten
    stages = [list(stage) for stage in layers[5:9]]
    stages[-1] += layers[9:11]
    return layers[:5], stages, net.output


def _resnet_v1b(net):
    stages = [net.layer1, net.layer2, net.layer3, net.layer4]
    return [net.conv1, net.bn1, net.relu, net.maxpool], [list(stage) for stage in stages], net.fc


def _vgg(net):
    groups = [[]]
    for layer in net.features:
        if isinstance(layer, nn.MaxPool2D):
            groups.append([])
        groups[-1].append(layer)
    return groups[0], groups[1:-1], None  # the last group is pool5, fc6 and fc7


def _mobilenet_v2(net):
    layers = list(net.features)  # conv, bn, relu; 17 bottlenecks; conv, bn, relu; pool
    return layers[:4], [layers[4:6], layers[6:9], layers[9:16], layers[16:23]], net.output[0]


_REGROUP = {
    **{f'resnet{depth}_v1': _resnet_v1 for depth in (18, 34, 50, 101, 152)},
    **{f'resnet{depth}_v2': _resnet_v2 for depth in (18, 34, 50, 101, 152)},
    **{f'resnet{depth}_v1b': _resnet_v1b for depth in (18, 34, 50, 101, 152)},
    **{f'resnet{depth}_v1d': _resnet_v1b for depth in (50, 101, 152)},
    **{f'vgg{depth}{bn}': _vgg for depth in (11, 13, 16, 19) for bn in ('', '_bn')},
    **{f'mobilenetv2_{width}': _mobilenet_v2 for width in ('1.0', '0.75', '0.5', '0.25')},
}
NAMES = tuple(_REGROUP)


def _from_gluoncv(name):
    return _REGROUP[name] is _resnet_v1b


def _gluoncv_resnet(name, prefix):
    """GluonCV's own constructors differ in whether they let the prefix be chosen."""
    from gluoncv.model_zoo.resnetv1b import BasicBlockV1b, BottleneckV1b, ResNetV1b
    depth, version = name[len('resnet'):].split('_')
    block = BasicBlockV1b if depth in ('18', '34') else BottleneckV1b
    layers = {'18': [2, 2, 2, 2], '34': [3, 4, 6, 3], '50': [3, 4, 6, 3], '101': [3, 4, 23, 3], '152': [3, 8, 36, 3]}
    return ResNetV1b(block, layers[depth], deep_stem=version == 'v1d', avg_down=version == 'v1d', name_prefix=prefix)


def build(name, head):
    """Return (backbone, namings of weight files) of the zoo net ``name``."""
    prefix = f'{name}_'
    if _from_gluoncv(name):
        net = _gluoncv_resnet(name, prefix)
    else:
        net = vision.get_model(name, prefix=prefix)
    stem, stages, classifier = _REGROUP[name](net)
    backbone = Backbone(name, stem, stages, head=head)
    structural = net._collect_params_with_prefix()
    global_names = {parameter.name[len(prefix):]: parameter for parameter in structural.values()}
    return backbone, (backbone.naming(), _naming('the zoo net', structural, backbone, classifier),
                      _naming('the zoo net before MXNet 1.3', global_names, backbone, classifier))


def _naming(kind, names, backbone, classifier):
    """Divide the zoo net's ``names`` among backbone, classifier and what neither needs (VGG's fc6, fc7)."""
    kept = {parameter.name for parameter in backbone.collect_params().values()}
    top = {parameter.name: name for name, parameter in names.items() if parameter.name not in kept}
    pair = [top.pop(f'{classifier.prefix}{part}', '') for part in ('weight', 'bias')] if classifier else ['', '']
    return Naming(kind, {name: parameter for name, parameter in names.items() if parameter.name in kept},
                  tuple(pair), unused='|'.join(map(re.escape, top.values())))


def store(name):
    """Return (file name without suffix, sha1, URL of its zip) of the zoo's weights of ``name``."""
    if _from_gluoncv(name):
        from gluoncv.model_zoo import model_store
    else:
        model_store = gluon_store
    sha1 = model_store._model_sha1[name]
    stem = f'{name}-{sha1[:8]}'
    repository = os.environ.get('MXNET_GLUON_REPO', model_store.apache_repo_url).rstrip('/') + '/'
    return stem, sha1, model_store._url_format.format(repo_url=repository, file_name=stem)

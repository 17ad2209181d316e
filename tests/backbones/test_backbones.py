"""Every backbone: the stages it declares, and the same numbers hybridized, exported and as the zoo net."""
import re

import gluoncv
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon
from mxnet.gluon.model_zoo import model_store as gluon_store

from gluon_fgvc import backbones
from gluon_fgvc.backbones import zoo
from gluon_fgvc.errors import ConfigError, WeightsError

BASIC = ((64, 128, 256, 512), (4, 8, 16, 32))
BOTTLENECK = ((256, 512, 1024, 2048), (4, 8, 16, 32))
WIDE = ((160, 320, 640), (1, 2, 4))


def at_4_to_32(*channels):
    return channels, (4, 8, 16, 32)


DECLARED = {
    **{f'{se}resnet{depth}_{version}': BASIC for depth in (18, 34)
       for se, version in (('', 'v1'), ('', 'v1b'), ('', 'v2'), ('se_', 'v1'), ('se_', 'v2'))},
    **{f'{se}resnet{depth}_{version}': BOTTLENECK for depth in (50, 101, 152)
       for se, version in (*(('', f'v{version}') for version in ('1', '1b', '1c', '1d', '1e', '1s', '2')),
                           ('se_', 'v1'), ('se_', 'v2'))},
    **{f'{se}resnext{kind}': BOTTLENECK for se in ('', 'se_')
       for kind in ('50_32x4d', '101_32x4d', '101_64x4d', '101e_64x4d')},
    **{f'resnest{depth}': BOTTLENECK for depth in (14, 26, 50, 101, 200, 269)},
    **{name: BOTTLENECK for name in ('senet_154', 'senet_154e', 'wide_resnet50_2', 'wide_resnet101_2')},
    **{f'vgg{depth}{bn}': ((128, 256, 512, 512), (2, 4, 8, 16)) for depth in (11, 13, 16, 19) for bn in ('', '_bn')},
    'densenet121': at_4_to_32(256, 512, 1024, 1024),
    'densenet161': at_4_to_32(384, 768, 2112, 2208),
    'densenet169': at_4_to_32(256, 512, 1280, 1664),
    'densenet201': at_4_to_32(256, 512, 1792, 1920),
    'mobilenet1.0': at_4_to_32(128, 256, 512, 1024),
    'mobilenet0.75': at_4_to_32(96, 192, 384, 768),
    'mobilenet0.5': at_4_to_32(64, 128, 256, 512),
    'mobilenet0.25': at_4_to_32(32, 64, 128, 256),
    'mobilenetv2_1.0': at_4_to_32(24, 32, 96, 1280),
    'mobilenetv2_0.75': at_4_to_32(18, 24, 72, 1280),
    'mobilenetv2_0.5': at_4_to_32(12, 16, 48, 1280),
    'mobilenetv2_0.25': at_4_to_32(6, 8, 24, 1280),
    'mobilenetv3_large': at_4_to_32(24, 40, 112, 960),
    'mobilenetv3_small': at_4_to_32(16, 24, 48, 576),
    'efficientnet_lite0': at_4_to_32(24, 40, 112, 1280),
    'efficientnet_lite1': at_4_to_32(24, 40, 112, 1280),
    'efficientnet_lite2': at_4_to_32(24, 48, 120, 1280),
    'inceptionv3': at_4_to_32(192, 288, 768, 2048),
    'googlenet': at_4_to_32(192, 480, 832, 1024),
    'squeezenet1.0': ((256, 512, 512), (4, 8, 16)),
    'squeezenet1.1': ((128, 256, 512), (4, 8, 16)),
    'alexnet': ((192, 256), (8, 16)),
    **{f'cifar_resnet{depth}_{version}': ((16, 32, 64), (1, 2, 4))
       for depth in (20, 56, 110) for version in ('v1', 'v2')},
    **{f'cifar_resnext29_{kind}': ((256, 512, 1024), (1, 2, 4)) for kind in ('32x4d', '16x64d')},
    'cifar_wideresnet40_8': ((128, 256, 512), (1, 2, 4)),
    **{f'cifar_wideresnet{size}': WIDE for size in ('16_10', '28_10', '40_10')},
    **{f'warn_wideresnet{size}{base}': WIDE for size in ('28_10', '40_10') for base in ('', '_base')},
    'cluttered_cnn': ((32, 64, 128, 128), (2, 4, 8, 8)),  # more of it in test_cluttered_cnn.py
}
# One small net of each kind of block; those of another depth or width are slow tests.
QUICK = ['resnet18_v1', 'resnet18_v2', 'resnet50_v1d', 'se_resnet18_v2', 'resnest14', 'vgg11_bn', 'densenet121',
         'mobilenet0.25', 'mobilenetv2_0.25', 'mobilenetv3_small', 'efficientnet_lite0', 'googlenet', 'squeezenet1.1',
         'alexnet', 'cifar_resnet20_v1', 'cifar_resnet20_v2']
MORE = ['resnext50_32x4d', 'wide_resnet50_2', 'inceptionv3', 'mobilenetv2_1.0', 'efficientnet_lite2',
        'cifar_wideresnet16_10', 'warn_wideresnet28_10']


# Sides of the maps where convolutions and pools without padding cut something off, by hand, for two sides of the image.
UNPADDED = {
    'inceptionv3': {299: (71, 35, 17, 8), 224: (52, 25, 12, 5)},
    'alexnet': {224: (27, 13), 128: (15, 7)},
    'squeezenet1.0': {224: (54, 27, 13), 128: (30, 15, 7)},
    'squeezenet1.1': {224: (55, 27, 13), 128: (31, 15, 7)},
}


def names(quick=QUICK, of=DECLARED):
    """All backbones, those outside ``quick`` marked slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in of]


def images(*shape):
    return mx.nd.array(np.random.RandomState(0).standard_normal(shape))


def small(name, count=2):
    """Images of the least size that leaves something to see: 2×2 in the last map, 1×1 for Inception."""
    side = 75 if name == 'inceptionv3' else 64 if max(DECLARED[name][1]) > 4 else 8
    return images(count, 3, side, side)


def unsettle(net):
    """Give BatchNorm parameters and statistics that do something, as if the net had been trained.

    Small gammas, because sums of a hundred blocks that keep their inputs' size grow so large that squeeze-excitation
    only opens or shuts, and rounding decides which.
    """
    random, ranges = np.random.RandomState(1), {
        'running_mean': (-0.1, 0.1), 'running_var': (0.5, 1.5), 'gamma': (0.2, 0.6), 'beta': (-0.1, 0.1)}
    for name, parameter in net.collect_params().items():
        kind = next((kind for kind in ranges if name.endswith(kind)), None)
        if kind and (parameter.grad_req != 'null' or kind.startswith('running')):
            parameter.set_data(mx.nd.array(random.uniform(*ranges[kind], parameter.shape)))


def test_all_backbones_are_declared_here():
    assert backbones.available() == sorted(DECLARED)


@pytest.mark.parametrize('name', names(QUICK + MORE, [name for name in DECLARED if name != 'cluttered_cnn']))
def test_stages(name):
    backbone, (channels, strides) = backbones.get(name), DECLARED[name]
    assert (backbone.name, backbone.channels, backbone.strides) == (name, channels, strides)
    assert backbone.stage_names == tuple(f'stage{number}' for number in range(1, len(channels) + 1))
    assert backbone.source_classifier is None and backbone.pool_units == channels[-1]
    maps = mx.sym.Group(backbone.stage_maps(mx.sym.var('images')))
    regular = {side: tuple(side // stride for stride in strides) for side in (224, 96)}
    for side, sides in UNPADDED.get(name, regular).items():
        shapes = maps.infer_shape(images=(1, 3, side, side))[1]
        assert shapes == [(1, c, high, high) for c, high in zip(channels, sides)]

    x = small(name)
    maps, last = backbone.stage_maps(x), backbone(x)
    assert tuple(m.shape[1] for m in maps) == channels
    np.testing.assert_array_equal(last.asnumpy(), maps[-1].asnumpy())
    assert backbone.rectified[-1] == (last.min().asscalar() >= 0) == (not name.startswith('mobilenetv3'))
    for rectified, m in zip(backbone.rectified, backbone.rectified_maps(x)):
        assert rectified == (m.min().asscalar() >= 0)
    np.testing.assert_allclose(backbone.pool(last).asnumpy(), last.asnumpy().mean((2, 3)), rtol=1e-3, atol=1e-6)
    assert backbone.pool(last).shape == (2, backbone.pool_units)


@pytest.mark.parametrize('name', [
    'resnet18_v1b', 'resnet50_v1d', 'vgg11', 'mobilenetv2_0.25', 'efficientnet_lite0', 'googlenet', 'squeezenet1.0',
    'alexnet'])
def test_any_image_size_works(name):
    backbone = backbones.get(name)
    for height, width in ((97, 75), (64, 131)):
        x = images(2, 3, height, width)
        assert backbone.pool(backbone(x)).shape == (2, backbone.pool_units)


@pytest.mark.parametrize('name', names())
def test_hybridized_and_exported_equal_imperative(name, tmp_path):
    backbone, x = backbones.get(name), small(name)
    unsettle(backbone)
    expected = backbone(x).asnumpy()
    assert np.abs(expected).max() > 0
    backbone.hybridize(static_alloc=True, static_shape=True)
    hybrid = backbone(x).asnumpy()
    np.testing.assert_allclose(hybrid, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    backbone.export(str(tmp_path / 'net'))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    np.testing.assert_array_equal(imported(x).asnumpy(), hybrid)
    other = mx.nd.concat(x, x, dim=3)[:1]
    assert imported(other).shape == backbone(other).shape


@pytest.mark.parametrize('name', names())
def test_gradient_reaches_every_parameter(name):
    x, unreached = small(name, count=4), None
    for _ in range(3):  # the four hidden units of a squeeze-excitation may all be 0 for one draw of the weights
        backbone, without = backbones.get(name), set()
        unsettle(backbone)  # some nets begin with gamma 0, behind which nothing has a gradient
        backbone.hybridize()
        with autograd.record():
            vector = backbone.pool(backbone(x))
            loss = (vector * images(*vector.shape)).sum()
        loss.backward()
        for key, parameter in backbone._collect_params_with_prefix().items():
            if parameter.grad_req != 'null':
                gradient = parameter.grad().asnumpy()
                assert np.isfinite(gradient).all(), key
                if not np.any(gradient):
                    without.add(key)
        unreached = without if unreached is None else unreached & without
        if not unreached:
            return
    assert not unreached


# Where a zoo net needs images of one size, because its last pool has a fixed window.
NATIVE = {'inceptionv3': 299, 'googlenet': 224, 'squeezenet1.0': 224, 'squeezenet1.1': 224,
          **{f'densenet{depth}': 224 for depth in (121, 161, 169, 201)}}
# The Gluon zoo's MobileNetV2 has one 1×1 convolution more than the paper's and GluonCV's.
GLUON_ZOO = [name for name in zoo.NAMES if name in gluon_store._model_sha1 and not name.startswith('mobilenetv2')]
ZOO = [name for name in zoo.NAMES if not name.startswith('wide_resnet')]


def zoo_net(name):
    if name == 'cifar_wideresnet40_10':
        return gluoncv.model_zoo.get_cifar_wide_resnet(40, 10)
    return gluoncv.model_zoo.get_model(name, **({'pretrained': False} if 'resnext101e' in name else {}))


def last_map(net, x):
    """What a net without linear classifier computes before its last pool, or SqueezeNet's dropout."""
    ends = [index for index, layer in enumerate(net.features)
            if isinstance(layer, (gluon.nn.MaxPool2D, gluon.nn.GlobalAvgPool2D)) or index == len(net.features) - 1]
    end = ends[-1] if 'SqueezeNet' in type(net).__name__ else ends[-2]
    return net.features[:end](x)


def save_with_structure(net, path):
    net.save_parameters(path)


def save_as_before_1_3(net, path):
    net.collect_params().save(path, strip_prefix=net.prefix)


@pytest.mark.parametrize('name, save', [
    *((name, save_with_structure) for name in QUICK if name in ZOO and name not in ('densenet121', 'vgg11_bn')),
    *((name, save_as_before_1_3) for name in ('resnet18_v2', 'vgg11_bn', 'cifar_resnet20_v1')),
    *(pytest.param(name, save_with_structure, marks=pytest.mark.slow) for name in ZOO
      if name not in QUICK or name in ('densenet121', 'vgg11_bn')),
    *(pytest.param(name, save_as_before_1_3, marks=pytest.mark.slow) for name in ('resnet50_v1b', 'mobilenet0.25'))])
def test_with_its_weights_it_is_the_zoo_net(name, save, tmp_path):
    net, x = zoo_net(name), small(name, count=1)
    if name in NATIVE:
        x = images(1, 3, NATIVE[name], NATIVE[name])
    net.initialize(mx.init.Xavier())
    net(x)
    unsettle(net)
    save(net, str(tmp_path / 'zoo.params'))
    backbone = backbones.get(name, weights=str(tmp_path / 'zoo.params'))
    last = backbone(x)
    if name.startswith(('vgg', 'alexnet', 'squeezenet', 'mobilenetv3')):
        assert backbone.source_classifier is None
        expected, result = last_map(net, x).asnumpy(), last.asnumpy()
    else:
        weight, bias, classes = backbone.source_classifier
        assert weight.shape == (10 if name.startswith('cifar_') else 1000, backbone.pool_units)
        assert classes is None if name.startswith('cifar_') else classes[934] == 'hotdog'
        expected, result = net(x).asnumpy(), backbone.pool(last).asnumpy() @ weight.T + bias
    np.testing.assert_allclose(result, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize('name', names(['resnet50_v1', 'resnet18_v2', 'vgg11_bn', 'mobilenet0.25'], GLUON_ZOO))
def test_files_of_the_gluon_zoo_fit_as_well(name):
    _, namings = zoo.build(name, 'gap')
    for structural in (True, False):
        net = gluon.model_zoo.vision.get_model(name)
        net.infer_shape(mx.nd.zeros((1, 3, 299, 299) if name == 'inceptionv3' else (1, 3, 224, 224)))
        theirs = net._collect_params_with_prefix()
        if not structural:
            theirs = {parameter.name[len(net.prefix):]: parameter for parameter in theirs.values()}
        naming = namings[1 if structural else 2]
        assert naming.parameters.keys() <= theirs.keys()
        assert all(parameter.shape == theirs[key].shape for key, parameter in naming.parameters.items())
        assert all(re.fullmatch(naming.unused, key) for key in theirs.keys() - naming.parameters.keys()
                   if key not in naming.classifier)


def test_the_gluon_zoos_mobilenetv2_is_another_net(tmp_path):
    net = gluon.model_zoo.vision.get_model('mobilenetv2_0.25')
    net.initialize()
    net(images(1, 3, 32, 32))
    net.save_parameters(str(tmp_path / 'x.params'))
    with pytest.raises(WeightsError, match=r'5 unexpected: features.3.out.6.weight'):
        backbones.get('mobilenetv2_0.25', str(tmp_path / 'x.params'))


def test_parameter_names_are_structural_and_do_not_depend_on_other_nets():
    first, second = backbones.get('resnet50_v1b'), backbones.get('resnet50_v1b')
    assert 'stage4.0.conv1.weight' in first._collect_params_with_prefix()
    assert list(first.collect_params()) == list(second.collect_params())
    assert all(name.startswith('resnet50_v1b_') for name in first.collect_params())


def test_the_seed_decides_the_initial_weights():
    def draw(seed):
        mx.random.seed(seed)
        return backbones.get('efficientnet_lite0').stem[0].conv.weight.data().asnumpy()

    first = draw(3)
    np.testing.assert_array_equal(first, draw(3))
    assert np.any(first != draw(4))


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ConfigError, match="unknown backbone 'resnet50v1b'; did you mean 'resnet50_v1b'"):
        backbones.get('resnet50v1b')
    with pytest.raises(ConfigError, match="unknown name 'gapp'; did you mean 'gap'"):
        backbones.get('resnet18_v1', global_pool='gapp')

"""Strides taken out: with dilation the old map is every second, or fourth, pixel of the new one."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_fgvc import backbones, config, data, methods
from gluon_fgvc.backbones.surgery import _SpreadAvgPool2D
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs import build_method
from tests.backbones.test_backbones import images, names, unsettle

QUICK = ['resnet18_v1', 'resnet18_v2', 'resnet50_v1d', 'se_resnet18_v2', 'resnest14', 'mobilenetv2_0.25',
         'efficientnet_lite0']
FAMILIES = QUICK + ['resnet50_v1', 'resnet50_v1b', 'resnet50_v2', 'resnext50_32x4d', 'se_resnet50_v1',
                    'se_resnext50_32x4d', 'senet_154', 'senet_154e', 'wide_resnet50_2', 'efficientnet_lite2']


def without_attention(net):
    """Squeeze-excitation and split attention look at the average of a whole map; let them ignore what they see."""
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith(('.se.2.weight', '.fc2.weight')):
            parameter.set_data(mx.nd.zeros(parameter.shape))


def pair(name, output_stride, tmp_path, **kwargs):
    """The backbone and one of another stride with the same parameters, which pass through a file."""
    strided = backbones.get(name)
    unsettle(strided)
    without_attention(strided)
    strided.save_parameters(str(tmp_path / 'x.params'))
    return strided, backbones.get(name, str(tmp_path / 'x.params'), output_stride=output_stride, **kwargs)


@pytest.mark.parametrize('output_stride', [8, pytest.param(16, marks=pytest.mark.slow)])
@pytest.mark.parametrize('name', names(QUICK, FAMILIES))
def test_the_old_map_is_a_part_of_the_new_one(name, output_stride, tmp_path):
    strided, dense = pair(name, output_stride, tmp_path)
    assert dense.strides == (4, 8, output_stride, output_stride) and dense.channels == strided.channels
    x = images(1, 3, 96, 128) if name.startswith('efficientnet') else images(1, 3, 83, 110)
    steps = [old // new for old, new in zip(strided.strides, dense.strides)]
    for old, new, step in zip(strided.stage_maps(x), dense.stage_maps(x), steps):
        old = old.asnumpy()
        np.testing.assert_allclose(new.asnumpy()[:, :, ::step, ::step], old, rtol=1e-3, atol=1e-5 * np.abs(old).max())
    assert steps == {8: [1, 1, 2, 4], 16: [1, 1, 1, 2]}[output_stride]


@pytest.mark.parametrize('name', names(['mobilenetv2_0.25', 'efficientnet_lite0'], QUICK))
def test_without_dilation_only_the_strides_go(name, tmp_path):
    strided, dense = pair(name, 8, tmp_path, dilate=False)
    assert dense.strides == (4, 8, 8, 8)
    x = images(1, 3, 64, 64)
    assert dense(x).shape == (1, dense.channels[-1], 8, 8)
    np.testing.assert_array_equal(dense.stage_maps(x)[1].asnumpy(), strided.stage_maps(x)[1].asnumpy())
    assert {layer._kwargs['dilate'] for layer in convolutions(dense)} == {(1, 1)}


def convolutions(block):
    if isinstance(block, gluon.nn.Conv2D):
        return [block]
    return [layer for child in block._children.values() for layer in convolutions(child)]


def test_dilations_of_a_resnet():
    """Each first 3×3 convolution keeps the dilation of its input, the later ones have twice that."""
    dense = backbones.get('resnet18_v1b', output_stride=8)
    found = [[layer._kwargs['dilate'][0] for layer in convolutions(getattr(dense, stage_name))
              if layer._kwargs['kernel'] == (3, 3)] for stage_name in dense.stage_names]
    assert found == [[1, 1, 1, 1], [1, 1, 1, 1], [1, 2, 2, 2], [2, 4, 4, 4]]


@pytest.mark.parametrize('name', names(['resnet18_v2', 'resnest14'], QUICK))
def test_gradients_and_export(name, tmp_path):
    dense, x = backbones.get(name, output_stride=8), images(2, 3, 64, 64)
    unsettle(dense)
    dense.hybridize()
    with autograd.record():
        out = dense(x)
        loss = (out * images(*out.shape)).sum()
    loss.backward()
    for key, parameter in dense._collect_params_with_prefix().items():
        if parameter.grad_req != 'null':
            gradient = parameter.grad().asnumpy()
            assert np.isfinite(gradient).all() and np.any(gradient), key
    mx.nd.waitall()
    dense.export(str(tmp_path / 'net'))
    imported = gluon.SymbolBlock.imports(str(tmp_path / 'net-symbol.json'), ['data'], str(tmp_path / 'net-0000.params'))
    np.testing.assert_array_equal(imported(x).asnumpy(), dense(x).asnumpy())
    assert imported(images(1, 3, 96, 70)).shape == dense(images(1, 3, 96, 70)).shape


POOLS = {'v1d': dict(pool_size=2, strides=2, ceil_mode=True, count_include_pad=False),
         'ResNeSt': dict(pool_size=3, strides=2, padding=1)}


@pytest.mark.parametrize('sides', [(8, 12), (7, 9)])
@pytest.mark.parametrize('spread', [1, 2])
@pytest.mark.parametrize('kind', POOLS)
def test_the_pool_without_its_stride(kind, spread, sides):
    strided, x = gluon.nn.AvgPool2D(**POOLS[kind]), images(2, 3, *sides)
    dense = _SpreadAvgPool2D(spread, strided._kwargs)(x)
    assert dense.shape == x.shape
    np.testing.assert_allclose(dense[:, :, ::2 * spread, ::2 * spread].asnumpy(),
                               strided(x[:, :, ::spread, ::spread]).asnumpy(), rtol=1e-5, atol=1e-6)


def test_a_pool_by_hand():
    x = mx.nd.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]).reshape((1, 1, 3, 3))
    dense = _SpreadAvgPool2D(1, gluon.nn.AvgPool2D(2, 2, count_include_pad=False)._kwargs)(x)
    assert dense.asnumpy().tolist() == [[[[3, 4, 4.5], [6, 7, 7.5], [7.5, 8.5, 9]]]]  # windows down to the right


@pytest.mark.parametrize('name, stride', [
    ('vgg11', 16), ('mobilenetv3_small', 32), ('densenet121', 32), ('cifar_wideresnet16_10', 4),
    ('warn_wideresnet28_10', 4), ('cifar_resnext29_32x4d', 4)])
def test_other_families_keep_their_stride(name, stride):
    with pytest.raises(ConfigError, match=f"output_stride: '{name}' keeps its stride of {stride}; only ResNets"):
        backbones.get(name, output_stride=8)


def test_other_strides_are_refused():
    with pytest.raises(ConfigError, match='backbone.output_stride: 4 is not one of 8, 16 or null'):
        backbones.get('resnet18_v1', output_stride=4)


@pytest.mark.parametrize('keys, dilation', [
    ({}, None), ({'output_stride': 16}, 2), ({'output_stride': 16, 'dilate': False}, 1)])
def test_the_section_backbone_of_a_configuration(keys, dilation):
    cfg = config.from_tree({
        'data': {'name': 'image_folder', 'root': '.'},
        'backbone': {'name': 'mobilenetv2_0.25', 'weights': 'none', **keys}, 'method': {'name': 'finetune'},
        'train': {'epochs': 1, 'optimizer': {'name': 'sgd', 'lr': 0.1}}}, data.options, methods.options)
    method, _ = build_method(cfg, 3, [mx.cpu()])
    body = method.net.body
    assert body.strides == (4, 8, 16, 16 if keys else 32)
    if keys:
        assert convolutions(body.stage4[1])[1]._kwargs['dilate'] == (dilation, dilation)

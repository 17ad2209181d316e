"""Attention on convolutions: identity at 1, gradients, folding, on every kind of backbone."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd, sym
from mxnet.gluon import nn as gluon_nn

from gluon_fgvc import backbones, nn
from gluon_fgvc.engine import phases
from gluon_fgvc.methods.base import Phase

# ResNets with and without bias, depthwise and grouped convolutions, branches, squeeze-excitation, no BatchNorm.
NETS = ['resnet18_v1', 'resnet18_v1b', 'resnet18_v2', 'mobilenetv2_0.25', 'mobilenetv3_small', 'efficientnet_lite0',
        'squeezenet1.0', 'se_resnet18_v1', 'resnest14',
        *(pytest.param(name, marks=pytest.mark.slow)
          for name in ('resnet50_v1b', 'inceptionv3', 'densenet121', 'resnext50_32x4d'))]
each_form = pytest.mark.parametrize('form', ['in_out', 'out'])


def backbone(name='mobilenetv2_0.25', seed=0):
    mx.random.seed(seed)
    np.random.seed(seed)
    return backbones.get(name)


def images(count=2, side=96, seed=0):
    return nd.array(np.random.RandomState(seed).normal(size=(count, 3, side, side)))


def scatter(net, seed=1):
    """Move all attention weights away from 1."""
    rng = np.random.RandomState(seed)
    for conv in nn.attention_convolutions(net).values():
        conv.attention.set_data(nd.array(rng.uniform(0.5, 1.5, conv.attention.shape)))
    return net


@pytest.mark.parametrize('name, in_out, out', [
    ('resnet34_v1b', 2515136, 8512), ('resnet50_v1b', 13385920, 26560), ('resnet101_v1b', 23412928, 52672),
    ('inceptionv3', 9683552, 17216)])
def test_number_of_attention_weights_as_published(name, in_out, out):
    for form, expected in (('in_out', in_out), ('out', out)):
        net = nn.replace_convolutions(backbones.build(name), form)
        assert sum(np.prod(c.attention.shape) for c in nn.attention_convolutions(net).values()) == expected


@pytest.mark.parametrize('name', NETS)
def test_every_convolution_of_a_backbone_is_replaced_and_at_1_nothing_changes(name):
    net, x = backbone(name), images(1, 160 if name == 'inceptionv3' else 64)
    names, before = list(net._collect_params_with_prefix()), net(x).asnumpy()
    operators = net(sym.var('data')).tojson().count('"op": "Convolution"')
    nn.replace_convolutions(net, 'in_out')
    assert len(nn.attention_convolutions(net)) == operators > 5
    np.testing.assert_array_equal(net(x).asnumpy(), before)
    after = net._collect_params_with_prefix()
    assert [key for key in after if not key.endswith('.attention')] == names
    assert sum(key.endswith('.attention') for key in after) == operators
    net.hybridize(static_alloc=True, static_shape=True)
    np.testing.assert_allclose(net(x).asnumpy(), before, rtol=1e-4, atol=1e-5)
    net.hybridize(False)
    scatter(net)
    changed = net(x).asnumpy()
    assert not np.allclose(changed, before, rtol=1e-2)
    nn.fold_attention(net)
    assert list(net._collect_params_with_prefix()) == names and not nn.attention_convolutions(net)
    np.testing.assert_array_equal(net(x).asnumpy(), changed)


def by_loops(x, weight, attention, bias, stride, pad, dilation, groups):
    """The convolution of a scaled filter as nested loops."""
    weight = weight * attention
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    outputs, inputs, kernel, _ = weight.shape
    reach = dilation * (kernel - 1) + 1
    high, wide = ((side - reach) // stride + 1 for side in x.shape[2:])
    y = np.zeros((len(x), outputs, high, wide))
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for i in range(high):
            for j in range(wide):
                window = x[:, first:first + inputs, i * stride:i * stride + reach:dilation,
                           j * stride:j * stride + reach:dilation]
                y[:, o, i, j] = (window * weight[o]).sum(axis=(1, 2, 3)) + bias[o]
    return y


@each_form
@pytest.mark.parametrize('stride, pad, dilation, groups', [(1, 1, 1, 1), (2, 0, 1, 2), (1, 2, 2, 4), (1, 1, 1, 2)])
def test_against_loops_and_numeric_gradients(form, stride, pad, dilation, groups):
    rng = np.random.RandomState(0)
    conv = nn.AttentionConv2D(8, 3, stride, pad, dilation, groups, in_channels=4, form=form)
    conv.initialize()
    values = {name: rng.normal(size=parameter.shape) for name, parameter in conv._reg_params.items()}
    for name, parameter in conv._reg_params.items():
        parameter.set_data(nd.array(values[name]))
    x, direction = rng.normal(size=(2, 4, 6, 7)), None

    def loss(**changed):
        settings = {**values, **changed}
        return (by_loops(x, settings['weight'], settings['attention'], settings['bias'], stride, pad, dilation, groups)
                * direction).sum()

    with autograd.record():
        y = conv(nd.array(x))
    expected = by_loops(x, *(values[name] for name in ('weight', 'attention', 'bias')), stride, pad, dilation, groups)
    np.testing.assert_allclose(y.asnumpy(), expected, rtol=1e-4, atol=1e-4)
    direction = rng.normal(size=expected.shape)
    y.backward(nd.array(direction))
    for name in ('attention', 'weight'):
        for index in rng.permutation(values[name].size)[:3]:
            moved = [values[name].copy() for _ in range(2)]
            for array, step in zip(moved, (1e-4, -1e-4)):
                array.flat[index] += step
            slope = (loss(**{name: moved[0]}) - loss(**{name: moved[1]})) / 2e-4
            assert conv._reg_params[name].grad().asnumpy().flat[index] == pytest.approx(slope, rel=1e-3, abs=1e-3)


def test_shapes_and_what_it_refuses():
    make = dict(in_channels=6, groups=2)
    assert nn.AttentionConv2D(4, 3, **make).attention.shape == (4, 3, 1, 1)
    assert nn.AttentionConv2D(4, 3, form='out', **make).attention.shape == (4, 1, 1, 1)
    assert nn.AttentionConv2D(4, 3, **make).attention.wd_mult == 0
    for settings, message in (({'form': 'in'}, "form 'in' is none of in_out, out"),
                              ({'in_channels': 0}, 'must be given'), ({'layout': 'NHWC'}, 'must be NCHW')):
        with pytest.raises(ValueError, match=message):
            nn.AttentionConv2D(4, 3, **{'in_channels': 6, **settings})
    net = gluon_nn.HybridSequential()
    net.add(gluon_nn.Dense(2))
    with pytest.raises(ValueError, match='no convolution'):
        nn.replace_convolutions(net)
    net.add(gluon_nn.Conv2D(2, 3))
    with pytest.raises(ValueError, match='not known yet'):
        nn.replace_convolutions(net)
    net = backbone()
    with pytest.raises(ValueError, match='has attention weights already'):
        nn.replace_convolutions(nn.replace_convolutions(net))


def test_a_shared_convolution_stays_one_and_keeps_its_activation():
    net, conv = gluon_nn.HybridSequential(), gluon_nn.Conv2D(3, 3, padding=1, in_channels=3, activation='relu')
    net.add(conv, gluon_nn.Activation('tanh'), conv)
    net.initialize(mx.init.Xavier())
    x = images(1, 8)
    before = net(x).asnumpy()
    nn.replace_convolutions(net, 'out')
    assert net[0] is net[2] and len(nn.attention_convolutions(net)) == 1
    np.testing.assert_array_equal(net(x).asnumpy(), before)
    changed = scatter(net)(x).asnumpy()
    assert (changed >= 0).all() and (changed != before).any()
    nn.fold_attention(net)
    np.testing.assert_array_equal(net(x).asnumpy(), changed)  # multiplied once, not twice


@pytest.mark.parametrize('name', ['mobilenetv2_0.25', 'resnet18_v1', 'resnet18_v2', 'squeezenet1.0', 'se_resnet18_v1'])
def test_attention_in_batch_norm_has_the_same_values_and_gradients(name):
    """Convolutions with and without bias, with BatchNorm behind them and without; gamma that is held at 1."""
    net = nn.Classifier(scatter(nn.replace_convolutions(backbone(name), 'out')), 3)
    net.classifier.initialize(mx.init.Xavier())
    rng = np.random.RandomState(2)
    for key, parameter in net._collect_params_with_prefix().items():
        if key.endswith(('running_mean', 'running_var', 'beta', 'gamma')):
            parameter.set_data(parameter.data() + nd.array(rng.uniform(0, 0.3, parameter.shape)))
    phases.enter(Phase('A', 1, r'.*\.attention', batch_norm='fixed'), net, hybridize=False)
    quick = nn.attention_in_batch_norm(net)
    x, direction = images(2, 64), nd.array(rng.normal(size=(2, 3)))
    found = []
    for block, static in ((net, False), (quick, False), (quick, True)):
        block.hybridize(static, static_alloc=True)
        with autograd.record():
            scores = block(x)
        scores.backward(direction)
        found.append([scores.asnumpy()] + [conv.attention.grad().asnumpy()
                                           for conv in nn.attention_convolutions(net).values()])
    for plain, *others in zip(*found):
        for other in others:
            np.testing.assert_allclose(other, plain, rtol=2e-3, atol=2e-4 * np.abs(plain).max())
    assert all('zero_mean' in key for key in set(quick.collect_params()) ^ set(net.collect_params()))
    if name == 'mobilenetv2_0.25':  # BatchNorm behind each convolution: no map and no filter is scaled
        assert 'broadcast_mul' not in quick(sym.var('data')).tojson()


def test_attention_in_batch_norm_is_for_output_channels_only():
    assert nn.attention_in_batch_norm(backbone()) is None
    assert nn.attention_in_batch_norm(nn.replace_convolutions(backbone(), 'in_out')) is None

"""The attention module against the released code's numbers, the equations written out, and by hand."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import HybridBlock

from gluon_fgvc import nn
from gluon_fgvc.nn.attend_rectify import combine, mask_overlap

FILES = Path(__file__).with_name('files')
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


class Literal(HybridBlock):
    """Eq. 1 to 5 as they are written, each convolution over the whole map."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, features):
        F = mx.sym if isinstance(features, mx.sym.Symbol) else nd
        weights = {name: p.var() if F is mx.sym else p.data() for name, p in self.module._reg_params.items()}
        heads, classes = self.module.heads, self.module.num_classes

        def convolve(name, channels):
            maps = F.Convolution(features, weights[name], kernel=(3, 3), pad=(1, 1), num_filter=channels, no_bias=True)
            return F.reshape(maps, (0, heads, channels // heads, -1))                     # (N,K,·,hw)

        logits = convolve('attention_weight', heads)
        masks = F.softmax(logits, axis=3) if self.module.mask == 'softmax' else F.sigmoid(logits)
        reduce = F.sum if self.module.mask == 'softmax' else F.mean
        outputs = reduce(F.broadcast_mul(convolve('output_weight', heads * classes), masks), axis=3)  # (N,K,L)
        if 'gate_weight' not in weights:
            return F.mean(outputs, axis=1)
        scores = reduce(F.broadcast_mul(convolve('gate_weight', heads), masks), axis=3)   # (N,K,1)
        return F.sum(F.broadcast_mul(outputs, F.softmax(F.tanh(scores), axis=1)), axis=1)


def module(*sizes, dtype='float64', **kwargs):
    mx.random.seed(0)
    block = nn.AttendRectify(*sizes, **kwargs)
    block.initialize()
    block.cast(dtype)
    return block


def features(*shape, dtype='float64', seed=0):
    return nd.array(np.random.RandomState(seed).standard_normal(shape), dtype=dtype)


def gradients(block, x, loss):
    """Return the loss and dict of name → gradient, with the input's as 'x'."""
    x.attach_grad()
    with autograd.record():
        value = loss(*block(x)) if not isinstance(block, Literal) else loss(block(x), None)
    value.backward()
    found = {name: parameter.grad().asnumpy() for name, parameter in block.collect_params().items()}
    return value.asscalar(), {'x': x.grad.asnumpy(), **{name.split('_', 1)[1]: g for name, g in found.items()}}


@each_way
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_released_numbers(hybridized, dtype):
    vector = np.load(FILES / 'attention_module_k3.npz')
    block = module(8, 5, 3, dtype=dtype, prefix='att_')
    for name, key in (('attention_weight', 'W_att'), ('output_weight', 'W_out'), ('gate_weight', 'W_score')):
        getattr(block, name).set_data(nd.array(vector[key], dtype=dtype))
    block.hybridize(hybridized, static_alloc=hybridized)
    x = nd.array(vector['x'], dtype=dtype)
    scores, masks = block(x)
    close = {'rtol': 0, 'atol': 1e-5 if dtype == 'float32' else 1e-12}
    np.testing.assert_allclose(masks.asnumpy(), vector['mask'], **close)
    np.testing.assert_allclose(scores.asnumpy(), vector['output'], **close)
    np.testing.assert_allclose(block.gate_values(x).asnumpy(), vector['head_gates'], **close)
    np.testing.assert_allclose(mask_overlap(masks).asnumpy(), vector['reg_loss_unweighted'].reshape(1), **close)

    target, weight = nd.array(vector['target']), float(vector['reg_w'])
    loss, found = gradients(block, x, lambda scores, masks: (
        -nd.pick(nd.log_softmax(scores), target).mean() + weight * mask_overlap(masks)))
    np.testing.assert_allclose(loss, vector['loss'], **close)
    keys = {'x': 'x', 'attention_weight': 'W_att', 'output_weight': 'W_out', 'gate_weight': 'W_score'}
    for name, key in keys.items():
        np.testing.assert_allclose(found[name], vector[f'grad_{key}'], err_msg=name, **close)


@pytest.mark.parametrize('size', [(1, 1), (1, 5), (4, 3), (7, 7)])
@pytest.mark.parametrize('mask', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('heads, gates', [(1, True), (4, True), (3, False)])
def test_averaging_first_changes_nothing(size, mask, heads, gates):
    block, x = module(6, 5, heads, mask=mask, gates=gates, prefix='att_'), features(2, 6, *size)
    weights = features(2, 5, seed=1)
    block.hybridize()
    ours = gradients(block, x, lambda scores, masks: (scores * weights).sum())
    literal = gradients(Literal(block), x, lambda scores, masks: (scores * weights).sum())
    assert ours[0] == pytest.approx(literal[0], abs=1e-11) and ours[1].keys() == literal[1].keys()
    for name, expected in literal[1].items():
        np.testing.assert_allclose(ours[1][name], expected, rtol=1e-9, atol=1e-11, err_msg=name)


def test_numeric_gradients():
    block, x = module(3, 2, 2, prefix='att_'), features(1, 3, 3, 4)
    weights = features(1, 2, seed=1)

    def loss(scores, masks):
        return (scores * weights).sum() + 100 * mask_overlap(masks).sum()

    _, found = gradients(block, x, loss)
    arrays = {'x': x, **{name.split('_', 1)[1]: p.data() for name, p in block.collect_params().items()}}
    random = np.random.RandomState(2)
    for name, array in arrays.items():
        direction = nd.array(random.standard_normal(array.shape), dtype='float64')
        values = []
        for step in (1e-5, -2e-5):
            array += step * direction
            values.append(loss(*block(x)).asscalar())
        array += 1e-5 * direction
        slope = (found[name] * direction.asnumpy()).sum()
        assert (values[0] - values[1]) / 2e-5 == pytest.approx(slope, rel=1e-6, abs=1e-8), name


def test_one_head_has_a_gate_of_one():
    block, x = module(4, 3, 1), features(2, 4, 5, 5)
    np.testing.assert_array_equal(block.gate_values(x).asnumpy(), np.ones((2, 1)))
    ungated = nn.AttendRectify(4, 3, 1, gates=False)
    ungated.initialize()
    ungated.cast('float64')
    for name in ungated._reg_params:
        getattr(ungated, name).set_data(getattr(block, name).data())
    np.testing.assert_allclose(ungated(x)[0].asnumpy(), block(x)[0].asnumpy(), atol=1e-12)


def test_equal_heads_give_what_one_gives():
    block, x = module(4, 3, 2), features(2, 4, 5, 6)
    for parameter in block._reg_params.values():
        half = parameter.data()[:parameter.shape[0] // 2]
        parameter.set_data(nd.concat(half, half, dim=0))
    one = module(4, 3, 1)
    for name, parameter in one._reg_params.items():
        parameter.set_data(getattr(block, name).data()[:parameter.shape[0]])
    np.testing.assert_allclose(block(x)[0].asnumpy(), one(x)[0].asnumpy(), atol=1e-12)
    np.testing.assert_allclose(block.gate_values(x).asnumpy(), 0.5, atol=1e-12)


def test_zero_attention_averages_the_map():
    block, x = module(4, 3, 2, gates=False), features(2, 4, 5, 6)
    block.attention_weight.set_data(nd.zeros_like(block.attention_weight.data()))
    scores, masks = block(x)
    np.testing.assert_allclose(masks.asnumpy(), 1 / 30, atol=1e-15)
    maps = nd.Convolution(x, block.output_weight.data(), kernel=(3, 3), pad=(1, 1), num_filter=6, no_bias=True)
    np.testing.assert_allclose(scores.asnumpy(), maps.asnumpy().mean((2, 3)).reshape(2, 2, 3).mean(1), atol=1e-12)


def test_masks():
    x = features(2, 4, 5, 6)
    softmax, sigmoid = (module(4, 3, 2, mask=mask)(x)[1].asnumpy() for mask in ('softmax', 'sigmoid'))
    np.testing.assert_allclose(softmax.sum((2, 3)), 1, atol=1e-12)
    assert (softmax > 0).all() and (sigmoid > 0).all() and (sigmoid < 1).all()
    ratio = sigmoid / (1 - sigmoid) / softmax  # both come from the same logits
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:, :, :1, :1], ratio.shape), rtol=1e-9)


def test_scores_do_not_grow_with_the_map_under_sigmoid_masks():
    """Tiled features have the same average, but for the zeros around the map; a sum would be sixteen times as large."""
    block, x = module(4, 3, 2, mask='sigmoid', gates=False), features(2, 4, 8, 8)
    small, large = (block(nd.tile(x, (1, 1, times, times)))[0].asnumpy() for times in (1, 4))
    assert 0.5 < np.linalg.norm(large) / np.linalg.norm(small) < 2


def test_overlap_by_hand():
    masks = np.zeros((1, 3, 2, 5))
    masks[0, 0, :, :2], masks[0, 1, :, 2:4] = 1, 1   # heads 0 and 1 do not meet
    masks[0, 2, 0, 0] = 4                            # head 2 has a mean of 1 in the first cell
    masks[:, :, :, 4] = 100                          # the odd column is left out
    np.testing.assert_allclose(mask_overlap(nd.array(masks)).asnumpy(), [2 * 1 / 9])
    one_row = nd.array([[[[1, 2]], [[3, 4]]]])
    np.testing.assert_allclose(mask_overlap(one_row).asnumpy(), [2 * (1 * 3 + 2 * 4) ** 2 / 4])
    assert mask_overlap(nd.ones((2, 1, 4, 4))).asscalar() == 0


@pytest.mark.parametrize('arguments, says', [
    ({'mask': 'softmin'}, "mask 'softmin' is not 'softmax' or 'sigmoid'"), ({'heads': 0}, 'heads 0 is not at least 1')])
def test_wrong_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        nn.AttendRectify(**{'in_channels': 4, 'num_classes': 3, 'heads': 2, **arguments})


# --- gates -----------------------------------------------------------------------------------

def global_gates(*sizes, **kwargs):
    mx.random.seed(0)
    block = nn.GlobalGates(*sizes, **kwargs)
    block.initialize()
    return block


@each_way
@pytest.mark.parametrize('activation', ['softmax', 'sigmoid'])
@pytest.mark.parametrize('norm', [True, False])
def test_global_gates_by_a_second_computation(hybridized, activation, norm):
    block, maps = global_gates(4, 3, activation=activation, norm=norm), features(5, 4, 2, 3, dtype='float32')
    block.hybridize(hybridized)
    with autograd.train_mode():
        gates = block(maps).asnumpy()
    c = maps.asnumpy().mean((2, 3)) @ block.gates.weight.data().asnumpy().T
    if norm:
        c = (c - c.mean(0)) / np.sqrt(c.var(0) + 1e-5)
    c = np.tanh(c)
    shares = np.exp(c) if activation == 'softmax' else 1 / (1 + np.exp(-c))
    expected = shares / (shares.sum(1, keepdims=True) + (1e-6 if activation == 'sigmoid' else 0))
    np.testing.assert_allclose(gates, expected, rtol=1e-4, atol=1e-5)
    with autograd.predict_mode():
        np.testing.assert_allclose(block(maps).asnumpy(), block(maps.mean((2, 3))).asnumpy(), atol=1e-6)


@pytest.mark.parametrize('space', ['log_probs', 'logits', 'probs'])
def test_one_open_gate_leaves_that_output(space):
    """Eq. 8: with the classifier's gate at one and the others at zero the network is the one without attention."""
    outputs = [features(2, 3, seed=seed) for seed in range(3)]
    gates = nd.array([[0, 0, 1]] * 2, dtype='float64') + (1e-300 if space == 'probs' else 0)
    alone = outputs[2] if space == 'logits' else nd.log_softmax(outputs[2])
    np.testing.assert_allclose(combine(nd, outputs, gates, space).asnumpy(), alone.asnumpy(), atol=1e-12)
    mean = combine(nd, outputs, nd.full((2, 3), 1 / 3, dtype='float64'), space).asnumpy()
    np.testing.assert_allclose(combine(nd, outputs, None, space).asnumpy(), mean, atol=1e-12)
    np.testing.assert_allclose(combine(nd, [outputs[0]] * 3, None, space).asnumpy(),
                               (outputs[0] if space == 'logits' else nd.log_softmax(outputs[0])).asnumpy(), atol=1e-12)


def test_combinations_by_hand():
    first, second = np.log([[0.9, 0.1]]), np.log([[0.2, 0.8]])
    outputs, gates = [nd.array(first, dtype='float64'), nd.array(second, dtype='float64')], nd.array([[0.25, 0.75]])
    gates = gates.astype('float64')
    expected = 0.25 * first + 0.75 * second
    np.testing.assert_allclose(combine(nd, outputs, gates, 'log_probs').asnumpy(), expected, atol=1e-7)
    np.testing.assert_allclose(combine(nd, outputs, gates, 'logits').asnumpy(), expected, atol=1e-7)
    assert np.exp(expected).sum() < 1
    np.testing.assert_allclose(combine(nd, outputs, gates, 'probs').asnumpy(), np.log([[0.375, 0.625]]), atol=1e-7)


def test_probabilities_of_sure_outputs_do_not_underflow():
    outputs = [nd.array([[1000., 0.]]), nd.array([[900., 0.]])]
    scores = combine(nd, outputs, nd.array([[0.5, 0.5]]), 'probs').asnumpy()
    np.testing.assert_allclose(scores, [[0, -900 - np.log(2)]], rtol=1e-6, atol=1e-5)

"""Penalties on attention weights, against the given numbers, by hand and by numeric gradients."""
from pathlib import Path

import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc.nn.losses import BOUNDED, PENALTIES, attention_penalty

VECTORS = Path(__file__).parent / 'files' / 'attn_conv_penalties.npz'
KEYS = {'l1': 'l1_paper', 'l1_mean': 'l1_releasedcode', 'l2': 'l2_paper', 'diverge': 'diverge_releasedcode',
        'diverge_l1': 'diverge_paper_sqL1', 'diverge_l2': 'diverge_paper_sqL2'}


@pytest.mark.parametrize('kind', PENALTIES)
def test_attention_penalties_against_the_given_numbers(kind):
    with np.load(VECTORS) as vectors:
        attentions = [vectors[key] for key in ('a0', 'a1', 'a2')]
        expected = float(vectors[KEYS[kind]])
    penalty = attention_penalty([nd.array(a, dtype='float64') for a in attentions], kind)
    assert penalty.shape == (1,)
    assert penalty.asscalar() == pytest.approx(expected, rel=1e-12)


def test_attention_penalties_by_hand():
    a = [nd.array([[2, 0], [1, -1]]).reshape((2, 2, 1, 1)), nd.array([3]).reshape((1, 1, 1, 1))]
    expected = {'l1': 7, 'l1_mean': 7 / 5, 'l2': 2 + 2 ** 0.5 + 3, 'diverge': -(6 / 4 + 4), 'diverge_l1': -(4 + 4 + 4),
                'diverge_l2': -(2 + 4 + 4)}
    for kind, value in expected.items():
        assert attention_penalty(a, kind).asscalar() == pytest.approx(value), kind


@pytest.mark.parametrize('kind', PENALTIES)
def test_attention_penalties_by_numeric_gradients(kind):
    rng = np.random.RandomState(0)
    a = [rng.uniform(0.2, 2, (3, 4, 1, 1)), rng.uniform(-2, -0.2, (2, 1, 1, 1))]
    arrays = [nd.array(values, dtype='float64') for values in a]
    for array in arrays:
        array.attach_grad()
    with autograd.record():
        penalty = attention_penalty(arrays, kind)
    penalty.backward()
    for layer, array in enumerate(arrays):
        for index in range(a[layer].size):
            around = []
            for step in (1e-6, -1e-6):
                moved = [values.copy() for values in a]
                moved[layer].flat[index] += step
                around.append(attention_penalty([nd.array(m, dtype='float64') for m in moved], kind).asscalar())
            assert array.grad.asnumpy().flat[index] == pytest.approx((around[0] - around[1]) / 2e-6, abs=1e-6)


def gradient(values, **settings):
    a = nd.array(values).reshape((-1, 1, 1, 1))
    a.attach_grad()
    with autograd.record():
        penalty = attention_penalty([a], **settings)
    penalty.backward()
    return penalty.asscalar(), a.grad.asnumpy().ravel().tolist()


def test_a_ceiling_ends_the_reward():
    assert gradient([1.5, 1], kind='diverge', ceiling=1.0) == (-0.125, [-0.5, 0])
    assert gradient([3, 1], kind='diverge', ceiling=1.0) == (-1, [0, 0])


def test_a_filter_that_is_0_does_not_break_the_l2_norm():
    assert gradient([0, 2], kind='l2') == (pytest.approx(2), [0, 1])


def test_what_attention_penalty_refuses():
    a = [nd.ones((1, 1, 1, 1))]
    with pytest.raises(ValueError, match="penalty 'l3' is none of l1, l1_mean"):
        attention_penalty(a, 'l3')
    for kind, ceiling in (('l1', 1.0), ('diverge', 0.0)):
        with pytest.raises(ValueError, match=f'goes with {BOUNDED[0]}'):
            attention_penalty(a, kind, ceiling)

"""Focal loss, logit adjustment and pairwise confusion: limits, values by hand, gradients by differences."""
import inspect
import sys
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import methods
from gluon_fgvc.engine.criteria import Criterion, focal, pairwise_confusion
from gluon_fgvc.methods.base import cross_entropy
from tests.rounding import assert_same_but_for_rounding

LOGITS = np.random.RandomState(0).randn(4, 3).astype('float32')
HARD = mx.nd.array([0, 2, 1, 1])
SOFT = mx.nd.array([[1, 0, 0], [0.5, 0, 0.5], [0.2, 0.3, 0.5], [0, 1, 0]])


def setting(gamma=0.0, tau=0.0):
    return SimpleNamespace(focal_gamma=gamma, logit_adjustment=tau)


@pytest.mark.parametrize('labels', [HARD, SOFT])
def test_without_settings_it_is_cross_entropy_bit_for_bit(labels):
    criterion = Criterion(setting(), np.array([0, 1, 2]), 3)
    expected = cross_entropy(mx.nd.array(LOGITS), labels).asnumpy()
    np.testing.assert_array_equal(criterion(mx.nd.array(LOGITS), labels).asnumpy(), expected)
    np.testing.assert_allclose(focal(mx.nd.array(LOGITS), labels, 0.0).asnumpy(), expected, rtol=1e-5)


def test_focal_by_hand():
    logits = mx.nd.array(np.log([[0.5, 0.25, 0.25], [0.9, 0.05, 0.05]]))
    found = focal(logits, mx.nd.array([0, 0]), 2.0).asnumpy()
    np.testing.assert_allclose(found, [0.25 * np.log(2), 0.01 * -np.log(0.9)], rtol=1e-4)
    found = focal(logits, mx.nd.array([[0.5, 0.5, 0], [1, 0, 0]]), 1.0).asnumpy()
    np.testing.assert_allclose(found, [0.5 * 0.5 * np.log(2) + 0.5 * 0.75 * np.log(4), 0.1 * -np.log(0.9)], rtol=1e-4)


def test_hard_and_one_hot_labels_agree():
    for gamma in (0.5, 2.0):
        np.testing.assert_allclose(focal(mx.nd.array(LOGITS), HARD, gamma).asnumpy(),
                                   focal(mx.nd.array(LOGITS), mx.nd.one_hot(HARD, 3), gamma).asnumpy(), rtol=1e-5)


@pytest.mark.parametrize('gamma', [0.5, 1.0, 2.0])
def test_the_gradient_is_finite_where_the_network_is_sure(gamma):
    logits = mx.nd.array([[100, 0, 0], [0, 100, 0]])
    logits.attach_grad()
    with mx.autograd.record():
        loss = focal(logits, mx.nd.array([0, 0]), gamma)
    loss.backward()
    assert np.isfinite(logits.grad.asnumpy()).all() and np.isfinite(loss.asnumpy()).all()


def test_logit_adjustment_by_hand():
    """Equal logits become the frequencies to the power of τ: 0.6, 0.2, 0.2."""
    labels = np.array([0, 0, 0, 1, 2])
    found = Criterion(setting(tau=2.0), labels, 3)(mx.nd.zeros((2, 3)), mx.nd.array([0, 1])).asnumpy()
    shares = np.array([0.6, 0.2, 0.2]) ** 2
    assert_same_but_for_rounding(found, -np.log(shares[:2] / shares.sum()))
    balanced = Criterion(setting(tau=1.0), np.array([0, 1, 2]), 3)(mx.nd.array(LOGITS), HARD).asnumpy()
    np.testing.assert_allclose(balanced, cross_entropy(mx.nd.array(LOGITS), HARD).asnumpy(), rtol=1e-5)


def test_pairwise_confusion_by_hand():
    logits = mx.nd.array(np.log([[0.5, 0.5], [0.9, 0.1], [0.1, 0.9], [0.2, 0.8], [0.5, 0.5]]))
    # Pairs (0, 2) and (1, 3); the fifth has no partner.
    found = pairwise_confusion(logits, mx.nd.array([0, 0, 1, 0, 1])).asscalar()
    assert found == pytest.approx((2 * 0.4 ** 2 + 0) / 2, rel=1e-4)  # (1, 3) are of one class
    soft = mx.nd.array([[1, 0], [1, 0], [0, 1], [0.25, 0.75], [0, 1]])
    found = pairwise_confusion(logits, soft).asscalar()
    assert found == pytest.approx((2 * 0.4 ** 2 + 0.75 * 2 * 0.7 ** 2) / 2, rel=1e-4)


def test_pairwise_confusion_of_few():
    for images in (0, 1):
        assert pairwise_confusion(mx.nd.ones((1, 3))[:1], mx.nd.array([0])).asnumpy().tolist() == [0], images


@pytest.mark.parametrize('loss', [lambda x: focal(x, HARD, 1.5).sum(), lambda x: focal(x, SOFT, 0.7).sum(),
                                  lambda x: pairwise_confusion(x, HARD), lambda x: pairwise_confusion(x, SOFT)])
def test_gradients_are_those_of_differences(loss):
    logits = mx.nd.array(LOGITS)
    logits.attach_grad()
    with mx.autograd.record():
        value = loss(logits)
    value.backward()
    for place in np.ndindex(LOGITS.shape):
        up, down = LOGITS.copy(), LOGITS.copy()
        up[place] += 1e-2
        down[place] -= 1e-2
        slope = (loss(mx.nd.array(up)) - loss(mx.nd.array(down))).asscalar() / 2e-2
        assert logits.grad[place].asscalar() == pytest.approx(slope, abs=2e-3)


@pytest.mark.parametrize('name', methods.available())
def test_every_method_asks_its_criterion(name):
    """Focal loss and logit adjustment must reach all its classifiers, none of which computes a cross-entropy itself."""
    module = sys.modules[methods.options(name).__module__]
    assert 'self.criterion(' in inspect.getsource(module.Method.losses)
    assert 'cross_entropy(' not in inspect.getsource(module.Method.losses).replace("'cross_entropy'", '')

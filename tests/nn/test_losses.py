"""Loss terms by hand, by finite differences and against given numbers."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc.nn import losses


def scores(seed):
    return mx.nd.array(np.random.RandomState(seed).normal(size=(3, 5)) * 4, dtype='float64')


def test_distillation_by_hand():
    """Teacher (T·ln 3, 0) is (3/4, 1/4), student (0, T·ln 4) is (1/5, 4/5)."""
    for temperature in (1, 10):
        teacher = mx.nd.array([[temperature * np.log(3), 0]])
        student = mx.nd.array([[0, temperature * np.log(4)]])
        found = losses.distillation(student, teacher, temperature)
        assert found.shape == (1,)
        assert float(found.asscalar()) == pytest.approx(-0.75 * np.log(0.2) - 0.25 * np.log(0.8), rel=1e-5)


def test_distillation_is_least_where_the_student_is_the_teacher():
    teacher = scores(0)
    probabilities = mx.nd.softmax(teacher / 10).asnumpy()
    entropy = -(probabilities * np.log(probabilities)).sum(axis=1)
    np.testing.assert_allclose(losses.distillation(teacher, teacher).asnumpy(), entropy, rtol=1e-6)
    assert (losses.distillation(scores(1), teacher).asnumpy() > entropy).all()


@pytest.mark.parametrize('temperature', [1.0, 10.0])
@pytest.mark.parametrize('detached', [False, True])
def test_gradient_of_distillation(detached, temperature):
    student, teacher, step = scores(0), scores(1), 1e-5
    for values in (student, teacher):
        values.attach_grad()
        values.grad[:] = 0
    with autograd.record():
        total = losses.distillation(student, teacher, temperature, detached)
    total.backward()
    for values, flows in ((student, True), (teacher, not detached)):
        found = values.grad.asnumpy()
        for place in np.ndindex(*values.shape):
            totals = []
            for sign in (1, -1):
                moved = values.asnumpy()
                moved[place] += sign * step
                moved = mx.nd.array(moved, dtype='float64')
                pair = (moved, teacher) if values is student else (student, moved)
                totals.append(float(losses.distillation(*pair, temperature).sum().asscalar()))
            expected = (totals[0] - totals[1]) / 2 / step if flows else 0
            assert found[place] == pytest.approx(expected, rel=1e-5, abs=1e-8)
        assert found.any() == flows


# --- restriction and contrast of CRA-CNN -----------------------------------------------------

def numeric(function, values, step=1e-6):
    """Return the gradient of ``function`` (numpy float64 → float) by differences."""
    gradient = np.zeros_like(values)
    for place in np.ndindex(*values.shape):
        moved = [values.copy(), values.copy()]
        moved[0][place] += step
        moved[1][place] -= step
        gradient[place] = (function(moved[0]) - function(moved[1])) / 2 / step
    return gradient


def gradient_of(function, *values):
    """Return (result, gradients) of ``function`` at float64 arrays."""
    arrays = [mx.nd.array(value, dtype='float64') for value in values]
    for array in arrays:
        array.attach_grad()
    with autograd.record():
        result = function(*arrays)
    result.backward()
    return result.asnumpy(), [array.grad.asnumpy() for array in arrays]


def restriction(window):
    return losses.restriction_loss(window.reshape((1, 4)))


@pytest.mark.parametrize('window, expected', [
    ((0, 0, 0.5, 0), 0),                       # E itself
    ((0.39, -0.39, 0.11, 3.1), 0),             # within all thresholds
    ((0.5, 0, 0.5, 0), 0.5),                   # one beyond its own: the whole distance counts
    ((0.5, -0.45, 0.5, 0), np.hypot(0.5, 0.45)),
    ((0, 0, -0.1, 0), 0.6),
    ((0, 0, 0.5, -4), 4)])
def test_restriction_by_hand(window, expected):
    loss, (gradient,) = gradient_of(restriction, np.array(window, float))
    assert loss == pytest.approx([expected], abs=2e-6)
    assert np.isfinite(gradient).all() and gradient.any() == bool(expected)
    by_differences = numeric(lambda w: float(restriction(mx.nd.array(w, dtype='float64')).asscalar()),
                             np.array(window, float))
    np.testing.assert_allclose(gradient, by_differences, atol=1e-6)


def test_own_expectation_and_thresholds():
    loss = losses.restriction_loss(mx.nd.array([[0.3, 0, 1, 0]]), expected=(0, 0, 1, 0), thresholds=(0.2, 1, 1, 1))
    assert loss.asscalar() == pytest.approx(0.3)


VECTORS = np.load(Path(__file__).parent / 'files' / 'contrastive_triplet.npz')


def test_contrast_given_numbers():
    r, a, first, second = (mx.nd.array(VECTORS[key]) for key in ('r', 'a', 'p1', 'p2'))
    found = losses.contrastive_loss(r, a, first, second, float(VECTORS['margin']))
    np.testing.assert_allclose(found.asnumpy(), VECTORS['loss_paper_per_pair'], atol=1e-5)


def test_contrast_by_hand():
    """Redundancy 3 apart, attention 4 and 5 from its own: max(3 - 4 + m, 0) + max(3 - 5 + m, 0)."""
    r, a = mx.nd.array([[0, 0], [3, 0]]), mx.nd.array([[0, 4], [0, -4]])
    pair = mx.nd.array([0]), mx.nd.array([1])
    for margin, expected in ((0.7, 0), (1.5, 0.5), (2.5, 2)):
        assert losses.contrastive_loss(r, a, *pair, margin).asnumpy() == pytest.approx([expected], abs=1e-6)


def test_gradient_of_contrast():
    random = np.random.RandomState(0)
    r, a = random.normal(size=(5, 3)) * 0.5, random.normal(size=(5, 3)) * 0.5
    pairs = mx.nd.array([0, 3]), mx.nd.array([2, 1])

    def loss(r, a):
        return losses.contrastive_loss(r, a, *pairs).sum()

    total, gradients = gradient_of(loss, r, a)
    assert total > 0
    for index, gradient in enumerate(gradients):
        def value(moved):
            both = [moved if index == i else values for i, values in enumerate((r, a))]
            return float(loss(*(mx.nd.array(values, dtype='float64') for values in both)).asscalar())

        assert not gradient[4].any()  # in no pair
        np.testing.assert_allclose(gradient, numeric(value, (r, a)[index]), atol=1e-6)


@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_contrast_of_equal_features_is_finite(dtype):
    same = mx.nd.ones((2, 3), dtype=dtype)
    other = mx.nd.ones((2, 3), dtype=dtype)
    for array in (same, other):
        array.attach_grad()
    with autograd.record():
        loss = losses.contrastive_loss(same, other, mx.nd.array([0]), mx.nd.array([1]))
    loss.backward()
    assert loss.asscalar() == pytest.approx(1.4, abs=1e-5)
    assert not same.grad.asnumpy().any() and not other.grad.asnumpy().any()

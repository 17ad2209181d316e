"""Loss terms by hand and by finite differences."""
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

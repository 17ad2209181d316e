import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.engine.statistics import calibration, mean_and_sd, t_interval, wilson


@pytest.mark.parametrize('correct, images, low, high', [
    (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634), (15, 148, 0.0624, 0.1605), (0, 0, 0.0, 1.0)])
def test_wilson_equals_printed_values(correct, images, low, high):
    assert wilson(correct, images) == pytest.approx((low, high), abs=1e-4)


@given(st.integers(1, 10 ** 6).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_share_and_stays_in_bounds(pair):
    correct, images = pair
    low, high = wilson(correct, images)
    assert 0 <= low <= correct / images + 1e-12 and correct / images - 1e-12 <= high <= 1


def test_sd_divides_by_n_minus_1():
    assert mean_and_sd([1, 2, 4]) == pytest.approx((7 / 3, math.sqrt(7 / 3)))
    assert mean_and_sd([0.5]) == (0.5, None)
    assert mean_and_sd([]) == (None, None)


def test_an_interval_of_three_differences():
    # Student's t of two degrees of freedom: 4.303; the standard deviation is 1
    assert t_interval([1, 2, 3]) == pytest.approx((2 - 4.303 / 3 ** 0.5, 2 + 4.303 / 3 ** 0.5), abs=1e-3)
    assert t_interval([1]) is None


def test_calibration_by_hand():
    # bin (0.5, 0.6]: confidence 0.55, accuracy 1/2; bin (0.9, 1]: confidence 1, accuracy 1/2
    bins, error = calibration([0.5 + 0.04, 0.56, 1.0, 1.0], [True, False, True, False])
    assert [(b.images, b.correct) for b in bins] == [(2, 1), (2, 1)]
    assert bins[0].confidence == pytest.approx(0.55) and bins[1].confidence == 1
    assert error == pytest.approx(0.5 * 0.05 + 0.5 * 0.5)


def test_calibration_edges_and_nothing():
    bins, _ = calibration([0.0, 0.1, 0.2], [False, False, False])
    assert [b.images for b in bins] == [2, 1]  # an interval holds its upper end, the first also 0
    assert calibration(np.zeros(0), np.zeros(0, bool)) == ([], 0)

"""CutMix, and switching between it and mixup."""
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc.engine import mixing

TARGETS = mx.nd.one_hot(mx.nd.arange(4), 4)


def images(side=6):
    """Four images, each full of its index."""
    return mx.nd.array(np.arange(4).reshape(4, 1, 1, 1) * np.ones((4, 3, side, side + 2)))


class Chosen:
    """A generator whose numbers are given."""

    def __init__(self, share, *centre):
        self._share, self._centre = share, list(centre)

    def beta(self, a, b):
        return self._share

    def permutation(self, count):
        return np.arange(count)[::-1]

    def integers(self, side):
        return self._centre.pop(0)


def test_by_hand():
    """λ = 3/4 gives half of either side, 3 × 4 of 6 × 8; about (1, 4) it loses a row: rows 0-1, columns 2-5."""
    mixed, wanted = mixing.cutmix(images(), TARGETS, 1.0, Chosen(0.75, 1, 4))
    expected = np.zeros((6, 8))
    expected[0:3, 2:6] = 3
    np.testing.assert_array_equal(mixed[0, 0].asnumpy(), expected)
    np.testing.assert_allclose(wanted[0].asnumpy(), [0.75, 0, 0, 0.25], rtol=1e-6)
    mixed, wanted = mixing.cutmix(images(), TARGETS, 1.0, Chosen(0.75, 0, 7))
    assert (mixed[0, 0].asnumpy() == 3).sum() == 2 * 3  # rows -1 to 1 and columns 5 to 8, cut off
    np.testing.assert_allclose(wanted[0].asnumpy(), [1 - 6 / 48, 0, 0, 6 / 48], rtol=1e-6)


def test_a_share_of_one_keeps_everything():
    mixed, wanted = mixing.cutmix(images(), TARGETS, 1.0, Chosen(1.0, 3, 3))
    np.testing.assert_array_equal(mixed.asnumpy(), images().asnumpy())
    np.testing.assert_array_equal(wanted.asnumpy(), TARGETS.asnumpy())


@settings(max_examples=40)
@given(st.integers(0, 9999), st.integers(1, 12))
def test_labels_have_the_shares_of_the_pixels(seed, side):
    given_images = images(side)
    mixed, wanted = mixing.cutmix(given_images, TARGETS, 1.0, np.random.default_rng(seed))
    again, _ = mixing.cutmix(given_images, TARGETS, 1.0, np.random.default_rng(seed))
    assert (mixed == again).asnumpy().all()
    np.testing.assert_array_equal(given_images.asnumpy(), images(side).asnumpy())
    for index in range(4):
        shares = [(mixed[index] == other).mean().asscalar() for other in range(4)]
        np.testing.assert_allclose(wanted[index].asnumpy(), shares, atol=1e-6)


@pytest.mark.parametrize('mixup, cutmix, share, cuts', [(0.2, 0, 0.5, 0), (0, 1.0, 0.5, 1), (0.2, 1.0, 0, 0),
                                                        (0.2, 1.0, 1, 1), (0.2, 1.0, 0.3, 0.3)])
def test_switching(mixup, cutmix, share, cuts):
    setting = SimpleNamespace(mixup=mixup, cutmix=cutmix, cutmix_share=share)
    found = []
    for seed in range(60):
        mixed, _ = mixing.mix(images(), TARGETS, setting, np.random.default_rng(seed))
        # CutMix leaves whole numbers, mixup only where partners are the same.
        found.append(bool((mixed == mixed.round()).asnumpy().all()))
    assert abs(np.mean(found) - cuts) < 0.15


def test_mixup_alone_draws_what_it_always_drew():
    setting = SimpleNamespace(mixup=0.4, cutmix=0.0, cutmix_share=0.5)
    for alone, mixed in zip(mixing.mixup(images(), TARGETS, 0.4, np.random.default_rng(3)),
                            mixing.mix(images(), TARGETS, setting, np.random.default_rng(3))):
        np.testing.assert_array_equal(alone.asnumpy(), mixed.asnumpy())

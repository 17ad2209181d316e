"""Textures tell the class as often as they should, always the same, and lie behind the objects."""
import hashlib

import numpy as np
import pytest

from gluon_fgvc.data.datasets.cluttered_mnist import DIGIT, Composer
from gluon_fgvc.data.habitats import BRIGHTEST, Habitats


def test_the_fraction_that_tells_the_class():
    labels = np.arange(4000) % 10
    for fraction, expected in ((0.9, 0.91), (0, 0.1)):  # any of the ten is the own one in ten
        kinds = np.array([Habitats(labels, 10, fraction, (0, 0)).place(i)[0] for i in range(4000)])
        assert abs((kinds == labels).mean() - expected) < 0.015
        assert np.bincount(kinds, minlength=10).min() > 300


def test_directions_differ_and_repeat():
    labels = np.arange(10)
    pictures = [Habitats(labels, 10, 1, (3, 1)).draw(i, 40) for i in range(10)]
    assert all(p.dtype == np.uint8 and p.min() < 12 and p.max() > BRIGHTEST - 12 for p in pictures)
    spectra = [np.abs(np.fft.fft2(p - p.mean())) for p in pictures]
    peaks = {tuple(np.unravel_index(s[:, :21].argmax(), (40, 21))) for s in spectra}
    assert len(peaks) == 10
    np.testing.assert_array_equal(pictures[4], Habitats(labels, 10, 1, (3, 1)).draw(4, 40))


def test_objects_lie_in_front():
    digits = np.full((1, DIGIT, DIGIT), 255, 'uint8')
    habitats = Habitats(np.zeros(3, int), 10, 1, (0, 0))
    plain, behind = (Composer(digits, np.zeros(3, int), 0, (0, 0), h) for h in (None, habitats))
    for index in range(3):
        expected = np.where(plain(index)[..., 0] > 0, 255, habitats.draw(index, 40))
        np.testing.assert_array_equal(behind(index)[..., 0], expected)
        np.testing.assert_array_equal(behind(index)[..., 0], behind(index)[..., 2])


@pytest.mark.parametrize('contrast', [1, 200, 255])
def test_contrast_by_hand(contrast):
    habitats = Habitats(np.zeros(1, int), 10, 1, (0, 0), contrast)
    phase = habitats.place(0)[1]
    # Class 0 has the direction 0: the wave runs along a row, half of the contrast above and below its middle.
    row = [int(contrast / 2 * (1 + np.sin(2 * np.pi * (x / 6 + phase)))) for x in range(12)]
    np.testing.assert_array_equal(habitats.draw(0, 12), np.tile(row, (12, 1)))


def test_the_contrast_says_nothing_of_where_and_what():
    weak, strong = (Habitats(np.arange(10), 10, 0.5, (3, 1), contrast) for contrast in (BRIGHTEST, 200))
    assert [weak.place(i) for i in range(10)] == [strong.place(i) for i in range(10)]
    digest = hashlib.sha256(np.stack([weak.draw(i, 40) for i in range(10)]).tobytes()).hexdigest()
    # Of 110, with which results were measured.
    assert digest == 'd6d6ac1d42aa0e806ba1da67890551151b7869a6a03802fca6ac87e3832f0ffb'

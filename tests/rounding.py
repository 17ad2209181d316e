"""How far two orders of the same float32 sums may lie apart, and how far wrong operators do."""
import numpy as np

from gluon_fgvc.machine import processor

UNIT = 2.0 ** -24  # float32 rounds by at most this share


def units():
    """Return how many UNITs of the largest output fused graphs may differ by.

    Measured over 11 backbones and 3 input sizes: up to 17 with AVX-512, up to 150 with AVX2 or SSE 4.1 (the deepest
    network, whose Winograd convolutions round more). A share of 0.1 % in one layer's scale makes thousands.
    """
    return 64 if processor.onednn_choice().startswith('AVX512') else 512


def assert_same_but_for_rounding(found, expected, factor=1):
    """Compare two arrays by the scale of the largest of ``expected``; ``factor`` allows more than :func:`units`."""
    difference, scale = np.abs(found - expected).max(), np.abs(expected).max()
    assert difference <= factor * units() * UNIT * scale, \
        f'{difference / scale / UNIT:.0f} units, {factor * units()} are allowed'


def assert_fused_alike(method, fused, plain):
    """Compare the probabilities of a fused graph with the plain one's, for a method whose statistics saw few images.

    Such statistics let rounding grow fourfold, and softmax turns a relative error of logits into one of probabilities.
    Where TASN samples by attention, rounding moves places, and on noise the neighbour is another world.
    """
    if method == 'tasn':
        np.testing.assert_allclose(fused, plain, rtol=0, atol=1e-2)
    else:
        assert_same_but_for_rounding(fused, plain, 4)

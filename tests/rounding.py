"""How far two orders of the same float32 sums may lie apart, and how far wrong operators do."""
import mxnet as mx
import numpy as np

from gluon_fgvc.deploy.engines import softmax
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


def assert_fused_alike(net, images, fused, plain):
    """Compare the probabilities of a fused graph with the plain one's, for a network whose statistics saw few images.

    Such statistics let rounding grow fourfold, and softmax turns a relative error of logits into one of probabilities.
    Where a network samples by what it sees (SSN, STN, TASN), rounding moves places, and on noise the neighbour is
    another world: the graphs may then differ as the network does from itself when its input is rounded, and more where
    fusing rounds more. Measured with AVX-512, of such networks: 0.9 to 1.3 times as much.
    """
    difference, bound = np.abs(fused - plain).max(), 4 * units() * UNIT * np.abs(plain).max()
    if difference > bound:
        bound = units() / 16 * response_to_rounding(net, [images])[0]
    assert difference <= bound, f'{difference:.3g}, {bound:.3g} is allowed'


def response_to_rounding(net, batches, draws=6):
    """Return by how much a network differs from itself when each input moves by half a unit of its last place.

    Input that was rounded once is no longer known better than this, so no other order of the same sums can be.

    :param batches: list of (N,3,H,W).
    :returns: the largest difference of a probability, and of a score as a share of the largest score.
    """
    rng, moved = np.random.RandomState(5), []
    for batch in [batch for _ in range(draws) for batch in batches]:
        signs = rng.choice([-1, 1], batch.shape) * UNIT
        moved.append(net(mx.nd.array(batch.asnumpy() * (1 + signs))).asnumpy())
    return differences(moved, draws * [net(batch).asnumpy() for batch in batches])


def differences(found, expected):
    """Return the largest difference of a probability, and of a score as a share of the largest, of lists of (N,K)."""
    pairs = list(zip(found, expected))
    return (max(float(np.abs(softmax(a) - softmax(b)).max()) for a, b in pairs),
            max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in pairs))

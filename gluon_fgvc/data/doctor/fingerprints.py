"""Perceptual fingerprints: which images are the same photograph, after re-encoding, scaling or retouching.

A hash of 63 bits, the signs of the lowest frequencies of the cosine transform (after Zauner, *Implementation and
benchmarking of perceptual image hash functions*, 2010, sec. 3.2.1), proposes pairs: all pairs within ``RADIUS``
bits, by matrix products in blocks, so that 10,000 images take a second and memory stays bounded. Zauner compares
each frequency with their median; a sign does not change with brightness and contrast at all. Small thumbnails then
decide.

Some objects look alike without being one: solar cells, products on a belt. An image that is like more than
``CROWD`` others is therefore held to a strict comparison, which forgives coding and brightness but no misplacement.
"""
import cv2
import numpy as np

SIDE = 24     # of a thumbnail
BITS = 63     # of a hash: 8 x 8 frequencies without the mean
RADIUS = 16   # differing bits up to which two hashes propose a pair
ROWS, PAIRS = 4096, 512  # of a matrix product, and of thumbnails compared at once: what bounds the memory

CROWD = 5     # likenesses from which on an image is one of many of its kind

# Two thumbnails are alike if, after the gain and offset that fit best, no more than DIFFERING of their pixels differ
# by more than LEVELS (of 256), which coding and noise cost, plus RANGE_SHARE of the range of the neighbouring pixels,
# which is what misplacement by a part of a pixel can do.
LEVELS, RANGE_SHARE, DIFFERING = 8.0, 0.75, 0.02
STRICT_LEVELS, STRICT_SHARE = 3.0, 0.1
CORRELATION = 0.94              # at least, of the thumbnails blurred: small subjects are all edge, where slack is wide
COARSE, COARSE_CORRELATION = 8, 0.85  # what spares most proposals the comparison: side, and least correlation
GAIN, OFFSET = (0.65, 1.5), 60  # what retouching may do; the offset is that of middle gray
CLIPPED = 10, 240               # beyond these, highlights and shadows may have been lost


def thumbnail(image):
    """Return (SIDE,SIDE,3) uint8 of ``image`` (H,W,3) uint8, without its aspect."""
    return cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def perceptual_hash(image):
    """Return the hash of ``image`` (H,W,3) uint8 RGB as (BITS,) bool."""
    # Floating point from here on: rounding would decide the signs in images of low contrast.
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    return (cv2.dct(cv2.resize(gray, (32, 32), interpolation=cv2.INTER_AREA))[:8, :8] > 0).ravel()[1:]


def near_pairs(hashes, thumbnails):
    """Return the list of (i, j), i < j, of all images that are one photograph.

    :param hashes: (N,BITS) bool.
    :param thumbnails: (N,SIDE,SIDE,3) uint8.
    """
    coarse, blank = _coarse(thumbnails)
    likenesses = np.zeros(len(thumbnails), np.int64)
    found, doubtful = [], []
    for first, second in proposed_pairs(hashes):
        likely = np.einsum('nc,nc->n', coarse[first], coarse[second]) >= COARSE_CORRELATION
        likely |= blank[first] & blank[second]
        first, second = first[likely], second[likely]
        for start in range(0, len(first), PAIRS):
            i, j = first[start:start + PAIRS], second[start:start + PAIRS]
            alike, strictly = compare(thumbnails[i], thumbnails[j])
            np.add.at(likenesses, np.concatenate([i[alike], j[alike]]), 1)
            found += zip(i[strictly].tolist(), j[strictly].tolist())
            alike &= ~strictly & (likenesses[i] <= CROWD) & (likenesses[j] <= CROWD)
            doubtful += zip(i[alike].tolist(), j[alike].tolist())
    return sorted(found + [(i, j) for i, j in doubtful if max(likenesses[i], likenesses[j]) <= CROWD])


def _coarse(thumbnails):
    """Return (N,COARSE²) gray thumbnails of zero mean and length 1, and (N,) which are of one shade."""
    step = SIDE // COARSE
    gray = thumbnails.reshape(-1, COARSE, step, COARSE, step, 3).mean((2, 4, 5), dtype=np.float32)
    gray = gray.reshape(-1, COARSE ** 2)
    gray -= gray.mean(1, keepdims=True)
    length = np.sqrt((gray ** 2).sum(1, keepdims=True))
    return gray / np.maximum(length, 1e-6), length[:, 0] < 2 * COARSE


def proposed_pairs(hashes, radius=RADIUS):
    """Yield index arrays (i, j), i < j, that hold every pair of hashes (N,BITS) with at most ``radius`` other bits."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    least = BITS - 2 * radius - 0.5  # the product of two rows of signs is BITS - 2 * differing bits
    for start in range(0, len(signs), ROWS):
        for other in range(start, len(signs), ROWS):
            i, j = np.nonzero(signs[start:start + ROWS] @ signs[other:other + ROWS].T > least)
            i, j = i + start, j + other
            yield i[i < j], j[i < j]


def compare(first, second):
    """Compare pairs of thumbnails, (n,SIDE,SIDE,3) uint8 each.

    :returns: (n,) bool whether they are alike, and (n,) bool whether they are so without any misplacement.
    """
    a, b = first.astype(np.float32), second.astype(np.float32)
    # Only from the one with more detail in highlights and shadows can the other be computed.
    swap = _clipped(a).mean((1, 2, 3)) > _clipped(b).mean((1, 2, 3))
    a[swap], b[swap] = b[swap], a[swap]
    range_a, range_b = _local_range(a), _local_range(b)
    gain, offset = _fit(a, b, 1 / (LEVELS + RANGE_SHARE * (range_a + range_b) / 2) ** 2)
    retouching = (gain > GAIN[0]) & (gain < GAIN[1]) & (np.abs(offset + 128 * (gain - 1)) < OFFSET)
    gain, offset = gain[:, None, None, None], offset[:, None, None, None]
    expected = np.clip(a * gain + offset, 0, 255)
    alike = retouching & (_correlation(_blurred(expected), _blurred(b)) >= CORRELATION)
    difference, ranges = np.abs(expected - b), (range_a * gain + range_b) / 2

    def within(levels, share):
        return alike & ((difference > levels + share * ranges).any(-1).mean((1, 2)) <= DIFFERING)
    return within(LEVELS, RANGE_SHARE), within(STRICT_LEVELS, STRICT_SHARE)


def _clipped(values):
    return (values < CLIPPED[0]) | (values > CLIPPED[1])


def _fit(a, b, weight):
    """Return (n,) gain and offset that turn ``a`` into ``b``: least squares, twice again without what fits badly."""
    a, b, weight = (values.reshape(len(values), -1) for values in (a, b, weight))
    usable = ~(_clipped(a) | _clipped(b))
    usable[usable.mean(1) < 0.01] = True  # white all over
    weight = weight * usable
    gain, offset = _least_squares(a, b, weight)
    for _ in range(2):
        error = np.abs(np.clip(a * gain[:, None] + offset[:, None], 0, 255) - b)
        limit = np.maximum(LEVELS, 2.5 * np.median(error, 1))
        gain, offset = _least_squares(a, b, weight * (error <= limit[:, None]))
    return gain, offset


def _least_squares(a, b, weight):
    total = np.maximum(weight.sum(1), 1e-9)
    mean_a, mean_b = (a * weight).sum(1) / total, (b * weight).sum(1) / total
    centred = a - mean_a[:, None]
    variance = (weight * centred ** 2).sum(1) / total
    # A standard deviation below one level says nothing of the gain.
    gain = np.where(variance < 1, 1, (weight * centred * b).sum(1) / total / np.maximum(variance, 1))
    return gain, mean_b - gain * mean_a


def _correlation(a, b):
    a, b = (values.reshape(len(values), -1) for values in (a, b))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    deviation_a, deviation_b = a.std(1), b.std(1)
    # Noise does not correlate: two blank images are alike.
    blank = np.maximum(deviation_a, deviation_b) < 2
    return np.where(blank, 1, (a * b).mean(1) / np.maximum(deviation_a * deviation_b, 1e-9))


def _local_range(thumbnails):
    """Return the largest minus the smallest value of each pixel and its eight neighbours, for (n,H,W,C)."""
    parts = _neighbours(thumbnails)
    return np.maximum.reduce(parts) - np.minimum.reduce(parts)


def _blurred(thumbnails):
    return sum(_neighbours(thumbnails)) / 9


def _neighbours(thumbnails):
    """Return nine views: the images moved by -1, 0 and 1 pixel either way, their borders repeated."""
    height, width = thumbnails.shape[1:3]
    padded = np.pad(thumbnails, ((0, 0), (1, 1), (1, 1), (0, 0)), mode='edge')
    return [padded[:, y:y + height, x:x + width] for y in range(3) for x in range(3)]

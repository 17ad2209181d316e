"""Perceptual fingerprints: which images are the same photograph, after re-encoding, scaling or retouching.

Two steps. A hash of 63 bits, the signs of the lowest frequencies of the cosine transform (after Zauner,
*Implementation and benchmarking of perceptual image hash functions*, 2010, sec. 3.2.1), proposes pairs: all pairs
within ``RADIUS`` bits, by matrix products in blocks, so that 10,000 images take a second and memory stays
bounded. Two small thumbnails then decide. Zauner's hash compares each frequency with their median; a sign does
not change with brightness and contrast at all.
"""
import cv2
import numpy as np

SIDE = 24     # of a thumbnail
BITS = 63     # of a hash: 8 x 8 frequencies without the mean
RADIUS = 16   # differing bits up to which two hashes propose a pair
ROWS, PAIRS = 4096, 512  # of a matrix product, and of thumbnails compared at once: what bounds the memory

# Two thumbnails are of one photograph if, after the gain and offset that fit best, no more than DIFFERING of their
# pixels differ by more than LEVELS (of 256), which coding and noise cost, plus RANGE_SHARE of the range of the
# neighbouring pixels, which is what misplacement by a part of a pixel can do.
LEVELS, RANGE_SHARE, DIFFERING = 8.0, 0.75, 0.02
CORRELATION = 0.94              # at least, of the thumbnails blurred: small subjects are all edge, where slack is wide
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
    """Yield (i, j), i < j, of all images that are one photograph.

    :param hashes: (N,BITS) bool.
    :param thumbnails: (N,SIDE,SIDE,3) uint8.
    """
    for first, second in proposed_pairs(hashes):
        for start in range(0, len(first), PAIRS):
            i, j = first[start:start + PAIRS], second[start:start + PAIRS]
            same = same_photograph(thumbnails[i], thumbnails[j])
            yield from zip(i[same].tolist(), j[same].tolist())


def proposed_pairs(hashes, radius=RADIUS):
    """Yield index arrays (i, j), i < j, that hold every pair of hashes (N,BITS) with at most ``radius`` other bits."""
    signs = np.where(hashes, np.float32(1), np.float32(-1))
    least = BITS - 2 * radius - 0.5  # the product of two rows of signs is BITS - 2 * differing bits
    for start in range(0, len(signs), ROWS):
        for other in range(start, len(signs), ROWS):
            i, j = np.nonzero(signs[start:start + ROWS] @ signs[other:other + ROWS].T > least)
            i, j = i + start, j + other
            yield i[i < j], j[i < j]


def same_photograph(first, second):
    """Compare pairs of thumbnails, (n,SIDE,SIDE,3) uint8 each; return (n,) bool."""
    a, b = first.astype(np.float32), second.astype(np.float32)
    # Only from the one with more detail in highlights and shadows can the other be computed.
    swap = _clipped(a).mean((1, 2, 3)) > _clipped(b).mean((1, 2, 3))
    a[swap], b[swap] = b[swap], a[swap]
    range_a, range_b = _local_range(a), _local_range(b)
    gain, offset = _fit(a, b, 1 / (LEVELS + RANGE_SHARE * (range_a + range_b) / 2) ** 2)
    retouching = (gain > GAIN[0]) & (gain < GAIN[1]) & (np.abs(offset + 128 * (gain - 1)) < OFFSET)
    gain, offset = gain[:, None, None, None], offset[:, None, None, None]
    expected = np.clip(a * gain + offset, 0, 255)
    slack = LEVELS + RANGE_SHARE * (range_a * gain + range_b) / 2
    differing = (np.abs(expected - b) > slack).any(-1).mean((1, 2))
    return retouching & (differing <= DIFFERING) & (_correlation(_blurred(expected), _blurred(b)) >= CORRELATION)


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

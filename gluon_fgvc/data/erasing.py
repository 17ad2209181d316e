"""Random erasing: a rectangle of the image gives way to noise, so that no part decides alone (Zhong et al., AAAI 2020).
"""
import math

import numpy as np

TRIES, AREA, ASPECT = 10, (0.02, 1 / 3), (0.3, 10 / 3)  # the paper's: shares of the area, height by width


def erase(image, probability, rng):
    """Return ``image`` (H,W,3) uint8 with a rectangle of random bytes, with ``probability``; else the image itself.

    :param rng: numpy Generator.
    """
    if rng.random() >= probability:
        return image
    height, width = image.shape[:2]
    for _ in range(TRIES):
        area = height * width * rng.uniform(*AREA)
        aspect = math.exp(rng.uniform(*map(math.log, ASPECT)))
        h, w = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < h < height and 0 < w < width:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            image = image.copy()
            image[top:top + h, left:left + w] = rng.integers(0, 256, (h, w, 3), np.uint8)
            return image
    return image

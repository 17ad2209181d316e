"""The operations of AutoAugment and its successors on one image: uint8 RGB (H,W,3) in and out.

Geometry is OpenCV's, with bilinear interpolation and gray where nothing is; colour is a table of 256 values or one
matrix, so an operation costs a pass over the image or two. Definitions are those of Cubuk et al., "AutoAugment", CVPR
2019, and of Pillow's ImageOps and ImageEnhance, from which released code takes them.
"""
import cv2
import numpy as np

GRAY = (128, 128, 128)
LUMA = np.array([0.299, 0.587, 0.114])
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13


def _warp(image, matrix):
    return cv2.warpAffine(image, np.float64(matrix), image.shape[1::-1], flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_CONSTANT, borderValue=GRAY)


def shear_x(image, share):
    """Move each row to the left by ``share`` times its distance from the centre."""
    return _warp(image, [[1, share, -share * (image.shape[0] - 1) / 2], [0, 1, 0]])


def shear_y(image, share):
    """Move each column upwards by ``share`` times its distance from the centre."""
    return _warp(image, [[1, 0, 0], [share, 1, -share * (image.shape[1] - 1) / 2]])


def translate_x(image, pixels):
    """Move the image to the left by ``pixels``."""
    return _warp(image, [[1, 0, pixels], [0, 1, 0]])


def translate_y(image, pixels):
    """Move the image upwards by ``pixels``."""
    return _warp(image, [[1, 0, 0], [0, 1, pixels]])


def rotate(image, degrees):
    """Turn the image about its centre, counter-clockwise."""
    centre = (image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2
    return cv2.warpAffine(image, cv2.getRotationMatrix2D(centre, degrees, 1), image.shape[1::-1],
                          flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=GRAY)


def _look_up(image, table):
    return cv2.LUT(image, np.clip(np.rint(table), 0, 255).astype(np.uint8))


def brightness(image, change):
    """Scale all values by 1 + ``change``."""
    return _look_up(image, np.arange(256) * (1 + change))


def contrast(image, change):
    """Scale the distance of all values from the mean gray of the image by 1 + ``change``."""
    mean = np.rint(LUMA @ cv2.mean(image)[:3])
    return _look_up(image, mean + (np.arange(256) - mean) * (1 + change))


def colour(image, change):
    """Scale the distance of each pixel from its own gray by 1 + ``change``."""
    return cv2.transform(image, (1 + change) * np.eye(3) - change * LUMA)


def sharpness(image, change):
    """Scale the distance of each pixel from the mean of its neighbourhood, in which it counts five times, by 1 + it."""
    smooth = cv2.filter2D(image, -1, SMOOTH)
    smooth[[0, -1]], smooth[:, [0, -1]] = image[[0, -1]], image[:, [0, -1]]
    return cv2.addWeighted(image, 1 + change, smooth, -change, 0)


def posterize(image, bits):
    """Keep the ``bits`` most significant bits of each value."""
    return image & np.uint8(256 - (1 << (8 - bits)))


def solarize(image, threshold):
    """Turn values of ``threshold`` and more into their negatives."""
    values = np.arange(256)
    return _look_up(image, np.where(values < threshold, values, 255 - values))


def auto_contrast(image):
    """Stretch each channel so that it runs from 0 to 255."""
    channels = cv2.split(image)  # each in one piece, of which the extremes are found twenty times as fast
    low, high = (np.array([float(getattr(channel, end)()) for channel in channels]) for end in ('min', 'max'))
    scale = np.where(high > low, 255 / np.maximum(high - low, 1), 1.0)
    shift = np.where(high > low, low, 0.0)
    # Pillow cuts fractions off.
    return _look_up(image, np.floor((np.arange(256)[:, None, None] - shift) * scale + 1e-6))


def equalize(image):
    """Spread the values of each channel so that all come about equally often."""
    tables = np.empty((256, 1, 3))
    for channel in range(3):
        counts = cv2.calcHist([image], [channel], None, [256], [0, 256]).reshape(-1).astype(np.int64)
        step = (counts.sum() - counts[np.flatnonzero(counts)[-1]]) // 255
        before = np.cumsum(counts) - counts
        tables[:, 0, channel] = np.minimum((before + step // 2) // step, 255) if step else np.arange(256)
    return _look_up(image, tables)

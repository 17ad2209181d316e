"""Decoding, turning and scaling images, by OpenCV; by Pillow and NumPy where that is not installed.

This package has both. The program that an export carries with it (:mod:`gluon_fgvc.deploy.single_file`) gets along with
one of them, and prepares images alike within rounding.
"""
import io

import numpy as np

try:
    import cv2
except ImportError:
    cv2 = None
try:
    from PIL import Image, ImageFile, UnidentifiedImageError
except ImportError:
    Image = ImageFile = UnidentifiedImageError = None
if cv2 is None and Image is None:
    raise ImportError('neither OpenCV nor Pillow is installed: pip install opencv-python-headless, or pillow')

_STRIP = 1 << 20  # numbers that are scaled at once


def decode(data, reduction=1):
    """Return a JPEG, PNG or still WebP as it is stored, (H,W,3) uint8 RGB, or None if it cannot be decoded.

    :param reduction: 2, 4 or 8 divides the sides of a JPEG by that, rounded up.
    """
    return _decode_by_pillow(data, reduction) if cv2 is None else _decode_by_opencv(data, reduction)


def _decode_by_opencv(data, reduction):
    flag = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}[reduction]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flag | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        return None
    if image is None or image.ndim != 3 or image.shape[2] != 3:
        return None
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)


def _decode_by_pillow(data, reduction):
    ImageFile.LOAD_TRUNCATED_IMAGES = False
    try:
        with Image.open(io.BytesIO(data), formats=['JPEG', 'PNG', 'WEBP']) as image:
            if reduction > 1:
                image.draft(None, tuple(max(1, side // reduction) for side in image.size))
            if image.mode.startswith('I'):  # 16 bits of gray, whose upper half counts
                return np.repeat((np.asarray(image) >> 8).astype(np.uint8)[..., None], 3, axis=2)
            return np.array(image.convert('RGB'))
    except MemoryError:
        raise
    except Exception:  # whatever a reader of Pillow stumbles over
        return None


def upright(image, orientation):
    """Return ``image`` (H,W,3), stored in ``orientation``, 1 to 8, upright and contiguous."""
    if cv2 is None:
        image = image.transpose(1, 0, 2) if orientation >= 5 else image
        down, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
        return np.ascontiguousarray(image[::-1 if down else 1, ::-1 if right else 1])
    if orientation in (5, 7):
        image = cv2.transpose(image)
    if orientation in (6, 8):
        return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE)
    axis = {2: 1, 3: -1, 4: 0, 7: -1}.get(orientation)
    return image if axis is None else cv2.flip(image, axis)


def rescale(image, size):
    """Return ``image``, (H,W,3) uint8, at ``size``, (height, width): by area averaging if no side grows, else bilinear.
    """
    if size == image.shape[:2]:
        return image
    shrinks = size[0] <= image.shape[0] and size[1] <= image.shape[1]
    if cv2 is not None:
        return cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    down, right = (_weights(old, new, shrinks) for old, new in zip(image.shape, size))
    flat, rows = image.reshape(len(image), -1), np.empty((size[0], image[0].size), np.float32)
    step = max(1, _STRIP // len(image))
    for first in range(0, flat.shape[1], step):
        rows[:, first:first + step] = down @ flat[:, first:first + step].astype(np.float32)
    scaled = right @ rows.reshape(size[0], -1, 3)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def _weights(old, new, area):
    """Return (new, old): how much each of ``old`` places counts in each of ``new`` places; rows add up to 1."""
    places, step = np.arange(old), old / new
    if area:
        edges = np.arange(new + 1) * step
        overlap = np.minimum(edges[1:, None], places + 1) - np.maximum(edges[:-1, None], places)
        return (np.maximum(overlap, 0) / step).astype(np.float32)
    centres = np.clip((np.arange(new) + 0.5) * step - 0.5, 0, old - 1)
    return np.maximum(1 - np.abs(centres[:, None] - places), 0).astype(np.float32)

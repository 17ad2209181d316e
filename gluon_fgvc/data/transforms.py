"""Preparing images: uint8 RGB in, uint8 RGB out; the network itself normalises.

A transform takes an array or a :class:`~gluon_fgvc.data.images.Picture`, which it has decoded no larger
than it needs. Shrinking uses area averaging and enlarging bilinear interpolation (area only where neither side
grows). The shorter-side rule keeps the aspect and rounds the longer side down. All randomness comes
from the generator that is passed in.
"""
import math
from dataclasses import replace

import cv2
import numpy as np

from gluon_fgvc.choices import VIEWS
from gluon_fgvc.data import policies
from gluon_fgvc.data.erasing import erase
from gluon_fgvc.data.images import MAX_PIXELS, BrokenImage, Picture
from gluon_fgvc.data.pixels import rescale
from gluon_fgvc.errors import ConfigError, DataError, did_you_mean

CROP_TRIES = 10
MARGIN = 1.5  # how many times larger than needed pictures are decoded, so that shrinking them decides what is seen
LUMA = np.array([0.299, 0.587, 0.114])
# Of the colours of ImageNet's pixels: square roots of variances on [0, 255], and directions (columns) in RGB.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
PRINCIPAL_COLOURS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


def resize(image, size):
    """Scale ``image``, an array (H,W,3) or a Picture: ``size`` is the new shorter side, or (height, width)."""
    size = _resized(image.shape, size)
    if size[0] * size[1] > MAX_PIXELS:  # a strip of a few pixels: its long side grows as its short one
        reason = (f'{image.shape[0]} x {image.shape[1]} (height x width), resized to {size[0]} x {size[1]}, would have '
                  f'more than {MAX_PIXELS:,} pixels; cut it, or set resize: [height, width]')
        name = f"cannot use image '{image.path}': " if isinstance(image, Picture) else ''
        raise BrokenImage(name + reason, reason)
    return rescale(_pixels(image, _reduction(image.shape, size))[0], size)


def _resized(shape, size):
    """Return (height, width) that an image of ``shape`` is scaled to."""
    if not isinstance(size, int):
        return size or tuple(shape[:2])
    height, width = shape[:2]
    short = min(height, width)
    return size * height // short, size * width // short


def _first_step(image, size):
    return resize(image, size) if size else _pixels(image)[0]


def _reduction(shape, size):
    """Return 8, 4, 2 or 1: what shrinks from ``shape`` to ``size`` may be decoded at that fraction of its size."""
    return next((factor for factor in (8, 4, 2) if all(side >= MARGIN * factor * wanted
                                                       for side, wanted in zip(shape, size))), 1)


def _pixels(image, factor=1):
    """Return (array, by how much its sides are divided), which is ``factor`` or, where that cannot be had, 1."""
    if isinstance(image, np.ndarray):
        return image, 1
    factor = factor if image.reducible else 1
    return image.pixels(factor), factor


class EvalTransform:
    """Prepare an image for anything but training; see :class:`~gluon_fgvc.config.EvalView`.

    :param place: where the crop lies, as shares of the room down and right; the view's own place is the centre.
    :param mirror: swap left and right at the end.

    :raises ConfigError: if the view contradicts itself.
    """

    __test__ = False  # not a test case, whatever its name says to pytest
    random = False    # whether an image can come out differently from epoch to epoch

    def __init__(self, view, place=(0.5, 0.5), mirror=False):
        _check_crop('data.eval', view)
        self._view, self._place, self._mirror = view, place, mirror
        self.output_size = _output_size(view)

    def fixed(self, image):
        """Return ``image`` after the steps before anything random: an array that may take its place."""
        return _first_step(image, self._view.resize)

    def size_of(self, shape):
        """Return (height, width) of what an image of ``shape`` becomes."""
        return self.output_size or _resized(shape, self._view.resize)

    def shown(self, shape):
        """Return which part of an image of ``shape`` is kept: (x, y, width, height) in its pixels.

        :raises DataError: if the image is smaller than the crop.
        """
        size = _resized(shape, self._view.resize)
        top, left = self._corner(size) if self._view.crop else (0, 0)
        height, width = self.size_of(shape)
        down, right = shape[0] / size[0], shape[1] / size[1]
        return left * right, top * down, width * right, height * down

    def box(self, box, shape):
        """Return where ``box``, (x, y, width, height) in an image of ``shape``, lies in the prepared image, uncut.

        :raises DataError: if the image is smaller than the crop.
        """
        size = _resized(shape, self._view.resize)
        x, y, width, height = box * np.array([size[1] / shape[1], size[0] / shape[0]] * 2)
        if self._view.crop:
            top, left = self._corner(size)
            x, y, size = x - left, y - top, self.output_size
        return np.array([size[1] - x - width if self._mirror else x, y, width, height])

    def _corner(self, shape):
        return tuple(int(share * room) for share, room in zip(self._place, _room(shape, self._view.crop, 'data.eval')))

    def __call__(self, image, rng=None):
        """Prepare ``image``, (H,W,3) uint8 or a Picture; ``rng`` is not used.

        :raises DataError: if the image is smaller than the crop.
        """
        view, image = self._view, self.fixed(image)
        if view.crop:
            image = _cut(image, *self._corner(image.shape), view.crop)
        return np.ascontiguousarray(image[:, ::-1] if self._mirror else image)


class TrainTransform:
    """Prepare a training image; see :class:`~gluon_fgvc.config.TrainView` for what happens in which order.

    :raises ConfigError: if the view contradicts itself.
    """

    def __init__(self, view):
        if view.random_resized_crop:
            for key in ('resize', 'pad', 'crop'):
                if getattr(view, key):
                    raise ConfigError(f'data.train: random_resized_crop {view.random_resized_crop} replaces '
                                      f'{key} {getattr(view, key)}; give one of them')
        for key in ('scale', 'ratio'):
            low, high = getattr(view, key)
            if low > high:
                raise ConfigError(f'data.train.{key}: [{low}, {high}] must not fall')
        if view.pad and not view.crop:
            raise ConfigError(f'data.train.pad {view.pad} enlarges images that nothing crops; set data.train.crop')
        _check_crop('data.train', view, 2 * view.pad)
        side = view.random_resized_crop
        self._view, self._policy = view, policies.of(view.policy)
        self.random = bool(view.random_resized_crop or view.crop or view.flip or view.flip_vertical or view.transpose
                           or view.rotation or view.color_jitter or view.pca_noise or self._policy or view.erasing)
        self.output_size = (side, side) if side else _output_size(view)
        if view.transpose and self.output_size and self.output_size[0] != self.output_size[1]:
            raise ConfigError(f'data.train.transpose needs square images, not {list(self.output_size)}; '
                              'set transpose: false or a square size')

    def fixed(self, image):
        """Return ``image`` after the steps before anything random: an array that may take its place."""
        return _first_step(image, self._view.resize)

    def __call__(self, image, rng):
        """Prepare ``image``, (H,W,3) uint8 or a Picture, with the numpy Generator ``rng``.

        :raises DataError: if the image is smaller than the crop.
        """
        view = self._view
        if view.random_resized_crop:
            image = _random_resized_crop(image, view.random_resized_crop, view.scale, view.ratio, rng)
        else:
            image = self.fixed(image)
        if view.pad:
            image = cv2.copyMakeBorder(image, *(view.pad,) * 4, borderType=cv2.BORDER_REFLECT_101)
        if view.crop:
            top, left = _room(image.shape, view.crop, 'data.train')
            image = _cut(image, rng.integers(top + 1), rng.integers(left + 1), view.crop)
        if view.flip and rng.random() < 0.5:
            image = image[:, ::-1]
        if view.flip_vertical and rng.random() < 0.5:
            image = image[::-1]
        if view.transpose and rng.random() < 0.5:
            image = image.transpose(1, 0, 2)
        image = np.ascontiguousarray(image)
        if view.rotation:
            image = _rotate(image, rng.uniform(-view.rotation, view.rotation))
        if view.color_jitter:
            image = _jitter(image, *rng.uniform(1 - view.color_jitter, 1 + view.color_jitter, 3))
        if view.pca_noise:
            image = _recolour(image, rng.normal(0, view.pca_noise, 3))
        if self._policy:
            image = self._policy(image, rng)
        return erase(image, view.erasing, rng) if view.erasing else image


_SCALES, _STEP = (1, 0.8, 1.25), 32  # sides stay multiples of what networks halve to


def eval_views(view, kind=None):
    """Return the transforms of test-time augmentation ``kind``; the first is the plain ``EvalTransform(view)``.

    :param kind: None for that one alone; 'flip' adds its mirror image; 'ten_crop' the four corners and the mirror
        images of all five (Krizhevsky et al. 2012); 'multi_scale' sizes of about 4/5 and 5/4, with the same part of
        the image in view, in multiples of 32 px.
    :raises ConfigError: if there is no such kind or the view lacks the size that it varies.
    """
    if kind is None:
        return [EvalTransform(view)]
    if kind == 'flip':
        return [EvalTransform(view), EvalTransform(view, mirror=True)]
    if kind == 'ten_crop':
        if not view.crop:
            raise ConfigError('ten_crop needs data.eval.crop, smaller than the image; there is none')
        places = ((0.5, 0.5), (0, 0), (0, 1), (1, 0), (1, 1))
        return [EvalTransform(view, place, mirror) for mirror in (False, True) for place in places]
    if kind == 'multi_scale':
        return [EvalTransform(_scaled(view, scale)) for scale in _SCALES]
    raise ConfigError(f"unknown test-time augmentation '{kind}'{did_you_mean(kind, VIEWS)}")


def _scaled(view, scale):
    if scale == 1:
        return view
    if not view.resize:
        raise ConfigError('multi_scale needs data.eval.resize; there is none')

    def scaled(side):
        return max(_STEP, round(side * scale / _STEP) * _STEP)

    if isinstance(view.resize, tuple):
        return replace(view, resize=tuple(map(scaled, view.resize)), crop=view.crop and scaled(view.crop))
    if not view.crop:
        return replace(view, resize=scaled(view.resize))
    crop = scaled(view.crop)
    return replace(view, resize=max(crop, round(view.resize * crop / view.crop)), crop=crop)


def _check_crop(section, view, padding=0):
    if view.crop and view.resize:
        short = padding + (view.resize if isinstance(view.resize, int) else min(view.resize))
        if short < view.crop:
            raise ConfigError(f'{section}.crop {view.crop} is larger than {section}.resize '
                              f'{view.resize if isinstance(view.resize, int) else list(view.resize)}')


def _output_size(view):
    """Return (height, width) where it does not depend on the image, else None."""
    if view.crop:
        return view.crop, view.crop
    return view.resize if isinstance(view.resize, tuple) else None


def _room(shape, crop, section):
    """Return how far a crop can move down and right."""
    height, width = shape[:2]
    if min(height, width) < crop:
        raise DataError(f'the image is {height} x {width} (height x width), smaller than {section}.crop {crop}; '
                        f'set {section}.resize to at least {crop}')
    return height - crop, width - crop


def _cut(image, top, left, side):
    return image[top:top + side, left:left + side]


def _random_resized_crop(image, side, scale, ratio, rng):
    """Cut out a part of random area and aspect and make it ``side`` x ``side``.

    As torchvision and Gluon do: ten tries, then the largest centred part whose aspect is allowed.
    """
    height, width = image.shape[:2]
    for _ in range(CROP_TRIES):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
            break
    else:
        aspect = min(max(width / height, ratio[0]), ratio[1])
        w, h = min(width, max(1, round(height * aspect))), min(height, max(1, round(width / aspect)))
        top, left = (height - h) // 2, (width - w) // 2
    # Edges that a picture decoded at a fraction of its size has as well: both show the same part.
    factor = _reduction((h, w), (side, side))
    top, bottom, left, right = (round(edge / factor) * factor for edge in (top, top + h, left, left + w))
    pixels, factor = _pixels(image, factor)
    return rescale(pixels[top // factor:-(-bottom // factor), left // factor:-(-right // factor)], (side, side))


def _rotate(image, degrees):
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)


def _jitter(image, brightness, contrast, saturation):
    """Scale the image, its distance from its mean gray, and each pixel's distance from its gray, in that order.

    All three are affine in the colour, so one matrix does it, with one rounding at the end.
    """
    mean = brightness * float(LUMA @ cv2.mean(image)[:3])
    mix = saturation * np.eye(3) + (1 - saturation) * LUMA
    matrix = np.hstack([contrast * brightness * mix, np.full((3, 1), (1 - contrast) * mean)])
    return cv2.transform(image, matrix)


def _recolour(image, strengths):
    """Add one colour to the whole image: ImageNet's principal components, times their eigenvalues and ``strengths``.

    Krizhevsky et al., NIPS 2012, Sec. 4.1.
    """
    colour = PRINCIPAL_COLOURS @ (EIGENVALUES * strengths)
    table = np.clip(np.rint(np.arange(256)[:, None] + colour), 0, 255).astype(np.uint8)  # of each byte and channel
    return cv2.LUT(image, table[None])

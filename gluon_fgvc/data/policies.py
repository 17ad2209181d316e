"""Which random operations an image goes through: TrivialAugment and RandAugment.

All numbers come from the generator that is passed in, the same number of them whatever is drawn, so that an image of
an epoch depends on (seed, epoch, index) alone.
"""
from functools import partial

from gluon_fgvc.data import operations as op

LEVELS = 31  # strengths that are drawn from, as in both papers' code


def _signed(operation, most):
    """Return strength in [0, 1], sign → what changes an image by up to ``most``, either way."""
    return lambda strength, sign: partial(operation, **{_VALUE[operation]: sign * strength * most})


_VALUE = {op.shear_x: 'share', op.shear_y: 'share', op.translate_x: 'pixels', op.translate_y: 'pixels',
          op.rotate: 'degrees', op.brightness: 'change', op.colour: 'change', op.contrast: 'change',
          op.sharpness: 'change'}


def _operations(shear, degrees, enhance, fewest_bits):
    """Return the 14 operations, but for translation, as strength, sign → image → image."""
    return [lambda strength, sign: lambda image: image,
            _signed(op.shear_x, shear), _signed(op.shear_y, shear), _signed(op.rotate, degrees),
            *(_signed(operation, enhance) for operation in (op.brightness, op.colour, op.contrast, op.sharpness)),
            lambda strength, sign: partial(op.posterize, bits=8 - round(strength * (8 - fewest_bits))),
            lambda strength, sign: partial(op.solarize, threshold=256 - round(strength * 256)),
            lambda strength, sign: op.auto_contrast, lambda strength, sign: op.equalize]


class TrivialAugment:
    """One operation, drawn evenly, at a strength drawn evenly: Müller and Hutter, ICCV 2021, Sec. 3 and Table 6, wide.

    Translation is by up to 32 pixels, whatever the size of the image, as in the paper.
    """

    _OPERATIONS = [*_operations(shear=0.99, degrees=135, enhance=0.99, fewest_bits=2),
                   _signed(op.translate_x, 32), _signed(op.translate_y, 32)]

    def __init__(self, settings=None):
        del settings  # it has none

    def __call__(self, image, rng):
        """Return ``image``, (H,W,3) uint8, after an operation drawn from the numpy Generator ``rng``."""
        return _drawn(self._OPERATIONS, rng, rng.integers(LEVELS) / (LEVELS - 1))(image)


class RandAugment:
    """``operations`` drawn evenly, with replacement, all of strength ``magnitude``/30: Cubuk et al., NeurIPS 2020.

    Translation is by up to 0.45 of the side.
    """

    _OPERATIONS = _operations(shear=0.3, degrees=30, enhance=0.9, fewest_bits=4)

    def __init__(self, settings):
        self._count, self._strength = settings.operations, settings.magnitude / (LEVELS - 1)

    def __call__(self, image, rng):
        """Return ``image``, (H,W,3) uint8, after operations drawn from the numpy Generator ``rng``."""
        moves = [_signed(op.translate_x, 0.45 * image.shape[1]), _signed(op.translate_y, 0.45 * image.shape[0])]
        for _ in range(self._count):
            image = _drawn([*self._OPERATIONS, *moves], rng, self._strength)(image)
        return image


def _drawn(choices, rng, strength):
    return choices[rng.integers(len(choices))](strength, 1 - 2 * int(rng.integers(2)))


_POLICIES = {'none': lambda settings: None, 'trivial_augment': TrivialAugment, 'rand_augment': RandAugment}


def of(settings):
    """Return the policy that ``settings``, of ``data.train.policy``, name: a callable (image, rng) → image, or None."""
    return _POLICIES[settings.name](settings)

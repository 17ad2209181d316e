"""Looking at one image: can it be read, is it what its name says, how is it stored, what is its fingerprint."""
import hashlib
import io
import os
import warnings
from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from gluon_fgvc.data.doctor import fingerprints
from gluon_fgvc.data.images import PNG, BrokenImage, ImageWarning, Picture

DETAIL = 64   # pixels that the shorter side keeps, at least, when a JPEG is decoded at reduced size
ENOUGH = 256  # pixels of the shorter side; more add nothing to a fingerprint
SAME_FORMAT = {'MPO': 'JPEG'}  # a JPEG with further pictures after it, as some cameras write


class Inspection(NamedTuple):
    """What one look at an image gives; without a ``fingerprint`` it could not be read."""

    digest: bytes                                # of the file's bytes, or of the pixels where they are no file
    problems: Tuple[Tuple[str, str], ...] = ()   # (kind, detail)
    format: Optional[str] = None                 # e.g. 'JPEG'
    size: Optional[Tuple[int, int]] = None       # width, height, upright
    gray: Optional[bool] = None
    hash: Optional[np.ndarray] = None            # (BITS,) bool
    thumbnail: Optional[np.ndarray] = None       # (SIDE,SIDE,3) uint8

    @property
    def readable(self):
        return self.hash is not None


def inspect(image_set, index):
    """Inspect image ``index`` of an :class:`~gluon_fgvc.data.base.ImageSet`."""
    path = image_set.paths[index]
    try:
        image = image_set.open(index)
        return _inspect_picture(image, path) if isinstance(image, Picture) else _inspect_array(image)
    except BrokenImage as error:
        return Inspection(b'', (('truncated' if error.truncated else 'unreadable', error.reason),))


def _inspect_array(image):
    return Inspection(_digest(np.ascontiguousarray(image), repr(image.shape).encode()), size=image.shape[1::-1],
                      **_looks(image))


def _inspect_picture(picture, path):
    reduction = next((r for r in (8, 4, 2) if picture.reducible and min(picture.shape) >= r * DETAIL), 1)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter('always', ImageWarning)
        image = picture.pixels(reduction)
    form, problems = _storage(picture.data, path)
    problems += tuple(('damaged', str(warning.message)) for warning in told if warning.category is ImageWarning)
    return Inspection(_digest(picture.data), problems, form, picture.shape[::-1], **_looks(image))


def _storage(data, path):
    """Return the format of a file and its (kind, detail) problems, as its head tells them."""
    try:
        with Image.open(io.BytesIO(data)) as head:
            form, problems = SAME_FORMAT.get(head.format, head.format), list(_modes(data, head))
    except (OSError, ValueError, SyntaxError):  # OpenCV was content with it
        return None, ()
    extension = os.path.splitext(path)[1].lower()
    expected = Image.registered_extensions().get(extension)
    if expected and SAME_FORMAT.get(expected, expected) != form:
        problems.append(('wrong_extension', f'a {form} file named {extension}'))
    return form, tuple(problems)


def _digest(*parts):
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.digest()


def _modes(data, head):
    """Yield the ways of storing pixels that do not reach the network as they are: CMYK, transparency, 16 bits."""
    if head.mode == 'CMYK':
        yield 'cmyk', 'CMYK colours are converted'
    if head.mode in ('RGBA', 'LA', 'PA', 'RGBa', 'La') or 'transparency' in head.info:
        yield 'alpha', 'transparency is dropped'
    # Pillow gives 16-bit colour as 'RGB'.
    if head.mode.startswith(('I', 'F')) or data.startswith(PNG) and data[24] == 16:
        yield '16-bit', 'only the upper 8 of 16 bits are used'


def _looks(image):
    height, width = image.shape[:2]
    if min(height, width) > ENOUGH:
        scale = ENOUGH / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    spread = image.max(-1).astype(np.int16) - image.min(-1)
    return {'gray': bool((spread > 2).mean() < 0.001), 'hash': fingerprints.perceptual_hash(image),
            'thumbnail': fingerprints.thumbnail(image)}

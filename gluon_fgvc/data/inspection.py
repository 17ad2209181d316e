"""Looking at one image: can it be read, is it what its name says, how is it stored, what is its fingerprint."""
import hashlib
import io
import os
from typing import NamedTuple, Optional, Tuple

import cv2
import numpy as np
from PIL import Image

from gluon_fgvc.data import fingerprints
from gluon_fgvc.data.images import PNG, Broken, decode
from gluon_fgvc.errors import DataError

DETAIL = 64   # pixels that the shorter side keeps, at least, when a JPEG is decoded at reduced size
ENOUGH = 256  # pixels of the shorter side; more add nothing to a fingerprint
SAME_FORMAT = {'MPO': 'JPEG'}  # a JPEG with further pictures after it, as some cameras write


class Inspection(NamedTuple):
    """What one look at an image gives; without a ``fingerprint`` it could not be read."""

    digest: bytes                                # of the file's bytes, or of the pixels where there is no file
    problems: Tuple[Tuple[str, str], ...] = ()   # (kind, detail)
    format: Optional[str] = None                 # e.g. 'JPEG'
    size: Optional[Tuple[int, int]] = None       # width, height as stored
    gray: Optional[bool] = None
    hash: Optional[np.ndarray] = None            # (BITS,) bool
    thumbnail: Optional[np.ndarray] = None       # (SIDE,SIDE,3) uint8

    @property
    def readable(self):
        return self.hash is not None


def inspect(image_set, index):
    """Inspect image ``index`` of an :class:`~gluon_fgvc.data.base.ImageSet`: its file, or what its reader gives."""
    if getattr(image_set, 'reader', None) is None:
        return inspect_file(image_set.paths[index])
    try:
        image = image_set.read(index)
    except DataError as error:
        return Inspection(_digest(image_set.paths[index].encode()), (('unreadable', str(error)),))
    digest = _digest(np.ascontiguousarray(image), repr(image.shape).encode())
    return Inspection(digest, size=image.shape[1::-1], **_looks(image))


def inspect_file(path):
    """Inspect the image file at ``path``."""
    try:
        with open(path, 'rb') as stream:
            data = stream.read()
    except OSError as error:
        return Inspection(_digest(os.fsencode(path)), (('unreadable', error.strerror),))
    problems = []
    try:
        # The head alone; pixels are decoded below, by what decodes them in training.
        with Image.open(io.BytesIO(data)) as head:
            form, size = SAME_FORMAT.get(head.format, head.format), head.size
            problems += _modes(data, head)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        form = size = None
    try:
        image = decode(data, _reduced(form, size))
    except Broken as error:
        return Inspection(_digest(data), (('truncated' if error.truncated else 'unreadable', str(error)),), form, size)
    extension = os.path.splitext(path)[1].lower()
    expected = Image.registered_extensions().get(extension)
    if form and expected and SAME_FORMAT.get(expected, expected) != form:
        problems.append(('wrong_extension', f'a {form} file named {extension}'))
    return Inspection(_digest(data), tuple(problems), form, size, **_looks(image))


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


def _reduced(form, size):
    if form == 'JPEG':
        for factor in (8, 4, 2):
            if min(size) >= factor * DETAIL:
                return getattr(cv2, f'IMREAD_REDUCED_COLOR_{factor}')
    return cv2.IMREAD_COLOR


def _looks(image):
    height, width = image.shape[:2]
    if min(height, width) > ENOUGH:
        scale = ENOUGH / min(height, width)
        image = cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)
    spread = image.max(-1).astype(np.int16) - image.min(-1)
    return {'gray': bool((spread > 2).mean() < 0.001), 'hash': fingerprints.perceptual_hash(image),
            'thumbnail': fingerprints.thumbnail(image)}

"""Reading one image file, with a reason when it cannot be read."""
import io
import os
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from gluon_fgvc.errors import DataError

MAX_PIXELS = 100_000_000  # a file of a few kilobytes can claim billions of pixels
JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'
EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')


class BrokenImage(DataError):
    """One image that cannot be read; ``data.bad_image`` says what then.

    Attributes: ``reason``, the message without the name; ``truncated``, whether an image began and ended too early.
    """

    def __init__(self, message, reason=None, truncated=False):
        super().__init__(message)
        self.reason, self.truncated = reason or message, truncated


class Picture:
    """An image whose size is known and whose pixels are decoded when they are asked for.

    Gray files give three equal channels, 16-bit channels keep their upper 8 bits, CMYK is converted,
    transparency is dropped (the colour stored beneath it shows), EXIF orientation is applied, and of an
    animation the first frame is read. JPEG and PNG are decoded by OpenCV, other formats by Pillow.

    Attributes: ``path``; ``data``, the bytes of the file; ``shape``, (height, width) upright; ``reducible``, whether
    pixels of a fraction of the size can be had.
    """

    def __init__(self, path, data=None):
        """Read the file ``path``, or take the bytes ``data`` of one, which ``path`` then only names.

        :raises BrokenImage: naming the file and why: missing, 0 bytes, not an image, truncated or too large.
        """
        self.path, self.data = os.fspath(path), data
        with self._named():
            if data is None:
                with open(path, 'rb') as stream:
                    self.data = stream.read()
            if not self.data:
                raise _Broken('it has 0 bytes')
            self._jpeg, self._decoded = self.data.startswith(JPEG), None
            if self._jpeg:
                self.shape, orientation = _check_jpeg(self.data)
                if orientation is None:  # only the decoder knows what it makes of that
                    self._decoded = _decode(self.data)
                    self.shape = self._decoded.shape[:2]
                elif orientation >= 5:  # lying on its side
                    self.shape = self.shape[::-1]
            elif self.data.startswith(PNG):
                self.shape = _check_png(self.data)
            else:
                self._decoded = _decode_other(self.data)
                self.shape = self._decoded.shape[:2]
        self.reducible = self._jpeg and self._decoded is None

    def pixels(self, reduction=1):
        """Return the image: (H,W,3) uint8 RGB.

        :param reduction: 2, 4 or 8 gives a JPEG with its sides divided by that and rounded up. Its decoder leaves
            out the high frequencies, which is several times faster.

        :raises BrokenImage: naming the file, if its contents are corrupt.
        """
        if reduction != 1 and not self.reducible:
            raise ValueError(f"'{self.path}' cannot be decoded at 1/{reduction} of its size")
        if self._decoded is not None:
            return self._decoded
        with self._named():
            image = _decode(self.data, reduction)
            if image.shape[:2] != tuple(-(-side // reduction) for side in self.shape):
                raise _Broken(f'it says that it has {self.shape[0]} x {self.shape[1]} pixels, and has others')
        return image

    @contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            raise BrokenImage(f"cannot read image '{self.path}': {error.strerror}", error.strerror) from None
        except _Broken as error:
            raise BrokenImage(f"cannot read image '{self.path}': {error}", str(error), error.truncated) from None


def read_image(path):
    """Read ``path`` as :class:`Picture` does.

    :returns: (H,W,3) uint8 RGB.
    :raises BrokenImage: naming the file and why: missing, 0 bytes, not an image, truncated, corrupt, or
        more than ``MAX_PIXELS`` pixels.
    """
    return Picture(path).pixels()


class _Broken(Exception):
    """Why the bytes are not an image, and whether they are the beginning of one."""

    def __init__(self, reason, truncated=False):
        super().__init__(reason)
        self.truncated = truncated


_REDUCED = {1: cv2.IMREAD_COLOR, 2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4,
            8: cv2.IMREAD_REDUCED_COLOR_8}


def _decode(data, reduction=1):
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[reduction])
    except cv2.error:
        image = None
    if image is None:
        raise _Broken('its contents are corrupt')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)


def _check_pixels(width, height):
    if width * height > MAX_PIXELS:
        raise _Broken(f'{width} x {height} are more than {MAX_PIXELS:,} pixels; scale it down')


def _check_jpeg(data):
    """Walk the segments up to the first scan; OpenCV fills what a truncated file lacks with gray.

    :returns: (height, width) as stored, and the EXIF orientation, 1 to 8, or None if it cannot be read.
    """
    position, shape, orientation = 2, None, 1
    while True:
        position = data.find(b'\xff', position)
        while position >= 0 and data[position + 1:position + 2] == b'\xff':
            position += 1
        if position < 0 or position + 4 > len(data):
            raise _Broken('it is truncated: the JPEG ends within its header', truncated=True)
        marker, length = data[position + 1], int.from_bytes(data[position + 2:position + 4], 'big')
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[position + i:position + i + 2], 'big') for i in (5, 7))
            _check_pixels(width, height)
            shape = height, width
        elif marker == 0xE1 and data.startswith(b'Exif\0\0', position + 4):
            orientation = _orientation(data[position + 4:position + 2 + length])
        position += 2 + length
        if marker == 0xDA:
            break
    # In the scans 0xff is followed by 0 or a restart marker, so this cannot be anything but the end.
    if data.rfind(b'\xff\xd9', position) < 0:
        raise _Broken('it is truncated: the JPEG has no end marker', truncated=True)
    if not shape:
        raise _Broken('its contents are corrupt')
    return shape, orientation


def _orientation(segment):
    exif = Image.Exif()
    try:
        exif.load(segment)
        value = exif.get(0x0112, 1)
    except Exception:  # whatever Pillow makes of malformed tags
        return None
    return value if value in range(1, 9) else None


def _check_png(data):
    width, height = (int.from_bytes(data[i:i + 4], 'big') for i in (16, 20))
    _check_pixels(width, height)
    if data.rfind(PNG_END) < 0:
        raise _Broken('it is truncated: the PNG has no end chunk', truncated=True)
    return height, width


def _decode_other(data):
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP' and 8 + int.from_bytes(data[4:8], 'little') > len(data):
        raise _Broken('it is truncated: the WebP ends early', truncated=True)
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing gluoncv sets it, for the whole process
    try:
        with Image.open(io.BytesIO(data)) as image:
            _check_pixels(*image.size)
            if image.mode not in EIGHT_BIT_MODES:
                raise _Broken(f"{image.format} with pixels of mode '{image.mode}' is not supported; convert it to PNG")
            return np.array(ImageOps.exif_transpose(image).convert('RGB'))
    except UnidentifiedImageError:
        raise _Broken(f'it is not an image; it starts with {data[:16]!r}') from None
    except Image.DecompressionBombError:
        raise _Broken(f'it claims more than {MAX_PIXELS:,} pixels') from None
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise _Broken(f'it is truncated or corrupt: {error}', 'truncated' in str(error)) from None

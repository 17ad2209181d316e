"""Reading one image file, with a reason when it cannot be read."""
import io
import os

import cv2
import numpy as np
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError

from gluon_fgvc.errors import DataError

MAX_PIXELS = 100_000_000  # a file of a few kilobytes can claim billions of pixels
JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
PNG_END = b'IEND\xaeB`\x82'
EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')


def read_image(path):
    """Read ``path`` as RGB.

    Gray files give three equal channels, 16-bit channels keep their upper 8 bits, CMYK is converted,
    transparency is dropped (the colour stored beneath it shows), EXIF orientation is applied, and of an
    animation the first frame is read. JPEG and PNG are decoded by OpenCV, other formats by Pillow.

    :returns: (H,W,3) uint8.
    :raises DataError: naming the file and why: missing, 0 bytes, not an image, truncated, corrupt, or
        more than ``MAX_PIXELS`` pixels.
    """
    path = os.fspath(path)
    try:
        with open(path, 'rb') as stream:
            data = stream.read()
        return _decode(data)
    except OSError as error:
        raise DataError(f"cannot read image '{path}': {error.strerror}") from None
    except _Broken as error:
        raise DataError(f"cannot read image '{path}': {error}") from None


class _Broken(Exception):
    """Why the bytes are not an image."""


def _decode(data):
    if not data:
        raise _Broken('it has 0 bytes')
    if data.startswith(JPEG):
        _check_jpeg(data)
    elif data.startswith(PNG):
        _check_png(data)
    else:
        return _decode_other(data)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise _Broken('its contents are corrupt')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, image)


def _check_pixels(width, height):
    if width * height > MAX_PIXELS:
        raise _Broken(f'{width} x {height} are more than {MAX_PIXELS:,} pixels; scale it down')


def _check_jpeg(data):
    """Walk the segments up to the first scan; OpenCV fills what a truncated file lacks with gray."""
    position = 2
    while True:
        position = data.find(b'\xff', position)
        while position >= 0 and data[position + 1:position + 2] == b'\xff':
            position += 1
        if position < 0 or position + 4 > len(data):
            raise _Broken('it is truncated: the JPEG ends within its header')
        marker, length = data[position + 1], int.from_bytes(data[position + 2:position + 4], 'big')
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = (int.from_bytes(data[position + i:position + i + 2], 'big') for i in (5, 7))
            _check_pixels(width, height)
        position += 2 + length
        if marker == 0xDA:
            break
    # In the scans 0xff is followed by 0 or a restart marker, so this cannot be anything but the end.
    if data.rfind(b'\xff\xd9', position) < 0:
        raise _Broken('it is truncated: the JPEG has no end marker')


def _check_png(data):
    width, height = (int.from_bytes(data[i:i + 4], 'big') for i in (16, 20))
    _check_pixels(width, height)
    if data.rfind(PNG_END) < 0:
        raise _Broken('it is truncated: the PNG has no end chunk')


def _decode_other(data):
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
        raise _Broken(f'it is truncated or corrupt: {error}') from None

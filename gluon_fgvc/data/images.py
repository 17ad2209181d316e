"""Reading one image file, with a reason when it cannot be read: the one way from a file to pixels.

The orientation is read once, by Pillow, from EXIF, XMP or the text of a PNG; the pixels are decoded as they are
stored, and turned here. So one photograph looks the same in every container, whatever a decoder knows of orientation.

JPEG, PNG and still WebP are decoded by OpenCV, which is fast, spares memory and can decode a JPEG at a fraction of its
size; of a PNG it is handed only the chunks of the still picture, as its code for animations trusts what it reads. Other
formats are decoded by Pillow, and none but those of ``PILLOW_FORMATS``: some of its readers start other programs.
"""
import errno
import io
import os
import stat
import threading
import warnings
from contextlib import contextmanager

import numpy as np

from gluon_fgvc.data import orientation
from gluon_fgvc.data.pixels import Image, ImageFile, UnidentifiedImageError, decode, upright
from gluon_fgvc.errors import DataError

# How the names of such files end; folders are searched for these.
EXTENSIONS = ('.jpg', '.jpeg', '.jfif', '.jpe', '.png', '.apng', '.webp', '.bmp', '.dib', '.gif', '.tif', '.tiff',
              '.ppm', '.pgm', '.pbm', '.pnm', '.avif')
PILLOW_FORMATS = ('BMP', 'DIB', 'GIF', 'TIFF', 'WEBP', 'PPM', 'AVIF', 'JPEG2000', 'TGA', 'ICO')

MAX_PIXELS = 100_000_000  # a file of a few kilobytes can claim billions of pixels
# Animated WebP, and formats whose decoders hold the pixels several times over: no reading takes more than 12 bytes a
# pixel and 64 MiB.
FEWER_PIXELS = {'WEBP': 8_000_000, 'AVIF': 40_000_000, 'JPEG2000': 7_000_000}
MAX_BYTES = 1 << 30       # of a file: more than that many pixels take without any compression, at 8 bits a channel
JPEG, PNG = b'\xff\xd8\xff', b'\x89PNG\r\n\x1a\n'
EIGHT_BIT_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX', 'CMYK', 'YCbCr')

# The machine's state rather than the image's: leaving the image out would not help the next one.
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

# What Pillow says of odd tags goes without the name of the file; what matters of it is an error.
warnings.filterwarnings('ignore', module=r'PIL\.')


class BrokenImage(DataError):
    """One image that cannot be read; ``data.bad_image`` says what then.

    Attributes: ``reason``, the message without the name; ``truncated``, whether an image began and ended too early.
    """

    def __init__(self, message, reason=None, truncated=False):
        super().__init__(message)
        self.reason, self.truncated = reason or message, truncated


class ImageWarning(UserWarning):
    """What a decoder said of an image that it decoded nevertheless."""


class Picture:
    """An image whose size is known and whose pixels are decoded when they are asked for.

    Gray files give three equal channels, 16-bit channels keep their upper 8 bits, CMYK is converted,
    transparency is dropped (the colour stored beneath it shows), EXIF orientation is applied, and of an
    animation the first frame is read.

    Attributes: ``path``; ``data``, the bytes of the file; ``shape``, (height, width) upright; ``reducible``, whether
    pixels of a fraction of the size can be had.
    """

    def __init__(self, path, data=None):
        """Read the file ``path``, or take the bytes ``data`` of one, which ``path`` then only names.

        :raises BrokenImage: naming the file and why: missing, 0 bytes, not an image, truncated or too large.
        :raises DataError: if not the file but the machine is at its end, such as with too many open files.
        """
        self.path = os.fspath(path)
        with self._named():
            self.data = _bytes_of(path) if data is None else data
            if not self.data:
                raise _Broken('it has 0 bytes')
            self.reducible, self._decoded, self._still = self.data.startswith(JPEG), None, self.data
            if self.reducible:
                shape, self._orientation = _check_jpeg(self.data)
            elif self.data.startswith(PNG):
                shape, self._orientation, self._still = _check_png(self.data)
            else:
                shape, self._orientation, decoded = _open_other(self.data)
                if decoded is not None:
                    self._decoded = upright(decoded, self._orientation)
            self.shape = shape[::-1] if self._orientation >= 5 else shape  # lying on its side

    def pixels(self, reduction=1):
        """Return the image: (H,W,3) uint8 RGB.

        What the decoder says of an image with damage that it can bear is an :class:`ImageWarning` with the name.

        :param reduction: 2, 4 or 8 gives a JPEG with its sides divided by that and rounded up. Its decoder leaves
            out the high frequencies, which is several times faster.

        :raises BrokenImage: naming the file, if its contents are corrupt.
        """
        if reduction != 1 and not self.reducible:
            raise ValueError(f"'{self.path}' cannot be decoded at 1/{reduction} of its size")
        if self._decoded is not None:
            return self._decoded
        with self._named():
            with _words_of_decoder() as words:
                image = decode(self._still, reduction)
            if image is None:
                raise _Broken(f"its contents are corrupt{words and f' ({words[0]})' or ''}")
            if words:
                warnings.warn(f"image '{self.path}': {words[0]}", ImageWarning, stacklevel=2)
            image = upright(image, self._orientation)
            if image.dtype != np.uint8 or image.shape != (*(-(-side // reduction) for side in self.shape), 3):
                raise _Broken(f'it says that it has {self.shape[0]} x {self.shape[1]} pixels, and has others')
        return image

    @contextmanager
    def _named(self):
        try:
            yield
        except OSError as error:
            if error.errno in _EXHAUSTED:
                raise DataError(f"cannot read image '{self.path}': {error.strerror}") from None
            leads = error.errno == errno.ENOENT and os.path.islink(self.path)
            reason = f"it is a link to '{os.readlink(self.path)}', which does not exist" if leads else error.strerror
            raise BrokenImage(f"cannot read image '{self.path}': {reason}", reason) from None
        except MemoryError:
            reason = 'its pixels need more memory than there is'
            raise BrokenImage(f"cannot read image '{self.path}': {reason}", reason) from None
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


def _bytes_of(path):
    try:
        # Without O_NONBLOCK, opening a named pipe waits for somebody to write into it.
        with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise _Broken('it is no file but a pipe or device')
            if status.st_size > MAX_BYTES:
                raise _Broken(f'it has {status.st_size:,} bytes, more than {MAX_BYTES:,}')
            return stream.read()
    except ValueError as error:  # a zero byte in the name
        raise _Broken(str(error)) from None


def _check_pixels(width, height, most=None):
    most = min(MAX_PIXELS, most or MAX_PIXELS)
    if width * height > most:
        raise _Broken(f'{width} x {height} are more than {most:,} pixels; scale it down')


# --- JPEG and PNG ----------------------------------------------------------------------------

@contextmanager
def _words_of_decoder():
    """Give a list that holds, in the end, the first line that libjpeg or libpng printed.

    They write to the process's standard error, which is led elsewhere meanwhile. It belongs to all threads: of images
    that other threads than the first decode, the decoder's words go where they always went.
    """
    words, own = [], None
    if threading.current_thread() is threading.main_thread():
        try:
            own = os.dup(2)
        except OSError:  # it is closed: no word reaches anybody
            pass
    if own is None:
        yield words
        return
    caught = _caught_stderr()
    os.dup2(caught, 2)
    try:
        yield words
    finally:
        os.dup2(own, 2)
        os.close(own)
        size = os.lseek(caught, 0, os.SEEK_CUR)
        if size:
            words += os.pread(caught, min(size, 1000), 0).decode('utf-8', 'replace').splitlines()[:1]
            os.ftruncate(caught, 0)
            os.lseek(caught, 0, os.SEEK_SET)


_caught = {}  # process → a file in memory; forked processes must not share its position


def _caught_stderr():
    process = os.getpid()
    if process not in _caught:
        _caught.clear()
        _caught[process] = os.memfd_create('words of a decoder')
    return _caught[process]


def _check_jpeg(data):
    """Walk the segments up to the first scan; OpenCV fills what a truncated file lacks with gray.

    :returns: (height, width) as stored, and the orientation.
    """
    position, shape, description = 2, None, {}
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
        elif marker == 0xE1:
            orientation.add_segment(description, data[position + 4:position + 2 + length])
        position += 2 + length
        if marker == 0xDA:
            break
    # In the scans 0xff is followed by 0 or a restart marker, so this cannot be anything but the end.
    if data.rfind(b'\xff\xd9', position) < 0:
        raise _Broken('it is truncated: the JPEG has no end marker', truncated=True)
    if not shape:
        raise _Broken('its contents are corrupt')
    return shape, orientation.of_info(description)


def _check_png(data):
    """Walk the chunks.

    :returns: (height, width) as stored, the orientation, and the PNG without all that its still picture does not need.
    """
    width, height = (int.from_bytes(data[i:i + 4], 'big') for i in (16, 20))
    _check_pixels(width, height)
    position, needed, described = len(PNG), [PNG], []
    view = memoryview(data)
    while True:
        end = position + 12 + int.from_bytes(data[position:position + 4], 'big')
        if end > len(data):
            raise _Broken('it is truncated: the PNG has no end chunk', truncated=True)
        kind = data[position + 4:position + 8]
        if kind[:1].isupper() or kind == b'tRNS':  # critical chunks begin with a capital letter
            needed.append(view[position:end])
        elif kind in (b'eXIf', b'tEXt', b'zTXt', b'iTXt'):
            described.append(view[position:end])
        position = end
        if kind == b'IEND':
            break
    return (height, width), orientation.of_png_chunks(described), b''.join(needed)


# --- other formats ---------------------------------------------------------------------------

def _open_other(data):
    """Return (height, width) as stored, the orientation, and the pixels, None where OpenCV is to decode them."""
    if data[:4] == b'RIFF' and data[8:12] == b'WEBP' and 8 + int.from_bytes(data[4:8], 'little') > len(data):
        raise _Broken('it is truncated: the WebP ends early', truncated=True)
    if Image is None:
        raise _Broken('it is no JPEG or PNG, and for other formats Pillow is needed: pip install pillow')
    ImageFile.LOAD_TRUNCATED_IMAGES = False  # importing gluoncv sets it, for the whole process
    pixels = None
    try:
        with Image.open(io.BytesIO(data), formats=PILLOW_FORMATS) as image:
            if image.format == 'WEBP' and not image.is_animated:
                _check_pixels(*image.size)
            else:
                _check_pixels(*image.size, FEWER_PIXELS.get(image.format))
                if image.mode not in EIGHT_BIT_MODES:
                    raise _Broken(f"{image.format} with pixels of mode '{image.mode}' is not supported; convert it to "
                                  'PNG')
                pixels = _pixels_of(image)
            # Only now: Pillow turns a TIFF by itself while it is decoded, and then says so.
            return image.size[::-1], orientation.of_image(image), pixels
    except UnidentifiedImageError:
        raise _Broken(f'it is not an image; it starts with {data[:16]!r}') from None
    except Image.DecompressionBombError:
        raise _Broken(f'it claims more than {MAX_PIXELS:,} pixels') from None
    except (MemoryError, _Broken):
        raise
    except Exception as error:  # Pillow's readers raise whatever their parsing stumbles over
        raise _Broken(f'it is truncated or corrupt: {error}', 'truncated' in str(error)) from None


def _pixels_of(image):
    """Return a Pillow image as (H,W,3) uint8, converted in strips: as a whole it would be there three times."""
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(1, (1 << 20) // width)
    for top in range(0, height, rows):
        strip = image.crop((0, top, width, min(top + rows, height)))
        pixels[top:top + rows] = strip if strip.mode == 'RGB' else strip.convert('RGB')
    return pixels

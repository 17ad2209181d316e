"""What a request may ask for, and why it is refused. Bodies are read into memory alone; nothing is written to disk."""
import asyncio
from dataclasses import dataclass
from typing import NamedTuple

from starlette.formparsers import MultiPartException, MultiPartParser

from gluon_fgvc.data.images import JPEG, PNG, Picture
from gluon_fgvc.errors import DataError

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """What the service takes; times in seconds."""

    image_bytes: int = 16 * MIB
    request_bytes: int = 64 * MIB    # of all images of a request
    request_images: int = 32
    pixels: int = 50_000_000         # of an image, decoded
    queue: int = 256                 # images that were taken and not yet answered; more are refused with 503
    queue_bytes: int = 512 * MIB     # of their files
    read_seconds: float = 20         # for a request to arrive, its headers and its body each
    predict_seconds: float = 30      # from then to the answer
    connections: int = 1024


class Refused(Exception):
    """A request, or an image of it, is not answered: HTTP status, a word for the metrics, and what to do."""

    def __init__(self, status, reason, message):
        super().__init__(message)
        self.status, self.reason = status, reason


class Prepared(NamedTuple):
    """An image ready for the network."""

    pixels: object     # uint8 (H,W,3)
    size: tuple        # height and width of the whole image, upright
    view: tuple        # which part of it the network sees: left, top, width and height as shares


def prepare(name, data, predictor, limits):
    """Return the :class:`Prepared` image in the bytes ``data``.

    :raises Refused: if it is too large, of a type that is not taken, or damaged.
    """
    if len(data) > limits.image_bytes:
        raise Refused(413, 'bytes', f'the image has {len(data):,} bytes, at most {limits.image_bytes:,} are taken')
    if not data.startswith((JPEG, PNG)) and not (data[:4] == b'RIFF' and data[8:12] == b'WEBP'):
        raise Refused(415, 'type', 'not a JPEG, PNG or WebP image')
    try:
        picture = Picture(name, data)
        height, width = picture.shape
        if height * width > limits.pixels:
            raise Refused(413, 'pixels', f'the image has {width} x {height} pixels, at most {limits.pixels:,} are '
                                         'taken')
        pixels = predictor.transform(picture, None)
        left, top, shown_width, shown_height = predictor.transform.shown(picture.shape)
    except DataError as error:
        raise Refused(422, 'damaged', getattr(error, 'reason', str(error))) from None
    return Prepared(pixels, picture.shape, (left / width, top / height, shown_width / width, shown_height / height))


def declared_bytes(request, limits):
    """Return how many bytes the body of ``request`` has, by its own word, at most where it does not say.

    :raises Refused: if that is more than allowed.
    """
    declared = request.headers.get('content-length', '')
    count = int(declared) if declared.isdigit() else limits.request_bytes
    if count > limits.request_bytes:
        raise _too_large(limits)
    return count


def _too_large(limits):
    return Refused(413, 'bytes', f'the request is larger than {limits.request_bytes:,} bytes')


async def body(request, limits):
    """Yield the body of ``request`` in pieces.

    :raises Refused: when it is larger than allowed or takes too long.
    """
    loop, pieces, count = asyncio.get_running_loop(), request.stream(), 0
    end = loop.time() + limits.read_seconds
    while True:
        try:
            piece = await asyncio.wait_for(pieces.__anext__(), end - loop.time())
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise Refused(408, 'slow', f'the request did not arrive within {limits.read_seconds:g} s') from None
        count += len(piece)
        if count > limits.request_bytes:
            raise _too_large(limits)
        yield piece


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # Starlette's writes parts above 1 MiB into temporary files


async def images_of(request, limits):
    """Return [(name, bytes)] of the images of ``request``: the parts of a form that are files, or the body itself.

    :raises Refused: for a request without images, with too many, or that cannot be read.
    """
    kind = request.headers.get('content-type', '')
    pieces = body(request, limits)
    if not kind.startswith('multipart/form-data'):
        data = b''.join([piece async for piece in pieces])
        if not data:
            raise Refused(400, 'empty', 'the request has no body: send an image, or a form with files')
        return [('image', data)]
    try:
        form = await _InMemory(request.headers, pieces, max_files=limits.request_images, max_fields=16).parse()
    except MultiPartException as error:
        raise Refused(400, 'form', error.message) from None
    files = [value for _, value in form.multi_items() if not isinstance(value, str)]
    if not files:
        raise Refused(400, 'empty', 'the form has no files')
    return [(file.filename or 'image', await file.read()) for file in files]

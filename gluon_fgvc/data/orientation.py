"""The orientation of an image, read by one library for all containers.

Pillow looks for it in EXIF, then in XMP, then in the text of a PNG. It is handed descriptions without pixels, so that
nothing is decoded twice. Where there is none (see :mod:`gluon_fgvc.data.pixels`), EXIF and XMP are read here.
"""
import functools
import io
import re

from gluon_fgvc.data.pixels import Image

_TAG = 0x0112  # of EXIF
_EXIF, _XMP = b'Exif\0\0', b'http://ns.adobe.com/xap/1.0/\0'  # what segments of a JPEG begin with


def of_image(image):
    """Return the orientation, 1 to 8, that the description of a Pillow image gives; 1 where it says nothing."""
    try:
        value = image.getexif().get(_TAG, 1)
    except Exception:  # whatever Pillow makes of malformed tags
        return 1
    return int(value) if value in range(1, 9) else 1


def of_info(description):
    """Return the orientation in the ``info`` that Pillow would have of an image."""
    if not description:
        return 1
    if Image is None:
        return _of_bytes(description.get('exif', b''), description.get('xmp', b''))
    image = Image.new('1', (1, 1))
    image.info.update(description)
    return of_image(image)


def add_segment(description, segment):
    """Add an application segment of a JPEG to the ``info`` of :func:`of_info`."""
    if segment.startswith(_EXIF):  # what is longer than a segment goes on in the next
        description['exif'] = description['exif'] + segment[len(_EXIF):] if 'exif' in description else segment
    elif segment.startswith(_XMP):
        description['xmp'] = segment[len(_XMP):]


def of_png_chunks(chunks):
    """Return the orientation in the descriptive chunks of a PNG, each with its length and check sum."""
    if not chunks:
        return 1
    if Image is None:
        found = {bytes(chunk[4:8]): bytes(chunk[8:-4]) for chunk in chunks}
        return _of_bytes(found.get(b'eXIf', b''), found.get(b'iTXt', b''))
    try:  # Pillow reads a PNG to its end for its description: it is given one of a single pixel
        begin, header, rest = _png_pixel()
        with Image.open(io.BytesIO(b''.join([begin, header, *chunks, rest])), formats=['PNG']) as image:
            return of_image(image)
    except Exception:  # a damaged description is none
        return 1


@functools.cache
def _png_pixel():
    stream = io.BytesIO()
    Image.new('L', (1, 1)).save(stream, 'PNG')
    data = stream.getvalue()
    return data[:8], data[8:33], data[33:]  # signature, IHDR, the rest


def _of_bytes(exif, xmp):
    """Return the orientation in the first directory of ``exif``, else in ``xmp``, else 1."""
    exif = exif[len(_EXIF):] if exif.startswith(_EXIF) else exif
    order = {b'II': 'little', b'MM': 'big'}.get(exif[:2])
    if order:
        start = int.from_bytes(exif[4:8], order)
        count = min(int.from_bytes(exif[start:start + 2], order), len(exif) // 12)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if int.from_bytes(exif[entry:entry + 2], order) == _TAG:
                length = 4 if int.from_bytes(exif[entry + 2:entry + 4], order) == 4 else 2  # a long, or a short
                value = int.from_bytes(exif[entry + 8:entry + 8 + length], order)
                return value if value in range(1, 9) else 1
    found = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    return int(found[1]) if found else 1

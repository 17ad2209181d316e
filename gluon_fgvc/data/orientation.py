"""The orientation of an image, read by one library for all containers, and the turn that makes it upright.

Pillow looks for it in EXIF, then in XMP, then in the text of a PNG. It is handed descriptions without pixels, so that
nothing is decoded twice.
"""
import io

import cv2
from PIL import Image

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
    try:  # Pillow reads a PNG to its end for its description: it is given one of a single pixel
        with Image.open(io.BytesIO(b''.join([*_PIXEL[:2], *chunks, *_PIXEL[2:]])), formats=['PNG']) as image:
            return of_image(image)
    except Exception:  # a damaged description is none
        return 1


def _png_pixel():
    stream = io.BytesIO()
    Image.new('L', (1, 1)).save(stream, 'PNG')
    data = stream.getvalue()
    return data[:8], data[8:33], data[33:]  # signature, IHDR, the rest


_PIXEL = _png_pixel()


def upright(image, orientation):
    """Return ``image`` (H,W,3), stored in ``orientation``, upright and contiguous."""
    if orientation in (5, 7):
        image = cv2.transpose(image)
    if orientation in (6, 8):
        return cv2.rotate(image, cv2.ROTATE_90_CLOCKWISE if orientation == 6 else cv2.ROTATE_90_COUNTERCLOCKWISE)
    axis = {2: 1, 3: -1, 4: 0, 7: -1}.get(orientation)
    return image if axis is None else cv2.flip(image, axis)

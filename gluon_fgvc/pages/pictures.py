"""Images on their way into a page or sheet; arrays are uint8 RGB (H,W,3)."""
import cv2

from gluon_fgvc.data.images import Picture
from gluon_fgvc.errors import DataError
from gluon_fgvc.pages.markup import data_uri


def read(path, side=None):
    """Return the image at ``path``, or None if it cannot be read: pages and sheets outlive their images.

    :param side: the longer side in pixels that is shown, so that a JPEG need not be decoded at its full size.
    """
    try:
        picture = Picture(path)
        return picture.pixels(next((factor for factor in (8, 4, 2) if side and picture.reducible
                                    and max(picture.shape) >= 2 * factor * side), 1))
    except DataError:
        return None


def fit(image, side):
    """Resize so that the longer side has ``side`` pixels."""
    scale = side / max(image.shape[:2])
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC)


def jpeg_uri(image, quality):
    """Return a data URI of the image as JPEG of ``quality`` (0 to 100)."""
    _, content = cv2.imencode('.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return data_uri(content.tobytes(), 'image/jpeg')


def png_uri(image):
    """Return a data URI of the image, (H,W,3) or (H,W,4) with opacity, as PNG."""
    order = cv2.COLOR_RGBA2BGRA if image.shape[2] == 4 else cv2.COLOR_RGB2BGR
    _, content = cv2.imencode('.png', cv2.cvtColor(image, order), [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return data_uri(content.tobytes(), 'image/png')

"""Images on their way into a page or sheet; arrays are uint8 RGB (H,W,3)."""
import cv2
import numpy as np

from gluon_fgvc.pages.markup import data_uri


def read(path):
    """Return the image at ``path``, or None if it cannot be read: pages and sheets outlive their images."""
    try:
        content = np.fromfile(path, 'uint8')
        image = cv2.imdecode(content, cv2.IMREAD_COLOR) if content.size else None
    except (OSError, ValueError, cv2.error):
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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

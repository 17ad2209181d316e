"""Images that are not whole files: callables from a row to an image, for ``ImageSet.reader``."""
from dataclasses import replace

import numpy as np

from gluon_fgvc.data.images import BrokenImage, read_image


def numbered(name, count):
    """Return the names ``name#0``, ``name#1``, … of ``count`` images that come from one place."""
    return [f'{name}#{row}' for row in range(count)]


class Arrays:
    """Rows of one array (N,H,W,3) uint8."""

    def __init__(self, images):
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise ValueError(f'images of shape {images.shape} and type {images.dtype} are not (N,H,W,3) uint8')
        self._images = images

    def __call__(self, row):
        return self._images[row]


class Crops:
    """The parts of image files that lie in boxes, one box a row.

    :param files: N paths; a file may come several times.
    :param boxes: (N,4) x, y, width, height in pixels, as an annotator drew them: edges are rounded to whole
        pixels and what reaches beyond the image is cut off.
    """

    def __init__(self, files, boxes):
        self.files, self.boxes = files, boxes

    @classmethod
    def of(cls, image_set, boxes=None):
        """Return a set of files cut to ``boxes``, by default its own."""
        crops = cls(image_set.paths, image_set.boxes if boxes is None else boxes)
        return replace(image_set, paths=crops.names, boxes=None, reader=crops)

    @property
    def names(self):
        """A name for each crop that tells it from others of the same file: a media fragment, as of web addresses."""
        return [f"{file}#xywh={','.join(f'{value:g}' for value in box)}" for file, box in zip(self.files, self.boxes)]

    def __call__(self, row):
        image, (x, y, width, height) = read_image(self.files[row]), self.boxes[row]
        left, right = (int(np.clip(round(edge), 0, image.shape[1])) for edge in (x, x + width))
        top, bottom = (int(np.clip(round(edge), 0, image.shape[0])) for edge in (y, y + height))
        if left >= right or top >= bottom:
            raise BrokenImage(f"cannot crop image '{self.files[row]}': its box (x {x:g}, y {y:g}, {width:g} x "
                            f'{height:g}) has no pixel of its {image.shape[1]} x {image.shape[0]}')
        return np.ascontiguousarray(image[top:bottom, left:right])

"""What a data set is once it has been read: named images with labels, nothing decoded."""
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Callable, List, Optional, Tuple, Union

import numpy as np

from gluon_fgvc.data.images import Picture
from gluon_fgvc.errors import DataError


@dataclass(frozen=True)
class ImageSet:
    """One split: N images with their classes.

    Without a ``reader``, ``paths`` are image files. With one, they only name the images, in messages and in
    ``predictions.csv``, and image i is ``reader(rows[i])``: a record, a part of a file, a row of an array or
    something drawn on demand; see :mod:`gluon_fgvc.data.readers`. Loader processes are forked with it and
    threads share it, so a reader answers from its row alone, always with the same pixels.
    """

    name: str                             # 'train', 'val' or 'test'
    paths: List[str]                      # N files, or names, each of one image
    labels: np.ndarray                    # (N,) int64 class indices
    targets: Optional[np.ndarray] = None  # (N,K) float32 class probabilities, used instead of labels in training
    strata: Optional[np.ndarray] = None   # (N,) what to stratify by; None means the labels
    units: Optional[np.ndarray] = None    # (N,) what splitting keeps together, e.g. persons; None means the images
    boxes: Optional[np.ndarray] = None    # (N,4) float x, y, width, height of the object in pixels of the image
    reader: Optional[Callable[[int], Union[np.ndarray, Picture]]] = None  # row → (H,W,3) uint8 RGB, or undecoded
    rows: Optional[np.ndarray] = None     # (N,) int64 rows of the reader; None means 0..N-1

    def __len__(self):
        return len(self.paths)

    def read(self, index):
        """Return image ``index``: (H,W,3) uint8 RGB.

        :raises BrokenImage: naming the image and why it cannot be read.
        """
        image = self.open(index)
        return image.pixels() if isinstance(image, Picture) else image

    def open(self, index):
        """Return image ``index`` as transforms take it: an array as :meth:`read` returns, or a Picture."""
        if self.reader is None:
            return Picture(self.paths[index])
        return self.reader(int(index if self.rows is None else self.rows[index]))

    def subset(self, indices, name=None):
        """Return the images at ``indices`` (n,), in that order."""
        def rows(values):
            return None if values is None else values[indices]
        reader_rows = np.asarray(indices) if self.reader is not None and self.rows is None else rows(self.rows)
        return replace(self, name=name or self.name, paths=[self.paths[i] for i in indices],
                       labels=self.labels[indices], targets=rows(self.targets), strata=rows(self.strata),
                       units=rows(self.units), boxes=rows(self.boxes), rows=reader_rows)


@dataclass(frozen=True)
class Source:
    """A data set: class names and its splits; ``val`` is None where there is none."""

    classes: Tuple[str, ...]
    train: ImageSet
    test: ImageSet
    val: Optional[ImageSet] = None
    groups: Optional[Tuple[str, ...]] = None  # the super-category of each class
    notes: Tuple[str, ...] = ()  # what reading it left out, a line each, for the log

    def splits(self):
        """Return the list of the splits that exist, in the order train, val, test."""
        return [images for images in (self.train, self.val, self.test) if images is not None]

    def find(self, name):
        """Return the image set and the index in it of the image called ``name``, the last of that name.

        :raises DataError: if no split has it.
        """
        if name not in self._places:
            raise DataError(f"no split has an image '{name}'")
        return self._places[name]

    def read(self, name):
        """Return the image called ``name``, (H,W,3) uint8 RGB, None if there is none or it cannot be read.

        For pages, which show what they can.
        """
        try:
            images, index = self.find(name)
            return images.read(index)
        except DataError:
            return None

    @cached_property
    def _places(self):
        return {path: (images, index) for images in self.splits() for index, path in enumerate(images.paths)}

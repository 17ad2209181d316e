"""Decoded images kept in memory that loader workers share, up to a ceiling."""
import mmap

import numpy as np

MIB = 1 << 20


class ImageCache:
    """The images of one split, decoded once, in one block of memory.

    Made before workers are forked, it is shared with them. There is no lock that a killed worker could hold:
    each worker writes into a part of its own, and an image counts once its place has been written into the
    table, which is one store. Memory is taken as images come. What does not fit is not kept.

    :param count: images of the split.
    :param mebibytes: the ceiling.
    :param workers: how many write.
    """

    def __init__(self, count, mebibytes, workers):
        share = mebibytes * MIB // workers
        self._pixels = np.frombuffer(mmap.mmap(-1, max(1, share * workers)), np.uint8)
        self._table = np.frombuffer(mmap.mmap(-1, count * 24), np.int64).reshape(count, 3)  # height, width, 1 + place
        self._ends = [(number + 1) * share for number in range(workers)]
        self._free = [number * share for number in range(workers)]  # of interest to the worker itself only

    def get(self, index):
        """Return image ``index``, (H,W,3) uint8, read-only, or None."""
        height, width, place = self._table[index]
        if not place:
            return None
        image = self._pixels[place - 1:place - 1 + height * width * 3].reshape(height, width, 3)
        image.flags.writeable = False
        return image

    def put(self, index, image, worker):
        """Keep ``image`` (H,W,3) uint8, if worker number ``worker`` has room for it."""
        start = self._free[worker]
        if start + image.size > self._ends[worker]:
            return
        self._pixels[start:start + image.size] = image.reshape(-1)
        self._free[worker] = start + image.size
        self._table[index, :2] = image.shape[:2]
        self._table[index, 2] = start + 1

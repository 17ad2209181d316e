"""Batches of images, the same bit for bit with any number of workers.

Workers are handed (epoch, index), and every sample is augmented with a generator of its own, so that
neither the worker nor the order matters. Worker processes are those of :mod:`gluon_fgvc.data.pool`, not of
``gluon.data.DataLoader``: there a killed worker is noticed after 120 s at best and may leave a lock behind on which
the main process waits for ever, and full shared memory (64 MiB in a container by default) hangs.
"""
import mmap
from typing import NamedTuple, Optional

import numpy as np
from mxnet import nd

from gluon_fgvc.data import samplers
from gluon_fgvc.data.cache import ImageCache
from gluon_fgvc.data.images import BrokenImage
from gluon_fgvc.data.pool import Processes, Threads
from gluon_fgvc.errors import DataError


class Batch(NamedTuple):
    """N images of one size, on the CPU."""

    images: nd.NDArray   # (N,H,W,3) uint8
    labels: nd.NDArray   # (N,) or, where the set has targets and this is training, (N,K); float32
    indices: np.ndarray  # (N,) int64, rows of the image set
    number: Optional[int] = None  # place in the epoch, from 0; None: the next


class Loader:
    """Reads, prepares and batches an :class:`~gluon_fgvc.data.base.ImageSet`, epoch after epoch.

    :param transform: ``transform(image, rng)`` → image, both (H,W,3) uint8; rng is None unless ``train``.
    :param train: shuffle by (seed, epoch), augment by (seed, epoch, index) and give soft targets where there are.
    :param workers: how many load at once, begun here and kept until :meth:`close`; 0 loads in this thread.
    :param threads: they are threads instead of forked processes: nothing is copied, but Python code takes turns.
    :param cache: mebibytes for decoded and resized images that are kept for later epochs.
    :param bad_image: 'fail' raises at a broken image; 'skip' drops it from its batch and notes it in ``bad``.
    :param last: 'keep' or 'discard' a last batch that is not full.
    :param sampler: epoch → indices, of constant ``len``; overrides the order that ``train`` implies.
    :param kinds: the kind of each image, such as its size, so that only images of one kind share a batch.
    :param timeout: seconds after which a worker process that is stuck at one image is given up; 0 is never.
    :raises DataError: if there is no image, or not one full batch under 'discard'.
    """

    def __init__(self, image_set, transform, batch_size, *, train=False, seed=0, workers=0, threads=False,
                 cache=0, bad_image='fail', last='keep', sampler=None, kinds=None, timeout=0):
        for value, allowed in ((bad_image, ('fail', 'skip')), (last, ('keep', 'discard'))):
            if value not in allowed:
                raise ValueError(f"'{value}' is none of {', '.join(allowed)}")
        if not len(image_set):
            raise DataError(f"split '{image_set.name}' has no images")
        self.image_set, self.transform = image_set, transform
        self.bad = {}  # path → why it could not be read
        self._sampler = sampler or (samplers.Shuffled(len(image_set), seed) if train
                                    else samplers.Sequential(len(image_set)))
        self._batch_size, self._last, self._skip, self._kinds = batch_size, last, bad_image == 'skip', kinds
        if not len(self):
            raise DataError(f"split '{image_set.name}' has {len(self._sampler)} images, not one batch of {batch_size}; "
                            f'set data.batch_size to at most {len(self._sampler)}')
        self._labels = image_set.targets if train and image_set.targets is not None else image_set.labels
        kept = ImageCache(len(image_set), cache, workers or 1) if cache else None
        # Where each worker is, in memory that forked ones share: samples begun, and the row of the latest.
        self._places = np.frombuffer(mmap.mmap(-1, 16 * (workers or 1)), np.int64).reshape(-1, 2)
        samples = [_Samples(image_set, transform, seed if train else None, kept, number, self._places[number])
                   for number in range(workers or 1)]
        functions = [own.batch for own in samples]
        self._batch, self._workers = functions[0], None
        if workers:
            self._workers = Threads(functions) if threads else Processes(
                functions, 'loader', 'set data.workers or data.batch_size lower', self._place_of, timeout)
        self._results, self._closed, self._part = iter(()), False, (0, 1)

    def divide(self, rank, size):
        """From now on load of each batch the part of process ``rank`` of ``size`` only; no image is in two parts."""
        self._part = rank, size

    def __len__(self):
        if self._kinds is not None:
            return len(self.order(0))
        whole, rest = divmod(len(self._sampler), self._batch_size)
        return whole + (rest > 0 and self._last == 'keep')

    def epoch(self, epoch, start=0):
        """Yield the :class:`Batch` es of ``epoch`` (0, 1, …) from number ``start`` on.

        An epoch may be left early; one that was left cannot be continued once the next has begun.

        :raises DataError: at a broken image under 'fail', at images of different sizes in one batch, at an image
            smaller than the crop, if no image could be read, or if a worker died or is stuck.
        """
        return self._load(epoch, self.order(epoch), start)

    def order(self, epoch):
        """Return the indices (n,) of each batch of ``epoch``, without loading anything."""
        return samplers.batches(self._sampler(epoch), self._batch_size, self._last, self._kinds)

    def each_once(self):
        """Yield every image of the set once, in its order, in :class:`Batch` es; as :meth:`epoch` otherwise."""
        return self._load(0, samplers.batches(np.arange(len(self.image_set)), self._batch_size, 'keep',
                                              self._kinds))

    def labels(self, indices):
        """Return the labels of the images ``indices`` as a batch has them."""
        return nd.array(self._labels[indices], dtype=np.float32)

    def _place_of(self, worker):
        """Return (what worker ``worker`` has begun, in words for people)."""
        begun, row = self._places[worker].tolist()
        return begun, f"image '{self.image_set.paths[row]}'"

    def _load(self, epoch, index_batches, start=0):
        if self._closed:
            raise ValueError('the loader is closed')
        parts = [samplers.part(indices, *self._part) for indices in index_batches[start:]]
        batches = ([(epoch, int(index)) for index in indices] for indices in parts)
        results = self._workers.run(batches) if self._workers else map(self._batch, batches)
        self._results, count = results, start
        for number, (images, indices, broken, fatal) in enumerate(results, start):
            self._note(broken, fatal)
            if len(indices):
                count += 1
                yield Batch(nd.array(images, dtype=np.uint8), self.labels(indices), indices, number)
            if results is not self._results:
                raise RuntimeError(f'epoch {epoch} cannot go on: another one has begun')
        if not count:
            raise DataError(f"none of the images of split '{self.image_set.name}' could be read; the first: "
                            f'{next(iter(self.bad.values()))}')

    def _note(self, broken, fatal):
        for index, reason in broken:
            if not self._skip:
                raise DataError(f'{reason} (data.bad_image: skip leaves such images out)')
            self.bad[self.image_set.paths[index]] = reason
        if fatal:
            raise DataError(fatal)

    def close(self):
        """End the workers."""
        self._closed = True
        if self._workers:
            self._workers.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Samples:
    """Makes batches out of lists of (epoch, index), for worker ``number``."""

    def __init__(self, image_set, transform, seed, cache, number, place):
        self._set, self._transform, self._seed = image_set, transform, seed
        self._cache, self._number, self._place = cache, number, place

    def batch(self, keys):
        """Return images (N,H,W,3) or None, indices (N,), broken [(index, reason)], and what ends the run or None."""
        images, indices, broken = [], [], []
        for epoch, index in keys:
            self._place[:] = self._place[0] + 1, index
            rng = None if self._seed is None else samplers.generator(samplers.AUGMENT, self._seed, epoch, index)
            try:
                images.append(self._transform(self._image(index), rng))
            except BrokenImage as error:
                named = '' if error.reason != str(error) else f"image '{self._set.paths[index]}': "
                broken.append((index, f'{named}{error}'))
                continue
            except DataError as error:
                return None, np.empty(0, np.int64), broken, f"image '{self._set.paths[index]}': {error}"
            indices.append(index)
            if images[-1].shape != images[0].shape:
                (h, w), (other_h, other_w) = images[0].shape[:2], images[-1].shape[:2]
                return None, np.empty(0, np.int64), broken, (
                    f"'{self._set.paths[indices[0]]}' and '{self._set.paths[index]}' are in one batch but differ in "
                    f'size ({h} x {w} and {other_h} x {other_w}, height x width); set crop, or resize: [height, '
                    'width], in data.train and data.eval')
        return np.stack(images) if images else None, np.array(indices, dtype=np.int64), broken, None

    def _image(self, index):
        if self._cache is None:
            return self._set.open(index)
        image = self._cache.get(index)
        if image is None:
            image = self._transform.fixed(self._set.open(index))
            self._cache.put(index, image, self._number)
        return image

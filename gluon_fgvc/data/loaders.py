"""Batches of images, the same bit for bit with any number of worker processes.

The processes are those of ``gluon.data.DataLoader``. Its sampler hands out (epoch, index), and every
sample is augmented with a generator of its own, so that neither the process nor the order matters.
A worker that raises would end Gluon's pool; ours return the reason and the main process raises.
"""
import multiprocessing
import os
import shutil
from collections import deque
from typing import NamedTuple

import cv2
import numpy as np
from mxnet import context, gluon, nd

from gluon_fgvc.data import samplers
from gluon_fgvc.data.images import read_image
from gluon_fgvc.errors import DataError

SHARED_MEMORY = '/dev/shm'
TIMEOUT = 120  # seconds without a batch


class Batch(NamedTuple):
    """N images of one size, on the CPU."""

    images: nd.NDArray   # (N,H,W,3) uint8
    labels: nd.NDArray   # (N,) or, where the set has targets and this is training, (N,K); float32
    indices: np.ndarray  # (N,) int64, rows of the image set


class Loader:
    """Reads, prepares and batches an :class:`~gluon_fgvc.data.base.ImageSet`, epoch after epoch.

    :param transform: ``transform(image, rng)`` → image, both (H,W,3) uint8.
    :param train: shuffle by (seed, epoch), augment by (seed, epoch, index) and give soft targets where there are.
    :param workers: processes, started here and kept until :meth:`close`; 0 loads in this process.
    :param bad_image: 'fail' raises at a broken image; 'skip' drops it from its batch and notes it in ``bad``.
    :param last: 'keep' or 'discard' a last batch that is not full.
    :param sampler: epoch → indices, of constant ``len``; overrides the order that ``train`` implies.
    :raises DataError: if there is no image, not one full batch, or too little shared memory.
    """

    def __init__(self, image_set, transform, batch_size, *, train=False, seed=0, workers=0, bad_image='fail',
                 last='keep', sampler=None):
        for value, allowed in ((bad_image, ('fail', 'skip')), (last, ('keep', 'discard'))):
            if value not in allowed:
                raise ValueError(f"'{value}' is none of {', '.join(allowed)}")
        if not len(image_set):
            raise DataError(f"split '{image_set.name}' has no images")
        if last == 'discard' and len(image_set) < batch_size:
            raise DataError(f"split '{image_set.name}' has {len(image_set)} images, not one batch of {batch_size}; "
                            f'set data.batch_size to at most {len(image_set)}')
        self.image_set, self.bad = image_set, {}
        self._sampler = sampler or (samplers.Shuffled(len(image_set), seed) if train
                                    else samplers.Sequential(len(image_set)))
        self._batch_size, self._last, self._skip = batch_size, last, bad_image == 'skip'
        self._labels = image_set.labels
        if train and image_set.targets is not None:
            self._labels = image_set.targets
        self._queue, self._results = _Queue(), iter(())
        if workers and transform.output_size:
            height, width = transform.output_size
            in_flight = 3 * workers + 1  # what waits, what is being made, what was just taken
            _check_shared_memory(in_flight * batch_size * height * width * 3)
        # Forked children lack the threads of OpenCV's pool and would wait for them for ever.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        try:
            self._loader = gluon.data.DataLoader(
                _Samples(image_set.paths, transform, seed if train else None), batch_sampler=self._queue,
                batchify_fn=_collate_shared if workers else _collate, num_workers=workers, timeout=TIMEOUT)
        finally:
            cv2.setNumThreads(threads)

    def __len__(self):
        whole, rest = divmod(len(self._sampler), self._batch_size)
        return whole + (rest > 0 and self._last == 'keep')

    def epoch(self, epoch):
        """Yield the :class:`Batch` es of ``epoch`` (0, 1, …).

        An epoch may be left early; one that was left cannot be continued once the next has begun.

        :raises DataError: at a broken image under 'fail', at images of different sizes, at images smaller than the
            crop, if no image could be read, or if the workers do not answer.
        """
        if self._loader is None:
            raise ValueError('the loader is closed')
        # Batches of an epoch that was left early hold shared memory until somebody takes them.
        self._queue.keys.clear()
        for _ in self._results:
            pass
        batches = samplers.batches(self._sampler(epoch), self._batch_size, self._last)
        self._queue.keys.extend([(epoch, int(index)) for index in batch] for batch in batches)
        self._results = results = iter(self._loader)
        count = 0
        while True:
            if results is not self._results:
                raise RuntimeError(f'epoch {epoch} cannot go on: another one has begun')
            try:
                images, indices, broken, fatal = next(results)
            except StopIteration:
                break
            except multiprocessing.TimeoutError:
                raise DataError(f'the loader processes gave no batch in {TIMEOUT} s; were they killed for want of '
                                'memory? Set data.workers: 0 or a smaller data.batch_size') from None
            self._note(broken, fatal)
            if len(indices):
                count += 1
                if not isinstance(images, nd.NDArray):
                    images = nd.array(images, dtype=np.uint8)
                yield Batch(images.as_in_context(context.cpu()), nd.array(self._labels[indices], dtype=np.float32),
                            indices)
        if not count:
            path, reason = next(iter(self.bad.items()))
            raise DataError(f"none of the images of split '{self.image_set.name}' could be read; the first: {reason}")

    def _note(self, broken, fatal):
        for index, reason in broken:
            if not self._skip:
                raise DataError(f'{reason} (data.bad_image: skip leaves such images out)')
            self.bad[self.image_set.paths[index]] = reason
        if fatal:
            raise DataError(fatal)

    def close(self):
        """End the worker processes."""
        if self._loader is not None and self._loader._worker_pool is not None:
            self._loader._worker_pool.terminate()
            self._loader._worker_pool.join()
        self._loader, self._results = None, iter(())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class _Queue:
    """The batches still to be loaded, as DataLoader's batch sampler: lists of (epoch, index)."""

    def __init__(self):
        self.keys = deque()

    def __iter__(self):
        while self.keys:
            yield self.keys.popleft()


class _Samples:
    """What a worker holds: (epoch, index) → (index, image or None, why it is broken, what ends the run)."""

    def __init__(self, paths, transform, seed):
        self._paths, self._transform, self._seed = paths, transform, seed

    def __getitem__(self, key):
        epoch, index = key
        try:
            image = read_image(self._paths[index])
        except DataError as error:
            return index, None, str(error), None
        rng = None if self._seed is None else samplers.generator(samplers.AUGMENT, self._seed, epoch, index)
        try:
            return index, self._transform(image, rng), None, None
        except DataError as error:
            return index, None, None, f"image '{self._paths[index]}': {error}"


def _collate(samples):
    """Return images (N,H,W,3) or None, indices (N,), broken [(index, reason)] and a fatal reason or None."""
    broken = [(index, reason) for index, _, reason, _ in samples if reason]
    fatal = next((reason for *_, reason in samples if reason), None)
    images = [image for _, image, _, _ in samples if image is not None]
    indices = np.array([index for index, image, _, _ in samples if image is not None], dtype=np.int64)
    sizes = sorted({image.shape[:2] for image in images})
    if len(sizes) > 1:
        (h, w), (other_h, other_w) = sizes[0], sizes[-1]
        fatal = fatal or (f'images of one batch differ in size ({h} x {w} and {other_h} x {other_w}, height x width); '
                          'set crop, or resize: [height, width], under data.train and data.test')
    if fatal or not images:
        return None, indices, broken, fatal
    return np.stack(images), indices, broken, None


def _collate_shared(samples):
    """As :func:`_collate`, with the images in shared memory."""
    images, *rest = _collate(samples)
    if images is None:
        return images, *rest
    try:
        _check_shared_memory(images.nbytes)
    except DataError as error:
        return None, *rest[:-1], str(error)
    return nd.array(images, dtype=np.uint8, ctx=context.Context('cpu_shared', 0)), *rest


def _check_shared_memory(needed):
    """A worker that writes to full shared memory is killed, and the main process would wait in vain."""
    if not os.path.isdir(SHARED_MEMORY):
        return
    free = shutil.disk_usage(SHARED_MEMORY).free
    if needed > free:
        raise DataError(f'{SHARED_MEMORY} has {free / 2 ** 20:.0f} MiB free, loader processes need '
                        f'{needed / 2 ** 20:.0f} MiB; set data.workers: 0, a smaller data.batch_size, or give the '
                        'machine or container more shared memory')

"""Images of many requests go through the network together."""
import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from gluon_fgvc.deploy.activation import NoActivation
from gluon_fgvc.deploy.service.limits import Refused

DELAY = 0.005  # seconds that an image waits for company while the network has nothing else to do


class Answer(NamedTuple):
    """What the network says of one image."""

    probabilities: Any   # (K,)
    maps: dict           # name → (h,w)
    no_maps: str         # why there are none, where they were asked for


class _Waiting(NamedTuple):
    image: Any
    wants_maps: bool
    answer: asyncio.Future


class Batcher:
    """Collects images into batches, one batch at a time in a thread of its own.

    :param predictor: a :class:`~gluon_fgvc.deploy.Predictor`; its ``batch_size`` is the largest batch.
    :param limits: :class:`~gluon_fgvc.deploy.service.limits.Limits`, of which the queue's count here.
    :param observe: called with the number of images of each batch.

    ``images`` is how many were taken in and not yet answered, ``bytes`` those of their files.
    """

    def __init__(self, predictor, limits, observe=lambda count: None):
        self._predictor, self._limits, self._observe = predictor, limits, observe
        self._thread = ThreadPoolExecutor(1, 'network')
        self._queue, self._task = None, None
        self.images = self.bytes = 0

    def start(self):
        """Begin, within the event loop."""
        self._queue = asyncio.Queue()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self):
        """End; images that still wait are not answered."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._thread.shutdown()

    @property
    def is_running(self):
        return self._task is not None and not self._task.done()

    @property
    def is_full(self):
        return self.images >= self._limits.queue or self.bytes >= self._limits.queue_bytes

    @contextmanager
    def admitted(self, images=0, size=0):
        """Hold places for ``images`` whose files have ``size`` bytes, or raise Refused if there are not as many."""
        if self.images + images > self._limits.queue or self.bytes + size > self._limits.queue_bytes:
            raise Refused(503, 'full', f'{self.images} images are waiting; try again soon')
        self.images, self.bytes = self.images + images, self.bytes + size
        try:
            yield
        finally:
            self.images, self.bytes = self.images - images, self.bytes - size

    async def ask(self, image, wants_maps=False):
        """Return the :class:`Answer` for a transformed image, uint8 (H,W,3)."""
        waiting = _Waiting(image, wants_maps, asyncio.get_running_loop().create_future())
        self._queue.put_nowait(waiting)
        return await waiting.answer

    async def _run(self):
        loop = asyncio.get_running_loop()
        while True:
            batch = [await self._queue.get()]
            if self._queue.qsize() + 1 < self._predictor.batch_size:
                await asyncio.sleep(DELAY)
            while len(batch) < self._predictor.batch_size and not self._queue.empty():
                batch.append(self._queue.get_nowait())
            groups = {}
            for waiting in batch:
                if not waiting.answer.done():  # nobody waits any longer: time is up, or the client has gone
                    groups.setdefault((waiting.image.shape, waiting.wants_maps), []).append(waiting)
            for (_, wants_maps), group in groups.items():
                for part in parts(group, self._predictor.batch_size):
                    await self._answer(loop, part, wants_maps)

    async def _answer(self, loop, group, wants_maps):
        self._observe(len(group))
        try:
            answers = await loop.run_in_executor(self._thread, self._compute, [w.image for w in group], wants_maps)
        except Exception as error:  # a fault of one batch is told to those who sent it, and the next goes on
            answers = [error] * len(group)
        for waiting, answer in zip(group, answers):
            if waiting.answer.done():
                continue
            if isinstance(answer, Exception):
                waiting.answer.set_exception(answer)
            else:
                waiting.answer.set_result(answer)

    def _compute(self, images, wants_maps):
        images = np.stack(images)
        probabilities, maps, no_maps = self._predictor.predict_batch(images), {}, ''
        if wants_maps:
            try:
                maps = self._predictor.maps(images)
            except NoActivation as reason:
                no_maps = str(reason)
        return [Answer(row, {name: values[i] for name, values in maps.items()}, no_maps)
                for i, row in enumerate(probabilities)]


def parts(group, largest):
    """Cut a list into lists of ``largest`` or a power of two below.

    A graph is prepared for each number of images, which costs time and memory: there are few such numbers.
    """
    while group:
        count = largest if len(group) >= largest else 1 << (len(group).bit_length() - 1)
        yield group[:count]
        group = group[count:]

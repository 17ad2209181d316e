"""Workers that answer in the order they were asked: forked processes, or threads.

The loader, the doctor and the packing of records work with these. The pools of the standard library will not do:
``multiprocessing.Pool`` waits for ever for what a killed worker was doing; the workers of ``ProcessPoolExecutor`` share
a queue behind a lock that a killed one may hold, and outlive a main process that is killed. Here every worker has a
pipe of its own and there is no lock and no shared memory; that a worker died is known at once, and so is, to it, the
death of its parent.
"""
import atexit
import itertools
import multiprocessing
import pickle
import signal
import time
import traceback
from collections import deque
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
from mxnet import nd

from gluon_fgvc.errors import DataError

AHEAD = 2        # jobs a worker has been asked for
LARGE = 1 << 16  # bytes of an array that is sent by itself


def map_in_order(function, jobs, workers, remedy):
    """Yield ``function(job)`` of each of ``jobs``, in order; ``workers`` processes compute, 0 is this one.

    :param remedy: what a user can do if a worker dies.
    :raises DataError: what ``function`` raises, or that a worker died.
    """
    if not workers:
        yield from map(function, jobs)
        return
    with Processes([function] * workers, 'worker', remedy) as processes:
        yield from processes.run(jobs)


class Processes:
    """Forked processes; job i is done by process i modulo their number.

    :param functions: job → result, one for each process; forked, never pickled. Large arrays in a result are sent
        as they are, the rest is pickled.
    :param name, remedy: of the message that a process died.
    :param place_of: number of a process → (a count that rises as it works, what it is at, in words).
    :param timeout: seconds without a rise after which a process that is waited for is stuck; 0 is never.
    """

    def __init__(self, functions, name, remedy, place_of=None, timeout=0):
        self._name, self._remedy, self._place_of, self._timeout = name, remedy, place_of, timeout
        nd.waitall()  # fork while MXNet's engine is idle
        # Forked children lack the threads of OpenCV's pool and would wait for them for ever.
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        fork = multiprocessing.get_context('fork')
        self._processes, self._pipes, self._asked = [], [], deque()
        for function in functions:
            ours, theirs = fork.Pipe()
            self._pipes.append(ours)
            process = fork.Process(target=_serve, args=(theirs, self._pipes, function), daemon=True)
            process.start()
            theirs.close()
            self._processes.append(process)
        cv2.setNumThreads(threads)
        atexit.register(self.close)  # before multiprocessing's own end, which would wait for them for ever

    def run(self, jobs):
        """Yield the result of each of ``jobs``, in order.

        A run may be left early; one that was left cannot be continued once the next has begun.

        :raises DataError: what a function raised, that a process died, which is known at once, or that one is stuck.
        :raises RuntimeError: with the traceback of anything else that a function raised.
        """
        while self._asked:  # an earlier run was left
            self._take()
        turns = itertools.cycle(range(len(self._pipes)))
        for job in jobs:
            if len(self._asked) == AHEAD * len(self._pipes):
                yield self._result(*self._take())
            worker = next(turns)
            self._asked.append(worker)
            try:
                self._pipes[worker].send(job)
            except OSError:
                raise self._death(worker) from None
        while self._asked:
            yield self._result(*self._take())

    def _take(self):
        worker = self._asked.popleft()
        try:
            if self._timeout:
                self._wait_for(worker)
            return _receive(self._pipes[worker])
        except (EOFError, OSError):
            raise self._death(worker) from None

    def _wait_for(self, worker):
        """Wait until ``worker`` answers or is dead; raise DataError where it is stuck."""
        before, since = None, time.monotonic()
        while not self._pipes[worker].poll(min(1, self._timeout)):
            count, what = self._place_of(worker)
            if count != before:
                before, since = count, time.monotonic()
            elif time.monotonic() - since > self._timeout:
                raise DataError(f'{self._name} process {self._processes[worker].pid} has been at {what} for '
                                f'{self._timeout} s; look at that file and its disk, or set data.timeout higher')

    def _result(self, value, error):
        if isinstance(error, DataError):
            raise error
        if error is not None:
            raise RuntimeError(f'a {self._name} process failed:\n{error}')
        return value

    def _death(self, worker):
        process = self._processes[worker]
        process.join(1)
        return DataError(f'{self._name} process {process.pid} died (exit code {process.exitcode}; -9 is often a lack '
                         f'of memory); {self._remedy}')

    def close(self):
        """End the processes, whatever they are doing."""
        atexit.unregister(self.close)
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.kill()  # they ignore gentler words
        for process in self._processes:
            process.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Threads:
    """Threads with the face of :class:`Processes`: nothing is copied, but Python code takes turns."""

    def __init__(self, functions):
        self._threads = [(ThreadPoolExecutor(1), function) for function in functions]

    def run(self, jobs):
        """Yield the result of each of ``jobs``, in order."""
        asked, turns = deque(), itertools.cycle(self._threads)
        for job in jobs:
            if len(asked) == AHEAD * len(self._threads):
                yield asked.popleft().result()
            thread, function = next(turns)
            asked.append(thread.submit(function, job))
        while asked:
            yield asked.popleft().result()

    def close(self):
        """End the threads after what they are doing."""
        for thread, _ in self._threads:
            thread.shutdown(cancel_futures=True)


# --- between the processes -------------------------------------------------------------------

def _serve(pipe, parents, function):
    """The life of a worker: it ends when the other end of ``pipe`` is closed."""
    # What a terminal or a scheduler sends to all processes is for the main one to handle, which may still need batches.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    for parent in parents:  # a forked copy of the other end would keep the pipe open
        parent.close()
    try:
        while True:
            job = pipe.recv()
            try:
                answer = function(job), None
            except DataError as error:
                answer = None, error
            except Exception:
                answer = None, traceback.format_exc()
            _send(pipe, answer)
    except (EOFError, OSError):
        pass


def _send(pipe, answer):
    """Send ``answer``: first all but the memory of its large arrays, then that, uncopied."""
    arrays = []

    def is_small(buffer):
        memory = buffer.raw()
        if memory.nbytes < LARGE:
            return True
        arrays.append(memory)
        return False

    rest = pickle.dumps(answer, 5, buffer_callback=is_small)
    pipe.send((rest, [array.nbytes for array in arrays]))
    for array in arrays:
        pipe.send_bytes(array)


def _receive(pipe):
    rest, sizes = pipe.recv()
    arrays = [np.empty(size, np.uint8) for size in sizes]
    for array in arrays:
        pipe.recv_bytes_into(array)
    return pickle.loads(rest, buffers=arrays)

"""Workers answer in order, hand on what goes wrong, and are missed at once."""
import os
import signal
import time

import numpy as np
import pytest

from gluon_fgvc.data import BrokenImage
from gluon_fgvc.data.pool import Processes, Threads, map_in_order
from gluon_fgvc.errors import DataError

JOBS = range(11)


def slow_square(job):
    time.sleep(0.02 * (job % 3 == 0))  # later jobs are done before earlier ones
    return job, np.full((job, 200, 300), job, np.uint8), {'empty': np.empty(0, np.float32), 'bytes': b'x' * job}


@pytest.mark.parametrize('workers', [0, 1, 3])
def test_results_are_in_order_and_whole(workers):
    for job, (number, array, more) in zip(JOBS, map_in_order(slow_square, JOBS, workers, 'rest')):
        assert number == job and array.shape == (job, 200, 300) and (array == job).all() and array.dtype == np.uint8
        assert more['empty'].dtype == np.float32 and more['empty'].shape == (0,) and more['bytes'] == b'x' * job


def test_threads_answer_in_order():
    threads = Threads([slow_square] * 3)
    assert [number for number, _, _ in threads.run(JOBS)] == list(JOBS)
    threads.close()


def fails(job):
    if job == 4:
        raise BrokenImage('image 4 is broken', 'broken', truncated=True)
    if job == 6:
        raise ZeroDivisionError('a defect of ours')
    return job


@pytest.mark.parametrize('workers', [0, 2])
def test_what_a_function_raises_comes_after_what_was_before_it(workers):
    seen = []
    with pytest.raises(BrokenImage, match='image 4 is broken') as caught:
        for result in map_in_order(fails, JOBS, workers, 'rest'):
            seen.append(result)
    assert seen == [0, 1, 2, 3] and caught.value.reason == 'broken' and caught.value.truncated


def test_a_defect_has_its_traceback_and_a_left_run_is_forgotten():
    with Processes([fails, fails], 'test', 'rest') as processes:
        with pytest.raises(RuntimeError, match='(?s)a test process failed:.*test_pool.py.*a defect of ours'):
            list(processes.run([5, 6, 7, 8]))
        left = processes.run(range(4, 9))
        with pytest.raises(DataError):
            next(left)
        assert list(processes.run([1, 2, 3])) == [1, 2, 3]


def dies(job):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_dead_process_is_an_error_at_once():
    start = time.monotonic()
    with pytest.raises(DataError, match=r'worker process \d+ died \(exit code -9; .*\); use fewer'):
        list(map_in_order(dies, JOBS, 2, 'use fewer'))
    assert time.monotonic() - start < 10

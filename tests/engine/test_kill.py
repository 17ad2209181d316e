"""Training that is killed at any moment and resumed ends as if nothing had happened."""
import csv
import json
import os
import random
import signal
import subprocess
import time

import numpy as np
import pytest

from gluon_fgvc.engine import checkpoint
from tests import small_run

# All that carries a state or draws random numbers, besides momentum, cosine, dropout and augmentation in a worker.
EVERYTHING = ['train.ema=0.9', 'train.mixup=0.2', 'train.label_smoothing=0.1']
# Features of the frozen layers are computed once a run, so again by each that resumes.
REUSE = ['method.cut=fc', 'data.train={resize: [32, 32]}', 'train.ema=0.9']


def start(folder, run, epochs, overrides=()):
    return small_run.start('train', '--cfg', 'cfg.yaml', '--work-dir', run, '--resume', '--seed', '3', 'data.workers=1',
                           f'train.epochs={epochs}', *overrides, cwd=folder, stdout=subprocess.DEVNULL)


def members(group):
    """Return the ids of the processes of a process group that have not ended."""
    found = []
    for name in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{name}/stat') as stream:
                state, _, pgrp = stream.read().rpartition(')')[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != 'Z':
            found.append(int(name))
    return found


def wait_for(condition, seconds=60):
    """Wait until ``condition()`` holds; return whether it did in time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.01)
    return False


def state(folder):
    """Return what can be seen of the files in ``folder``: names, sizes and times."""
    seen = set()
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                status = os.stat(os.path.join(parent, name))
            except FileNotFoundError:
                continue
            seen.add((name, status.st_size, status.st_mtime_ns))
    return seen


def kill_at(process, folder, change, delay):
    """Kill ``process`` and its workers ``delay`` seconds after the ``change``-th change of the files in ``folder``.

    :returns: False if it had ended before; it must have ended well.
    """
    before = state(folder)
    while process.poll() is None:
        after = state(folder)
        change -= after != before
        before = after
        if change < 0:
            time.sleep(delay)
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return True
        time.sleep(0.001)
    finish(process)
    return False


def finish(process):
    """Let ``process`` run to its end, which must be a good one."""
    error = process.communicate(timeout=250)[1]
    assert process.returncode == 0, error


def assert_same(run, whole):
    """Every figure and every bit that outlives a run is equal."""
    for kind in checkpoint.KINDS:
        ours, theirs = checkpoint.read(run, kind), checkpoint.read(whole, kind)
        for record in (ours, theirs):
            record['files'] = sorted(record['files'])  # an .npz holds the time at which it was written
        assert ours == theirs
    ours, theirs = (checkpoint.load_arrays(folder, checkpoint.read(folder, 'last')) for folder in (run, whole))
    assert ours.keys() == theirs.keys() and any(name.startswith('average:') for name in ours)
    for name in ours:
        np.testing.assert_array_equal(ours[name], theirs[name], name)
    assert small_run.records(run) == small_run.records(whole)
    assert table(run) == table(whole)
    assert (run / 'predictions.csv').read_text() == (whole / 'predictions.csv').read_text()
    ours, theirs = ({**json.loads((folder / 'evaluation.json').read_text()), 'evaluated_at': None}
                    for folder in (run, whole))
    assert ours == theirs
    assert sorted(path.name for path in (run / 'checkpoints').iterdir()) == \
        sorted(path.name for path in (whole / 'checkpoints').iterdir())
    assert not [path for path in run.rglob('*.tmp')]


def table(run):
    with open(run / 'metrics.csv', newline='') as stream:
        return [{**row, 'seconds': None} for row in csv.DictReader(stream)]


@pytest.mark.parametrize('overrides, epochs, kills', [
    pytest.param(EVERYTHING, 2, 2, id='everything'),
    pytest.param(EVERYTHING, 12, 24, id='everything, often', marks=pytest.mark.slow),
    pytest.param(REUSE, 12, 24, id='reused features, often', marks=pytest.mark.slow)])
@pytest.mark.timeout(1800)
def test_killed_at_any_moment_and_resumed_it_ends_the_same(tmp_path, overrides, epochs, kills):
    small_run.write(tmp_path, train=24, test=8)
    finish(start(tmp_path, 'whole', epochs, overrides))
    rng, killed = random.Random(epochs), 0
    # An epoch changes the files about 25 times, half of them while checkpoints are written.
    for _ in range(kills):
        process = start(tmp_path, 'run', epochs, overrides)
        killed += kill_at(process, tmp_path / 'run', rng.randint(0, 35), rng.choice([0, 0.02]))
    finish(start(tmp_path, 'run', epochs, overrides))
    assert killed >= kills / 2, f'only {killed} of {kills} kills came before the end'
    assert_same(tmp_path / 'run', tmp_path / 'whole')
    assert ('reused' in (tmp_path / 'run' / 'log.txt').read_text()) == (overrides is REUSE)


def test_workers_do_not_outlive_the_main_process(tmp_path):
    small_run.write(tmp_path)
    process = start(tmp_path, 'run', 50)
    log = tmp_path / 'run' / 'metrics.jsonl'
    assert wait_for(lambda: log.exists() and log.stat().st_size)
    assert len(members(process.pid)) == 3  # the loaders of train and validation have a worker each
    os.kill(process.pid, signal.SIGKILL)  # the main process alone
    process.communicate()
    assert wait_for(lambda: not members(process.pid), 20), 'loader processes are left'

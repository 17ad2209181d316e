"""SIGTERM and SIGUSR1 keep everything; a damaged checkpoint and a stuck loader are told in one line."""
import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from gluon_fgvc import data
from gluon_fgvc.engine import checkpoint, ending, train_epoch
from gluon_fgvc.engine.fit import Training
from gluon_fgvc.errors import CheckpointError, DataError, Interrupted
from gluon_fgvc.run_folder import manifests
from tests import small_run
from tests.engine import toy
from tests.engine.test_fit import digest, epoch_rows, fit


def settings(**changes):
    return toy.settings(train__epochs=3, train__ema=0.9, **changes)


def ask_at_step(patch, number, which):
    seeds = train_epoch._seed_step

    def asked(seed, step):
        if step == number:
            os.kill(os.getpid(), which)
        return seeds(seed, step)
    patch.setattr(train_epoch, '_seed_step', asked)


@pytest.mark.parametrize('which', ending.SIGNALS)
@pytest.mark.parametrize('step, place', [(0, 'epoch 0 and 1 batches'), (5, 'epoch 1 and 2 batches'),
                                         (7, 'epoch 1 and 4 batches')])
def test_asked_to_end_it_keeps_the_batch(tmp_path, monkeypatch, which, step, place):
    whole, _, folder = fit(tmp_path, settings(), toy.Toy(dropout=0.5), 'whole')
    with monkeypatch.context() as patch, ending.heeded():
        ask_at_step(patch, step, which)
        with pytest.raises(Interrupted, match=f'asked to end by {which.name}: all is kept up to {place}; --resume'):
            fit(tmp_path, settings(), toy.Toy(dropout=0.5), 'run')
    assert Interrupted.exit_code == 75
    resumed, _, run = fit(tmp_path, settings(), toy.Toy(dropout=0.5), 'run')
    assert digest(resumed) == digest(whole) and epoch_rows(run) == epoch_rows(folder)


def test_asked_to_end_in_validation_it_keeps_the_epoch(tmp_path, monkeypatch):
    whole, _, folder = fit(tmp_path, settings(), toy.Toy(), 'whole')
    with monkeypatch.context() as patch, ending.heeded():
        validate = Training.validate

        def asked(training, state):
            os.kill(os.getpid(), signal.SIGTERM)
            return validate(training, state)
        patch.setattr(Training, 'validate', asked)
        with pytest.raises(Interrupted, match='epoch 0 and 4 batches'):
            fit(tmp_path, settings(), toy.Toy(), 'run')
    resumed, _, run = fit(tmp_path, settings(), toy.Toy(), 'run')
    assert digest(resumed) == digest(whole) and epoch_rows(run) == epoch_rows(folder)


def test_outside_of_training_the_signals_are_as_they_were():
    before = [signal.getsignal(number) for number in ending.SIGNALS]
    with ending.heeded():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Interrupted, match='SIGUSR1'):
            ending.stop_if_asked()
    ending.stop_if_asked()
    assert [signal.getsignal(number) for number in ending.SIGNALS] == before


def test_a_process_that_is_asked_to_end_says_so_in_one_line(tmp_path):
    """As a scheduler does it: the signal reaches the workers as well."""
    small_run.write(tmp_path)
    words = ('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--resume', 'train.epochs=300', 'data.workers=1')
    process = small_run.start(*words, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not (tmp_path / 'run' / 'last.json').exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGTERM)
    error = process.communicate(timeout=100)[1]
    assert process.returncode == 75
    assert error.startswith('error: asked to end by SIGTERM: all is kept up to epoch ') and error.count('\n') == 1
    now = checkpoint.read(tmp_path / 'run', 'last')['progress']
    assert f"epoch {now['epoch']}" in error


DAMAGES = {
    'flipped': lambda run: flip(next((run / 'checkpoints').glob('last-0003*.params'))),
    'states': lambda run: flip(next((run / 'checkpoints').glob('last-0003*.npz'))),
    'gone': lambda run: next((run / 'checkpoints').glob('last-0003*.npz')).unlink(),
    'empty manifest': lambda run: (run / 'last.json').write_text(''),
    'other manifest': lambda run: (run / 'last.json').write_text(
        (run / 'last.json').read_text().replace('"step": 12', '"step": 13')),
    'whole manifest without progress': lambda run: without(run / 'last.json', 'progress'),
}


def without(path, key):
    record = json.loads(path.read_text())
    for name in (key, manifests.CHECKSUM):
        del record[name]
    path.write_text(json.dumps({**record, manifests.CHECKSUM: manifests._checksum(record)}))


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_newest_checkpoint_is_damaged(tmp_path, damage, capsys):
    whole, _, folder = fit(tmp_path, settings(), toy.Toy(), 'whole')
    DAMAGES[damage](folder)
    said = []
    assert checkpoint.recover(folder, said.append)['epoch'] == 2
    assert len(said) == 1 and said[0].startswith('the last checkpoint cannot be used: ') and '\n' not in said[0]
    resumed, progress, _ = fit(tmp_path, settings(), toy.Toy(), 'whole')
    assert progress.epoch == 3 and digest(resumed) == digest(whole)
    assert checkpoint.read(folder, 'last')['epoch'] == 3


def test_both_are_damaged(tmp_path):
    _, _, folder = fit(tmp_path, settings(), toy.Toy(), 'run')
    for path in (folder / 'checkpoints').glob('last-*.params'):
        flip(path)
    with pytest.raises(CheckpointError, match="last-0003.params' was changed"):
        checkpoint.recover(folder, print)
    assert checkpoint.read(folder, 'best')  # and nothing was removed
    assert len(list((folder / 'checkpoints').glob('last-*.params'))) == 2


def test_a_stuck_loader_names_the_image(tmp_path):
    images = toy.image_set(tmp_path, 8)

    def read(row):
        time.sleep(600 * (row == 5))
        return np.zeros((8, 8, 3), np.uint8)

    slow = data.ImageSet('train', images.paths, images.labels, reader=read)
    start = time.monotonic()
    with data.Loader(slow, data.EvalTransform(toy.settings().data.eval), 4, workers=2, timeout=1) as loader:
        with pytest.raises(DataError, match=rf"loader process \d+ has been at image '{slow.paths[5]}' for 1 s"):
            list(loader.epoch(0))
    assert time.monotonic() - start < 20

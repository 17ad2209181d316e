"""Checkpoints survive damage of every kind, or say in one line what is damaged."""
import json
import os
import resource
import signal
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc.engine import checkpoint
from gluon_fgvc.engine.average import ParameterAverage
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.nn.parameters import structural, to_numpy
from tests.engine import toy


def net(seed=0):
    mx.random.seed(seed)
    block = toy.Net(2)
    block.initialize(mx.init.Normal(0.3))
    return block


def test_round_trip_and_clean_up(tmp_path):
    block = net()
    for epoch in (1, 2):
        digest = checkpoint.save(tmp_path, 'last', block, {'epoch': epoch, 'note': 'é'}, {'a/b': np.arange(3.0)})
    record = checkpoint.read(tmp_path, 'last')
    assert record['epoch'] == 2 and record['note'] == 'é' and record['parameters_sha256'] == digest
    assert sorted(os.listdir(tmp_path / 'checkpoints')) == [
        f'last-000{n}.{end}' for n in (1, 2) for end in ('npz', 'params')]  # one before the last, too
    other = net(seed=1)
    checkpoint.load_parameters(tmp_path, record, other)
    for name, array in to_numpy(block).items():
        assert (to_numpy(other)[name] == array).all()
    assert checkpoint.load_arrays(tmp_path, record)['a/b'].tolist() == [0, 1, 2]


def test_best_and_last_keep_each_other(tmp_path):
    checkpoint.save(tmp_path, 'best', net(), {'epoch': 1, 'chosen_by': {'epoch': 0, 'split': None}})
    checkpoint.save(tmp_path, 'last', net(), {'epoch': 4}, {})
    assert checkpoint.read(tmp_path, 'best')['epoch'] == 1 and checkpoint.read(tmp_path, 'last')['epoch'] == 4


def test_nothing_is_nothing(tmp_path):
    assert checkpoint.read(tmp_path, 'last') is None


@pytest.mark.parametrize('damage, message', [
    (lambda d: (d / 'checkpoints/last-0001.params').write_bytes(b''), 'changed or is damaged'),
    (lambda d: os.remove(d / 'checkpoints/last-0001.npz'), 'is missing'),
    (lambda d: (d / 'last.json').write_text('{"form'), 'not a checkpoint record'),
    (lambda d: (d / 'last.json').write_bytes(b'\xff\xfe'), 'not a checkpoint record'),
    (lambda d: (d / 'last.json').write_text('[]'), 'not a checkpoint record'),
    (lambda d: (d / 'last.json').write_text('{"files": {}, "format": 99, "epoch": 1}'), 'format 99')])
def test_damage_is_one_clear_line(tmp_path, damage, message):
    checkpoint.save(tmp_path, 'last', net(), {'epoch': 1}, {'a': np.zeros(2)})
    damage(tmp_path)
    with pytest.raises(CheckpointError, match=message) as caught:
        checkpoint.read(tmp_path, 'last')
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('key', ['files', 'format', 'epoch', 'chosen_by', 'chosen_by.epoch', 'chosen_by.split'])
@pytest.mark.parametrize('change', ['missing', 'of another type'])
def test_a_manifest_without_a_key_is_one_clear_line(tmp_path, key, change):
    checkpoint.save(tmp_path, 'best', net(), {'epoch': 1, 'chosen_by': {'epoch': 0, 'split': None}})
    tree = json.loads((tmp_path / 'best.json').read_text())
    *parents, last = key.split('.')
    owner = tree[parents[0]] if parents else tree
    owner.pop(last) if change == 'missing' else owner.update({last: [1.5]})
    (tmp_path / 'best.json').write_text(json.dumps(tree))
    with pytest.raises(CheckpointError, match=r"best.json' is not a checkpoint record: '" + key):
        checkpoint.read(tmp_path, 'best')


def test_a_checkpoint_that_training_replaces_is_followed(tmp_path):
    for name in 'best', 'last':
        checkpoint.save(tmp_path, name, net(), {'epoch': 1, 'chosen_by': {'epoch': 0, 'split': None}})
    seen = []

    def use(record):
        seen.append(record['epoch'])
        if len(seen) < 3:  # between the check of the file and its opening
            checkpoint.save(tmp_path, 'best', net(), {'epoch': len(seen) + 1, 'chosen_by': record['chosen_by']})
        checkpoint.load_parameters(tmp_path, record, net())
        return 'loaded'

    record, result = checkpoint.follow(tmp_path, 'best', use)
    assert seen == [1, 2, 3] and record['epoch'] == 3 and result == 'loaded'
    os.remove(tmp_path / 'checkpoints/best-0003.params')
    with pytest.raises(CheckpointError, match='is missing'):  # nobody replaced it: it is an error
        checkpoint.follow(tmp_path, 'best', use)
    assert checkpoint.follow(tmp_path / 'nowhere', 'best', use) == (None, None)


def test_every_flipped_byte_is_noticed(tmp_path):
    checkpoint.save(tmp_path, 'last', net(), {'epoch': 1}, {'a': np.zeros(2)})
    path = tmp_path / 'checkpoints/last-0001.params'
    content = path.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 25)):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1:])
        with pytest.raises(CheckpointError):
            checkpoint.read(tmp_path, 'last')
    path.write_bytes(content)
    assert checkpoint.read(tmp_path, 'last')['epoch'] == 1


@pytest.mark.parametrize('other, message', [
    (lambda: toy.Net(3), "'classifier.(weight|bias)' has shape"),
    (lambda: toy.Net(2, batch_norm=False), 'another network')])
def test_parameters_of_another_network_are_refused(tmp_path, other, message):
    checkpoint.save(tmp_path, 'last', net(), {'epoch': 1})
    block = other()
    block.initialize()
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load_parameters(tmp_path, checkpoint.read(tmp_path, 'last'), block)


def test_an_edited_manifest_of_the_other_kind_does_not_lose_its_files(tmp_path):
    checkpoint.save(tmp_path, 'best', net(), {'epoch': 1, 'chosen_by': {'epoch': 0, 'split': None}})
    (tmp_path / 'best.json').write_text('{')
    checkpoint.save(tmp_path, 'last', net(), {'epoch': 2})
    assert (tmp_path / 'checkpoints/best-0001.params').exists()


def limit_file_size(size):
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize('size', [100, 1000, 1900])
def test_a_disk_that_fills_up_leaves_the_earlier_checkpoint(tmp_path, size):
    """Files may not grow beyond ``size`` bytes in the process that saves the second checkpoint."""
    block = net()
    digest = checkpoint.save(tmp_path, 'last', block, {'epoch': 1}, {'a': np.zeros(2)})
    script = ('import sys; from tests.engine.test_checkpoint import *\n'
              'from gluon_fgvc.commands import cli\n'
              'block = net(seed=1)\n'
              f'limit_file_size({size})\n'
              f'args = {str(tmp_path)!r}, "last", block, {{"epoch": 2}}, {{"a": np.zeros(999)}}\n'
              'sys.exit(cli.run(lambda _: checkpoint.save(*args)))')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', script], capture_output=True, text=True)
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith('error: cannot write') and 'the earlier checkpoint is intact' in last
    record = checkpoint.read(tmp_path, 'last')
    assert record['epoch'] == 1 and record['parameters_sha256'] == digest
    assert not [name for name in os.listdir(tmp_path / 'checkpoints') if name.endswith('.tmp')]
    json.dumps(record)


def test_the_moving_average_by_hand():
    block = toy.Net(2, batch_norm=False)
    block.initialize(mx.init.Constant(0.0))
    average = ParameterAverage(block, decay=0.5)
    weight = structural(block)['conv.weight']
    expected = 0.0
    for step, value in enumerate((1.0, 2.0, 3.0)):
        weight.set_data(mx.nd.full(weight.shape, value))
        average.update()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.state()['conv.weight'].ravel()[0] == pytest.approx(expected)
    with average.in_place():
        assert weight.data().asnumpy().ravel()[0] == pytest.approx(expected)
    assert (weight.data().asnumpy() == 3.0).all()

"""Curves for TensorBoard, read back from the file's own format."""
import sys

import pytest

from gluon_fgvc.engine import tensorboard
from gluon_fgvc.engine.log import Log
from gluon_fgvc.errors import ConfigError


def read(folder):
    """Return (tag, step) → value of all events in ``folder``, which must be of one file."""
    from tensorboardX.proto import event_pb2
    path, = folder.glob('events.out.tfevents.*')
    data, place, found = path.read_bytes(), 0, {}
    while place < len(data):
        length = int.from_bytes(data[place:place + 8], 'little')
        event = event_pb2.Event.FromString(data[place + 12:place + 12 + length])
        place += length + 16  # length, its sum, the event, its sum
        for value in event.summary.value:
            assert (value.tag, event.step) not in found
            found[value.tag, event.step] = value.simple_value
    return found


def records(log, epochs):
    for epoch in epochs:
        log.record(kind='train', epoch=epoch, step=2 * epoch + 2, phase='all', loss=1.0 + epoch, lr=0.1)
        log.record(kind='epoch', epoch=epoch, phase='all', val_top1=0.5 + epoch / 10)


def test_curves_are_the_records_also_after_a_cut(tmp_path):
    pytest.importorskip('tensorboardX')
    log = Log(tmp_path, tensorboard=True)
    records(log, range(3))
    found = read(tmp_path / 'tensorboard')
    assert found['train/loss', 6] == 3.0 and found['epoch/val_top1', 3] == pytest.approx(0.7)
    assert {tag for tag, _ in found} == {'train/loss', 'train/lr', 'epoch/val_top1'} and len(found) == 9
    records(Log(tmp_path, {'epoch': 1, 'progress': {'step': 2}}, tensorboard=True), [1])
    again = read(tmp_path / 'tensorboard')
    assert again == {key: value for key, value in found.items() if key[1] <= (4 if key[0].startswith('train') else 2)}


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tensorboardX', None)
    with pytest.raises(ConfigError, match=r'run.tensorboard: .* pip install gluon_fgvc\[tensorboard\]'):
        tensorboard.check_installed()


def test_it_is_off_by_default(tmp_path):
    records(Log(tmp_path), range(1))
    assert not (tmp_path / 'tensorboard').exists()

"""More epochs than a training began with: bit for bit those of a longer one, or refused."""
import json

import pytest

from gluon_fgvc import runs
from gluon_fgvc.commands import cli, train
from gluon_fgvc.runs.longer import begins_alike
from tests import small_run


def test_a_longer_training_goes_on_bit_for_bit(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(small_run.write(tmp_path, train=8))
    words = ['--cfg', 'cfg.yaml', '--no-test', 'train.schedule={name: step, every: 1, factor: 0.5}']
    assert cli.run(train.main, [*words, '--work-dir', 'whole', 'train.epochs=2']) == cli.OK
    assert cli.run(train.main, [*words, '--work-dir', 'parts', 'train.epochs=1']) == cli.OK
    assert cli.run(train.main, [*words, '--work-dir', 'parts', '--resume', 'train.epochs=2']) == cli.OK
    one, other = (json.loads((tmp_path / name / 'last.json').read_text())['parameters_sha256']
                  for name in ('whole', 'parts'))
    assert one == other
    capsys.readouterr()
    assert cli.run(train.main, [*words, '--work-dir', 'parts', '--resume', 'train.epochs=1']) == cli.USAGE
    message = capsys.readouterr().err
    assert 'train.epochs is 1 now and was 2, and the epochs done are not the first of so many' in message
    assert "--init-from 'parts'" in message


@pytest.mark.parametrize('overrides, after, alike', [
    (['train.schedule=constant'], {'train.epochs': 9}, True),
    (['train.schedule={name: constant, warmup: 2}'], {'train.epochs': 9}, True),
    (['train.schedule={name: step, at: [2, 6]}'], {'train.epochs': 9}, True),
    (['train.schedule=constant'], {'train.epochs': 3}, False), (['train.schedule=constant'], {}, False),
    (['train.schedule=cosine'], {'train.epochs': 9}, False), (['train.schedule=poly'], {'train.epochs': 9}, False),
    (['train.schedule=constant'], {'train.epochs': 9, 'train.schedule': 'cosine'}, False),
    (['train.schedule=constant', 'method.name=attention_scaled'], {'train.epochs': 9}, True),
    (['train.schedule=constant', 'method.name=attention_scaled', 'method.schedule=FFAA'], {'train.epochs': 9}, False)])
@pytest.mark.filterwarnings('ignore:method.name')
def test_which_schedules_allow_it(tmp_path, overrides, after, alike):
    (tmp_path / 'cfg.yaml').write_text(small_run.CONFIG)
    before = runs.load_config(tmp_path / 'cfg.yaml', [
        ('train.epochs', 4), *runs.build.config.parse_overrides(overrides)])
    assert begins_alike(before, runs.build.changed(before, after)) is alike

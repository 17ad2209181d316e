"""Five-fold cross-validation as a user types it: fgvc study trains, tests and averages the folds of Adience."""
import json
import statistics

import pytest

from gluon_fgvc.commands import cli, study
from tests.data import official

CONFIG = '''\
data: {name: adience, root: adience, task: gender, train: {resize: [32, 32]}, eval: {resize: [32, 32]}, batch_size: 4,
       workers: 0, val_fraction: 0.25}
backbone: {name: mobilenetv2_0.25, weights: none}
method: {name: finetune, lr_mult: 1}
train: {epochs: 1, optimizer: {name: sgd, lr: 0.002}}
run: {contexts: [cpu0]}
'''


@pytest.mark.slow
def test_folds_are_tested_once_each_and_averaged(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    official.adience(tmp_path / 'adience')
    (tmp_path / 'cfg.yaml').write_text(CONFIG)
    words = ['--name', 'faces', '--cfg', 'cfg.yaml', '--folds', '0', '1', '2', '3', '4', '--evaluate', '--results', 'r']
    assert cli.run(study.main, words) == cli.OK
    entry, = json.loads((tmp_path / 'r' / 'faces.json').read_text())['configs']
    top1 = [run['test']['top1'] for run in entry['runs']]
    assert [run['fold'] for run in entry['runs']] == [0, 1, 2, 3, 4]
    assert entry['summary']['test']['top1'] == {'mean': pytest.approx(statistics.mean(top1)),
                                                'sd': pytest.approx(statistics.stdev(top1)), 'runs': 5}
    assert f'{100 * statistics.mean(top1):.2f} ± {100 * statistics.stdev(top1):.2f}' in (tmp_path / 'r.md').read_text()

    tested = []
    for fold in range(5):
        folder = tmp_path / 'work_dirs' / 'study' / 'faces' / 'cfg' / f'seed0-fold{fold}'
        assert len((folder / 'test_evaluations.jsonl').read_text().splitlines()) == 1
        rows = (folder / 'predictions.csv').read_text().splitlines()[1:]
        persons = {row.split(',')[0].split('/')[-2] for row in rows}
        held_out = {name.split('/')[-2] for name in json.loads((folder / 'split.json').read_text())['val']}
        assert persons and held_out and not persons & held_out
        tested += sorted(persons)
    assert len(tested) == len(set(tested)) == 10  # every person is tested in one fold

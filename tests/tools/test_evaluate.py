"""tools/evaluate.py with several views and several runs, as a user types it."""
import csv
import json

import numpy as np
import pytest

from gluon_fgvc import cli
from tests import small_run
from tools import evaluate, train


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with two runs on the same images, and one on other classes."""
    folder = tmp_path_factory.mktemp('runs')
    small_run.write(folder)
    small_run.write(folder / 'other', classes=('circle', 'cross'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed in (0, 1):
            assert cli.run(train.main, ['--cfg', 'cfg.yaml', '--work-dir', f'run{seed}', '--seed', str(seed)]) == 0
        assert cli.run(train.main, ['--cfg', 'cfg.yaml', '--work-dir', 'crosses', 'data.root=other/images']) == 0
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def run(*words):
    return cli.run(evaluate.main, [str(word) for word in words])


def result(path):
    return json.loads(path.read_text())


def label_probabilities(path):
    with open(path, newline='') as stream:
        return {row['path']: float(row['label_probability']) for row in csv.DictReader(stream)}


def listed(folder):
    return [json.loads(line) for line in (folder / 'test_evaluations.jsonl').read_text().splitlines()]


def test_views_are_shown_beside_the_single_one(here, capfd):
    single, before = result(here / 'run0/evaluation.json'), (here / 'run0/evaluation.json').read_bytes()
    assert run('run0', '--tta', 'flip') == 0
    printed = capfd.readouterr()
    printed = printed.out + printed.err
    assert f"single view, test: top-1 {single['top1']:.4f}" in printed and 'mean of 1 network, 2 views each' in printed
    together = result(here / 'run0/evaluation_flip.json')
    assert together['views'] == 'flip' and together['images'] == 4
    assert together['members'][0]['loss'] == pytest.approx(single['loss'], rel=1e-5)
    assert together['loss'] != pytest.approx(single['loss'], rel=1e-5)
    assert (here / 'run0/predictions_flip.csv').exists() and (here / 'run0/evaluation.json').read_bytes() == before
    assert [entry.get('views') for entry in listed(here / 'run0')] == [None, 'flip']


def test_an_ensemble_is_the_mean_of_its_members(here, capfd):
    assert run('--ensemble', 'run0', 'run1', '--out', 'both') == 0
    assert 'mean of 2 networks, 1 view each' in ''.join(capfd.readouterr())
    members = [label_probabilities(here / f'run{seed}/predictions.csv') for seed in (0, 1)]
    together = label_probabilities(here / 'both/predictions.csv')
    assert together.keys() == members[0].keys() and len(together) == 4
    for path, probability in together.items():
        assert probability == pytest.approx(np.mean([member[path] for member in members]), abs=2e-6)
    summary = result(here / 'both/evaluation.json')
    assert [member['run'] for member in summary['members']] == ['run0', 'run1']
    assert listed(here / 'run1')[-1]['ensemble'] == 'both'
    assert run('--ensemble', 'run0', 'run1', '--out', 'both') == 2  # never overwritten
    assert "'both/evaluation.json' exists already" in capfd.readouterr().err


@pytest.mark.parametrize('code, says, words', [
    (2, 'give one RUN, or several after --ensemble', ['run0', '--ensemble', 'run1', '--out', 'x']),
    (2, '--ensemble needs --out DIR', ['--ensemble', 'run0', 'run1']),
    (2, '--out is for --ensemble', ['run0', '--out', 'x']),
    (2, "'crosses' and 'run0' have other classes or test images", ['--ensemble', 'run0', 'crosses', '--out', 'x']),
    (2, 'ten_crop needs data.test.crop', ['run0', '--tta', 'ten_crop']),
    (2, "invalid choice: 'flop'", ['run0', '--tta', 'flop']),
    (1, "'nowhere' is not a run folder", ['--ensemble', 'run0', 'nowhere', '--out', 'x'])])
def test_mistakes(here, capfd, code, says, words):
    assert run(*words) == code
    error = capfd.readouterr().err
    assert says in error and error.count('\n') == 1 and not (here / 'x').exists()


def test_a_method_that_needs_squares_says_so_before_training(here, capfd):
    words = ['--cfg', 'tasn.yaml', '--work-dir', 'tasn', 'method.attention_backbone=mobilenetv2_0.25']
    text = (here / 'cfg.yaml').read_text().replace('{name: finetune, lr_mult: 1, dropout: 0.3}', '{name: tasn}')
    (here / 'tasn.yaml').write_text(text)
    for size, says in (('[64,32]', 'images of 64 x 32'), ('48', 'images of many sizes')):
        assert cli.run(train.main, [*words, f'data.test.resize={size}']) == 2
        assert f'error: data.test gives {says}, the method takes square ones' in capfd.readouterr().err

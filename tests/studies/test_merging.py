"""Results of one study from two machines: each trains in a folder of its own, then their files become one."""
import json
from pathlib import Path

import pytest

from gluon_fgvc.commands import cli
from gluon_fgvc.commands import study as study_command
from tests.studies.test_study import TRAIN


@pytest.fixture
def on(tmp_path, monkeypatch):
    """Run the command on a 'machine', a folder that has a.yaml; without one, where there are no runs."""
    def call(machine, *words):
        folder = tmp_path / (machine or 'desk')
        folder.mkdir(exist_ok=True)
        (folder / 'a.yaml').write_text('# a\n')
        monkeypatch.chdir(folder)
        return cli.run(lambda argv: study_command.main(argv, train=TRAIN, check=lambda *_: None), list(map(str, words)))
    return call


def train(on, machine, *seeds, data='/data', name='s', more=()):
    assert on(machine, '--name', name, '--cfg', 'a.yaml', '--evaluate', '--results', 'r', f'data.root={data}',
              *more, '--seeds', *seeds) == 0
    return Path('r', f'{name}.json').resolve()


def test_two_machines_give_what_one_gives(on, tmp_path):
    first, second = train(on, 'one', 0, 2), train(on, 'two', 1, data='/elsewhere', more=['data.workers=4'])
    alone = json.loads(train(on, 'alone', 0, 1, 2).read_text())
    kept = [first.read_text(), second.read_text()]
    assert on(None, '--merge', first, second, '--results', 'r') == 0
    merged = json.loads(Path('r/s.json').read_text())
    assert merged['configs'][0]['summary'] == alone['configs'][0]['summary']
    assert [run['seed'] for run in merged['configs'][0]['runs']] == [0, 1, 2]
    assert len(merged['evaluations']) == 3 and len(merged['commands']) == 2
    assert merged['configs'][0]['overrides'] == ['data.root=/data']  # of the first
    assert '## s\n' in Path('r.md').read_text() and Path('r/s.svg').exists()
    assert [first.read_text(), second.read_text()] == kept


def test_merging_twice_changes_nothing(on):
    file = train(on, 'one', 0, 1)
    assert on(None, '--merge', file, '--results', 'r') == 0
    once = Path('r/s.json').read_bytes()
    assert on(None, '--merge', file, file, 'r/s.json', '--results', 'r') == 0 and Path('r/s.json').read_bytes() == once
    assert once == file.read_bytes()


def test_what_is_there_comes_first_and_stays(on):
    first, second = train(on, 'one', 3), train(on, 'two', 1)
    assert on('one', '--merge', second, '--results', 'r') == 0
    merged = json.loads(first.read_text())
    assert [run['seed'] for run in merged['configs'][0]['runs']] == [1, 3]
    assert merged['commands'][0].endswith('3')


@pytest.mark.parametrize('change, says', (
    (lambda tree: tree.update(name='t'), "results of several studies: 's' in"),
    (lambda tree: tree['configs'][0].update(sha256='0'), "'a.yaml' or its overrides are others in"),
    (lambda tree: tree['configs'][0]['overrides'].append('train.epochs=3'), "'a.yaml' or its overrides are others in"),
    (lambda tree: tree['configs'][0]['runs'][0]['test'].update(top1=0.1), "'a.yaml' seed 0 has other results in"),
    (lambda tree: tree['configs'][0]['runs'][0].update(seed=1, split_images={'train': 7, 'test': 2}),
     "'a.yaml' seed 1 is of 9 images in"),
    (lambda tree: tree.pop('configs'), 'is not a results file of fgvc study')))
def test_what_does_not_belong_together_is_refused(on, capsys, change, says):
    first = train(on, 'one', 0)
    tree = json.loads(first.read_text())
    tree['configs'][0]['runs'][0]['split_images'] = {'train': 6, 'test': 2}
    first.write_text(json.dumps(tree))
    second = first.with_name('other.json')
    change(tree)
    second.write_text(json.dumps(tree))
    capsys.readouterr()
    assert on(None, '--merge', first, second, '--results', 'r') != 0
    error = capsys.readouterr().err
    assert says in error and str(second) in error and len(error.splitlines()) == 1
    assert not Path('r').exists()


@pytest.mark.parametrize('words, says', (
    (('--merge', 'x.json', '--name', 's'), '--merge runs nothing: leave out --name'),
    (('--render', '--study', 's.yaml'), '--render runs nothing: leave out --study'),
    (('--render', '--plan'), '--render runs nothing: leave out --plan'),
    (('--render', '--seeds', 0), '--render runs nothing: leave out --seeds'),
    (('--render', 'train.epochs=2'), '--render runs nothing: leave out train.epochs=2'),
    (('--render', '--results', 'nowhere'), "there is no folder 'nowhere'"),
    (('--merge', 'nowhere.json'), "'nowhere.json' is not a results file")))
def test_usage_errors_are_one_line(on, capsys, words, says):
    assert on(None, *words) != 0
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1

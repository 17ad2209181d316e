"""Successive halving over schedules: its arithmetic, its choices, and the tool with a stand-in for training."""
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.commands import cli
from gluon_fgvc.commands import study as study_command
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.studies import schedule_search as search

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize('length, budget, expected', [
    (12, 108, [(12, 3), (6, 6), (3, 12)]), (12, 21, [(1, 3), (1, 6), (1, 12)]), (5, 10, [(2, 5)]),
    (12, 30, [(3, 3), (1, 6), (1, 12)])])
def test_plans_by_hand(length, budget, expected):
    assert [(r.schedules, r.epochs) for r in search.plan(length, budget)] == expected


@given(st.integers(1, 40), st.integers(1, 2000))
def test_a_plan_keeps_its_budget_and_ends_in_full_length(length, budget):
    try:
        rounds = search.plan(length, budget)
    except ConfigError as error:
        assert f'--budget {budget} epochs are too few' in str(error)
        return
    assert sum(r.schedules * r.epochs for r in rounds) <= budget and rounds[-1].epochs == length
    assert all(now.schedules >= then.schedules >= 1 and 2 * now.epochs <= then.epochs
               for now, then in zip(rounds, rounds[1:]))


@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 99))
def test_candidates_differ_begin_with_f_and_come_from_the_seed(count, length, seed):
    found = search.candidates(count, length, seed)
    assert len(set(found)) == len(found) == min(count, 4 ** (length - 1))
    assert found[0] == search.PAPER[:length] and all(len(s) == length and s[0] == 'F' for s in found)
    assert found == search.candidates(count, length, seed)


def test_halving_by_hand():
    rounds = [search.Round(5, 2), search.Round(2, 4)]
    schedules, trained = ['FFAA', 'FFBB', 'FAAA', 'FEEE', 'FBBB'], []

    def score(schedule):
        trained.append(schedule)
        return None if 'E' in schedule else schedule.count('A') - 0.1 * len(schedule)

    results = search.search(rounds, schedules, score)
    assert trained == ['FF', 'FA', 'FE', 'FB', 'FAAA', 'FFAA']  # FF serves two; FE could not be trained
    assert results == [[('FA', 0.8), ('FF', -0.2), ('FB', -0.2)], [('FAAA', 2.6), ('FFAA', 1.6)]]


STAND_IN = '''
import json, sys
from pathlib import Path
words = sys.argv[1:]
folder = Path(words[words.index('--work-dir') + 1])
schedule, = [word.split('=')[1] for word in words if word.startswith('method.schedule=')]
with open('calls.txt', 'a') as stream:
    stream.write(schedule + ' ' + ' '.join(words[-3:]) + chr(10))
if 'E' in schedule:
    sys.exit(1)
(folder / 'config.yaml').write_text('')
(folder / 'best.json').write_text(json.dumps({'chosen_by': {'score': [schedule.count('A') / 20, -1.0]}}))
'''


@pytest.fixture
def run_tool(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('a.yaml').write_text('# a\n')
    Path('train.py').write_text(STAND_IN)
    return lambda *words: cli.run(lambda argv: study_command.main(argv, train=[sys.executable, 'train.py']),
                                  ['--name', 's', *map(str, words)])


def test_the_tool(run_tool, capsys):
    words = ('--cfg', 'a.yaml', '--search', 'schedule', '--budget', 60, '--length', 6, '--seeds', 3,
             'data.sampler=weighted')
    assert run_tool(*words, '--plan') == 0
    assert 'round 2: 5 schedules, 6 epochs each' in capsys.readouterr().out and not Path('work_dirs').exists()
    assert run_tool(*words) == 0
    out = capsys.readouterr().out
    calls = Path('calls.txt').read_text().splitlines()
    assert len(calls) == len(set(calls))
    first = calls[0].split()
    assert first[0] == 'FFA' and first[1:] == ['data.sampler=weighted', 'method.schedule=FFA', 'train.epochs=3']
    rounds = json.loads(Path('work_dirs/study/s/a/search.json').read_text())
    assert [r['epochs'] for r in rounds] == [3, 6]
    for current in rounds:
        scores = [row['score'] for row in current['ranked']]
        assert scores == sorted(scores, reverse=True) and not any('E' in row['schedule'] for row in current['ranked'])
    assert f"after 6 epochs: {rounds[1]['ranked'][0]['schedule']}" in out
    assert run_tool(*words) == 0  # what was trained is not trained again
    again = Path('calls.txt').read_text().splitlines()
    assert all('E' in call.split()[0] for call in again[len(calls):]) and not Path('docs').exists()


@pytest.mark.parametrize('words, says', [
    (('--cfg', 'a.yaml', '--search', 'schedule'), '--search needs --name, --budget'),
    (('--cfg', 'a.yaml', '--search', 'schedule', '--budget', 20), '--budget 20 epochs are too few'),
    (('--cfg', 'a.yaml', '--search', 'schedule', '--budget', 90, '--seeds', 0, 1), 'one of --seeds'),
    (('--cfg', 'a.yaml', '--search', 'method', '--budget', 90), 'invalid choice')])
def test_errors_are_one_line(run_tool, capsys, words, says):
    assert run_tool(*words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1

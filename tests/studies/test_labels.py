"""Suspect labels by hand, those that were planted, and the command as a user types it."""
import csv
import re
import shutil

import numpy as np
import pytest

from gluon_fgvc.commands import cli, doctor
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.run_folder import PREDICTION_COLUMNS, Prediction
from gluon_fgvc.run_folder.predictions import table
from gluon_fgvc.studies.labels import pool, suspects
from tests import small_run
from tests.fake_run import write_run

NAMES = ('cat', 'dog', 'fox')


def said(path, label, probabilities):
    order = np.argsort(-np.array(probabilities), kind='stable')
    return Prediction(path, label, NAMES[label], int(order[0]), NAMES[order[0]], probabilities[order[0]],
                      order[0] == label, probabilities[label], {int(k): probabilities[k] for k in order})


# Mean probability of the label: cats (.9 + .8 + .1) / 3 = .6, dogs (.7 + .5) / 2 = .6; no image is labelled fox.
ROWS = [said('a', 0, [.9, .1, 0]), said('b', 0, [.8, .2, 0]), said('wrong', 0, [.1, .85, .05]),
        said('c', 1, [.2, .7, .1]), said('hard', 1, [.45, .5, .05])]


def test_suspects_by_hand():
    found, = suspects(pool([ROWS]))
    assert found == ('wrong', 0, 1, .1, .85, 1, 1) and found.margin == .75
    # .55 for dog is more than for cat, and less than the .6 that dogs have on average: no suspect.
    assert [s.path for s in suspects(pool([[*ROWS[:3], said('c', 1, [.2, .7, .1]), said('d', 1, [.4, .5, .1]),
                                            said('near', 0, [.45, .55, 0])]]))] == ['wrong']
    # Whatever is said of a class that no label has, nothing says how much would be usual.
    assert suspects(pool([[*ROWS[:2], ROWS[3], said('fox?', 0, [.05, .05, .9])]])) == []


def test_a_network_that_is_sure_of_its_label_contradicts_nothing():
    # dog has .3 ≥ its mean .25 on dogs, and cat more.
    rows = [said('a', 0, [.95, .05, 0]), said('b', 0, [.7, .3, 0]), said('c', 1, [.7, .25, .05]),
            said('d', 1, [.75, .25, 0])]
    assert [s.path for s in suspects(pool([rows]))] == []
    assert [(s.path, s.suggested) for s in suspects(pool([[*rows, said('e', 1, [.9, .05, .05])]]))] == [('e', 0)]


def test_seeds_are_averaged_and_folds_add_up():
    other = [said('wrong', 0, [.7, .3, 0]), said('a', 0, [.9, .1, 0])]
    pooled = {one.path: one for one in pool([ROWS, other])}
    assert pooled['wrong'].probability == pytest.approx(.4) and pooled['wrong'].others[1] == pytest.approx(.575)
    assert pooled['wrong'].runs == 2 and pooled['wrong'].firsts == {1: 1, 0: 1} and pooled['c'].runs == 1
    # .575 is less than the .6 of dogs: the second run has cleared it.
    assert suspects([*pooled.values()]) == []
    halves = [ROWS[:2], ROWS[2:]]
    assert suspects(pool(halves)) == suspects(pool([ROWS])) == suspects(pool([ROWS[::-1]]))
    with pytest.raises(CheckpointError, match="'a' has the labels 'cat', 'dog'"):
        pool([ROWS, [said('a', 1, [.9, .1, 0])]])


def test_planted_labels_are_found():
    """1,000 images of 5 classes, of which a network gets 2 % wrong; 20 other labels are exchanged."""
    rng, rows = np.random.RandomState(0), []
    planted = set(rng.choice(1000, 20, replace=False).tolist())
    for i in range(1000):
        true = i % 5
        logits = rng.normal(0, 1, 5) + 3.5 * np.eye(5)[true]
        p = np.exp(logits) / np.exp(logits).sum()
        label = (true + 1 + i % 4) % 5 if i in planted else true
        order = np.argsort(-p, kind='stable')
        rows.append(Prediction(str(i), label, '', int(order[0]), '', p[order[0]], order[0] == label, p[label],
                               {int(k): p[k] for k in order}))
    found = {int(s.path) for s in suspects(pool([rows]))}
    assert sum(not row.correct for row in rows) == 39  # a list of all errors would be half wrong
    assert found <= planted and len(found) == 14


# --- the command -----------------------------------------------------------------------------

@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run folder on 40 images, of which ``square/0.jpg`` of the test split shows a circle."""
    base = small_run.write(tmp_path, train=20, test=20)
    monkeypatch.chdir(base)
    shutil.copy('images/test/circle/0.jpg', 'images/test/square/0.jpg')
    paths = [f'images/test/{name}/{i}.jpg' for name in ('circle', 'square') for i in range(10)]
    write_run('run', ('circle', 'square'), paths=paths)
    (base / 'run/config.yaml').write_text(small_run.CONFIG)
    rows = []
    for path in paths:
        label, wrong = int('square' in path), path == 'images/test/square/0.jpg'
        best, p = (1 - label, .97) if wrong else (label, .95)
        rows.append([path, label, ('circle', 'square')[label], best, ('circle', 'square')[best], p,
                     round(1 - p, 6) if wrong else p, int(not wrong), f'{best} {1 - best}', f'{p} {1 - p:.6f}'])
    (base / 'run/predictions.csv').write_text(table(PREDICTION_COLUMNS, rows))
    return base


def test_the_command_lists_and_shows_them(run, capsys):
    words = ['labels', 'run', '--csv', 'new/labels.csv', '--report', 'page']
    assert cli.run(doctor.main, words) == cli.PROBLEMS
    out = capsys.readouterr().out
    assert "    1  labelled 'square', look like 'circle'" in out and '1 of 20 labels are suspect' in out
    with open('new/labels.csv', newline='') as stream:
        row, = csv.DictReader(stream)
    assert row == {'path': 'images/test/square/0.jpg', 'label': '1', 'label_name': 'square', 'suggested': '0',
                   'suggested_name': 'circle', 'label_probability': '0.030000', 'suggested_probability': '0.970000',
                   'runs': '1', 'runs_that_agree': '1'}
    page = (run / 'page/labels.html').read_text()
    assert page.count('<img ') == 1 and 'labelled <strong>square</strong>' in page
    assert 'looks like <strong>circle</strong>' in page and 'http' not in re.sub('http-equiv', '', page)
    before = (run / 'new/labels.csv').read_bytes(), page
    assert cli.run(doctor.main, words) == cli.USAGE and 'exists' in capsys.readouterr().err
    assert cli.run(doctor.main, [*words, '--overwrite']) == cli.PROBLEMS
    assert ((run / 'new/labels.csv').read_bytes(), (run / 'page/labels.html').read_text()) == before
    shutil.rmtree('images')  # the page outlives its images
    assert cli.run(doctor.main, [*words, '--overwrite']) == cli.PROBLEMS
    assert 'image cannot be read' in (run / 'page/labels.html').read_text()


@pytest.mark.parametrize('words, code, says', [
    (['nowhere'], 1, "'nowhere' is not a run folder"),
    (['run', '--split', 'val'], 1, "there is no 'run/predictions_val.csv'"),
    (['run', '--split', 'train'], 2, 'train'),
    (['run', './run'], 2, "'run' is given twice: each run counts once"),
    ([], 2, 'RUN')])
def test_wrong_words_get_one_line(run, capsys, words, code, says):
    assert cli.run(doctor.main, ['labels', *words]) == code
    error = capsys.readouterr().err
    assert says in error and len(error.splitlines()) == 1

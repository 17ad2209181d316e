"""fgvc compare: counts and p-values by hand, and what it refuses."""
import csv

import pytest

from gluon_fgvc.commands import cli, compare
from gluon_fgvc.engine.statistics import mcnemar
from gluon_fgvc.studies.pairing import pair, read_predictions

HEAD = ['path', 'label', 'label_name', 'predicted', 'predicted_name', 'probability', 'correct']


def write(path, right, labels=None, start=0):
    """Write predictions for images start.. of which those with a 1 in ``right`` are correct."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, 'w', newline='') as stream:
        writer = csv.writer(stream)
        writer.writerow(HEAD)
        for k, hit in enumerate(map(int, right)):
            label = (labels or '0' * len(right))[k]
            writer.writerow([f'/photos/{start + k}.jpg', label, f'class{label}', label if hit else 9, 'any', 0.5, hit])
    return str(path)


@pytest.fixture
def call(capsys):
    def call(*words):
        code = cli.run(compare.main, [str(word) for word in words])
        return (code, *capsys.readouterr())
    return call


@pytest.mark.parametrize('one, other, p', [
    (0, 0, 1), (3, 3, 1), (1, 5, 2 * (1 + 6) / 2 ** 6), (5, 1, 2 * (1 + 6) / 2 ** 6), (0, 10, 2 / 2 ** 10),
    (2, 8, 2 * (1 + 10 + 45) / 2 ** 10), (4, 5, 1)])
def test_exact_p_values(one, other, p):
    assert mcnemar(one, other) == pytest.approx(min(p, 1), abs=1e-12)


def test_counts_are_by_image_and_not_by_line(tmp_path):
    first = read_predictions(write(tmp_path / 'a.csv', '110100'))
    second = read_predictions(write(tmp_path / 'b.csv', '100111'))
    counts = pair(first, dict(reversed(second.items())))
    assert counts == (2, 1, 2, 1) and counts.images == 6 and counts.correct == (3, 4)


def test_two_files(call, tmp_path):
    a, b = write(tmp_path / 'a.csv', '1' * 90 + '0' * 10), write(tmp_path / 'b.csv', '1' * 80 + '0' * 20)
    code, out, err = call(a, b)
    assert (code, err) == (0, '')
    assert 'both right 80, only A 10, only B 0, both wrong 10' in out
    assert 'p = 0.00195' in out  # 2 / 2 ** 10
    assert '90.00%' in out and '(95 % interval 82.56% to 94.48%)' in out  # Wilson of 90 in 100
    assert 'other seeds may differ' in out


def test_run_folders_and_their_splits(call, tmp_path):
    for name, right in (('r1', '10'), ('r2', '11')):
        write(tmp_path / name / 'predictions.csv', right)
        write(tmp_path / name / 'predictions_val.csv', right * 2)
    assert 'both right 1, only A 0, only B 1, both wrong 0' in call(tmp_path / 'r1', tmp_path / 'r2')[1]
    _, out, _ = call(tmp_path / 'r1', tmp_path / 'r2', '--split', 'val')
    assert 'both right 2, only A 0, only B 2, both wrong 0' in out


def test_other_images_or_labels_are_refused(call, tmp_path):
    a = write(tmp_path / 'a.csv', '101')
    for other, says in ((write(tmp_path / 'b.csv', '101', start=1), '2 are in one file only'),
                        (write(tmp_path / 'c.csv', '101', labels='010'), "label 'class0' in one file and 'class1'"),
                        (write(tmp_path / 'd.csv', ''), 'no image with a label'),
                        (str(tmp_path / 'none.csv'), "there is no '")):
        code, out, err = call(a, other)
        assert code == 1 and says in err and err.count('\n') == 1 and out == ''
    (tmp_path / 'e.csv').write_text('path,label\nx,y\n')
    assert call(a, tmp_path / 'e.csv')[0] == 1
    twice = (tmp_path / 'a.csv').read_text() + (tmp_path / 'a.csv').read_text().split('\n', 1)[1]
    (tmp_path / 'f.csv').write_text(twice)
    assert 'more than once' in call(a, tmp_path / 'f.csv')[2]


def test_several_seeds_are_no_pair(call):
    code, _, err = call('a', 'b', 'c')
    assert code == 2 and 'one pair of models' in err and 'fgvc study' in err

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


def test_several_pairs_of_seeds(call, tmp_path):
    a = [write(tmp_path / f'a{seed}' / 'predictions.csv', right) for seed, right in enumerate(('1110', '1101', '1111'))]
    b = [write(tmp_path / f'b{seed}' / 'predictions.csv', right) for seed, right in enumerate(('1100', '1001', '0110'))]
    code, out, err = call(*a, '--with', *b)
    assert (code, err) == (0, '')
    lines = out.splitlines()
    assert lines[0].startswith('A  75.00%  B  50.00%  A - B +25.00 points  only A 1, only B 0, McNemar p = 1')
    # 25, 25, 50: mean 33.33, sd 14.43, standard error 8.33, t of two degrees of freedom 4.303 and 4
    assert lines[3] == 'A - B: +33.33 points on average over 3 pairs, sd 14.43, 95 % interval -2.52 to +69.19'
    assert lines[4] == 'Paired t-test over runs: p = 0.0572'


def test_several_pairs_of_folds_are_corrected(call, tmp_path):
    names = {}
    for run, start, right in (('a0', 0, '1110'), ('a1', 4, '1111'), ('b0', 0, '1100'), ('b1', 4, '0110')):
        write(tmp_path / run / 'predictions.csv', right, start=start)
        names[run] = tmp_path / run
    words = names['a0'], names['a1'], '--with', names['b0'], names['b1']
    assert 'No interval: the pairs differ in their images' in call(*words)[1]
    for run in names.values():
        (run / 'split.json').write_text('{"splits": {"train": {"images": 4, "sha256": ""}}, "val": []}')
    out = call(*words)[1]
    # sd 17.68, test / train 1: standard error 17.68 √(1/2 + 1) = 21.65, t of one degree of freedom 12.706
    assert '+37.50 points on average over 2 pairs, sd 17.68, 95 % interval -237.60 to +312.60' in out
    assert 'Corrected resampled t-test (Nadeau and Bengio 2003): p = 0.333' in out


@pytest.mark.parametrize('words, says', [
    (('a', 'b', '--with', 'c'), '2 before --with and 1 behind it'),
    (('a', 'b', '--with', 'c', './a'), "'a' is given twice")])
def test_pairs_that_are_none(call, words, says):
    code, _, err = call(*words)
    assert code == 2 and says in err


def test_several_seeds_are_no_pair(call):
    code, _, err = call('a', 'b', 'c')
    assert code == 2 and 'one pair of models' in err and '--with' in err

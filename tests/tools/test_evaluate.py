"""fgvc evaluate with several views and several runs, as a user types it."""
import csv
import json

import cv2
import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import data
from gluon_fgvc import runs as engine
from gluon_fgvc.commands import cli, evaluate, train
from gluon_fgvc.config import EvalView
from tests import small_run


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


def test_an_ensemble_refuses_other_images_with_the_same_labels(here, capfd):
    """Chance has chosen other validation images, one a class as before: no label tells."""
    words = ['--cfg', 'cfg.yaml', '--work-dir', 'reseeded', '--no-test', 'data.val_seed=1']
    assert cli.run(train.main, words) == 0
    one, other = (engine.open_run(folder).source.val for folder in ('run0', 'reseeded'))
    assert list(one.labels) == list(other.labels) and one.paths != other.paths
    assert run('--ensemble', 'run0', 'reseeded', '--split', 'val', '--out', 'mixed') == 2
    assert "'reseeded' and 'run0' have other classes or val images" in capfd.readouterr().err
    assert not (here / 'mixed').exists()


@pytest.fixture(scope='module')
def cropped(trained):
    """A run whose test images have several sizes and of which only the centre is seen."""
    text = (trained / 'cfg.yaml').read_text().replace('eval: {resize: [32, 32]}', 'eval: {resize: 40, crop: 32}')
    folder = small_run.write(trained / 'sizes')
    for number, size in enumerate([(60, 40), (80, 53), (40, 90)]):
        image = np.random.RandomState(number).randint(0, 256, (*size, 3)).astype('uint8')
        assert cv2.imwrite(str(folder / f'images/test/circle/size{number}.png'), image)
    (folder / 'cfg.yaml').write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(train.main, ['--cfg', 'cfg.yaml', '--work-dir', 'cropped']) == 0
    return folder


def test_whole_images_are_seen_one_size_at_a_time(cropped, monkeypatch, capfd):
    """As each image gives by itself."""
    monkeypatch.chdir(cropped)
    assert run('cropped', '--no-crop') == 0
    assert '7 images (whole images, epoch 1' in ''.join(capfd.readouterr())
    found = label_probabilities(cropped / 'cropped/predictions_no_crop.csv')
    opened = engine.open_run('cropped')
    transform, sizes = data.EvalTransform(EvalView(resize=40)), set()
    test = opened.source.test
    for index, path in enumerate(test.paths):
        image = transform(test.read(index))
        sizes.add(image.shape[:2])
        scores = opened.method.net(opened.normalize(mx.nd.array(image[None], dtype='uint8')))
        expected = mx.nd.softmax(scores)[0, int(test.labels[index])].asscalar()
        assert found[path] == pytest.approx(expected, abs=1e-5)
    assert sizes == {(40, 48), (60, 40), (40, 90)} and len(found) == 7  # 60 x 40 twice
    assert result(cropped / 'cropped/evaluation_no_crop.json')['views'] == 'no_crop'
    assert listed(cropped / 'cropped')[-1]['views'] == 'no_crop'
    assert found != label_probabilities(cropped / 'cropped/predictions.csv')


def test_whole_images_and_their_mirror_images(cropped, monkeypatch, capfd):
    monkeypatch.chdir(cropped)
    assert run('cropped', '--no-crop', '--tta', 'multi_scale') == 0
    assert 'whole images, mean of 1 network, 3 views each' in ''.join(capfd.readouterr())
    summary = result(cropped / 'cropped/evaluation_no_crop_multi_scale.json')
    assert summary['images'] == 7 and summary['views'] == 'no_crop_multi_scale'


def test_what_cannot_be_seen_whole_or_measured(cropped, monkeypatch, capfd):
    monkeypatch.chdir(cropped)
    words = ['--cfg', 'tasn.yaml', '--work-dir', 'tasn', '--no-test',
             'method.attention_backbone=mobilenetv2_0.25', 'method.attention_size=32', 'method.sampled_size=32',
             'method.attention_channels=8', 'data.train.random_resized_crop=64', 'data.eval.crop=40']
    text = (cropped / 'cfg.yaml').read_text().replace('{name: finetune, lr_mult: 1, dropout: 0.3}', '{name: tasn}')
    (cropped / 'tasn.yaml').write_text(text)
    assert cli.run(train.main, words) == 0
    capfd.readouterr()
    for says, given in (
            ("method 'tasn' takes square images of one size: they must be cropped", ['tasn', '--no-crop']),
            ('data.eval.crop is not set: images are seen whole already', ['../run0', '--no-crop']),
            ("the data set has no boxes for split 'test'", ['cropped', '--pointing-game']),
            ('--pointing-game is of one view of one RUN', ['cropped', '--pointing-game', '--tta', 'flip']),
            ('ten_crop needs data.eval.crop', ['cropped', '--no-crop', '--tta', 'ten_crop'])):
        assert run(*given) == 2
        error = capfd.readouterr().err
        assert says in error and error.count('\n') == 1


@pytest.mark.parametrize('code, says, words', [
    (2, 'give one RUN, or several after --ensemble', ['run0', '--ensemble', 'run1', '--out', 'x']),
    (2, '--ensemble needs --out DIR', ['--ensemble', 'run0', 'run1']),
    (2, '--out is for --ensemble', ['run0', '--out', 'x']),
    (2, "'crosses' and 'run0' have other classes or test images", ['--ensemble', 'run0', 'crosses', '--out', 'x']),
    (2, "'./run0' is given twice: each run counts once", ['--ensemble', './run0', 'run1', 'run0', '--out', 'x']),
    (2, 'ten_crop needs data.eval.crop', ['run0', '--tta', 'ten_crop']),
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
        assert cli.run(train.main, [*words, f'data.eval.resize={size}']) == 2
        assert f'error: data.eval gives {says}, the method takes square ones' in capfd.readouterr().err

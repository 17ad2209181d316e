"""fgvc predict on an exported model; on a run folder see test_export.py."""
import csv
import json
import os
import shutil

import cv2
import numpy as np
import pytest

from gluon_fgvc.commands import cli, predict
from gluon_fgvc.data.search import find_images
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.errors import DataError
from tests.deploy.small import CLASSES, build_net, export_net, write_pictures


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp('model') / 'export'
    export_net(build_net(), folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory: a folder of five pictures beside other files."""
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / 'cells')
    (tmp_path / 'cells' / 'labels.csv').write_text('not an image')
    return tmp_path


def run(*words):
    return cli.run(predict.main, [str(word) for word in words])


def read_csv(path):
    with open(path, encoding='utf-8', newline='') as stream:
        return list(csv.DictReader(stream))


def test_files_hold_what_the_model_says(model, here, capsys):
    assert run(model, 'cells', '--top-k', 2, '--gpus', '', '--batch-size', 2) == 0
    paths = [os.path.join('cells', f'{i}.png') for i in range(5)]
    expected = Predictor(model).predict(paths)
    rows = read_csv('predictions/predictions.csv')
    assert [row['path'] for row in rows] == paths
    assert list(rows[0]) == ['path', 'class_1', 'probability_1', 'class_2', 'probability_2']
    for row, probabilities in zip(rows, expected):
        best = np.argsort(-probabilities)
        assert [row['class_1'], row['class_2']] == [CLASSES[best[0]], CLASSES[best[1]]]
        assert float(row['probability_1']) == pytest.approx(probabilities[best[0]], abs=1e-6)
        assert float(row['probability_2']) == pytest.approx(probabilities[best[1]], abs=1e-6)
    with open('predictions/predictions.json') as stream:
        tree = json.load(stream)
    assert tree['skipped'] == []
    assert [(image['path'], image['predictions'][0]['class'], image['predictions'][1]['probability'])
            for image in tree['images']] == [(row['path'], row['class_1'], float(row['probability_2'])) for row in rows]
    assert cv2.imread('predictions/contact_sheet.jpg') is not None
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 6
    assert printed[0].startswith(paths[0]) and printed[0].endswith(rows[0]['class_1'])
    assert printed[-1].startswith('5 images classified by mxnet')


@pytest.mark.parametrize('words, files', [
    (('--format', 'csv'), ['contact_sheet.jpg', 'predictions.csv']),
    (('--format', 'json', '--no-sheet'), ['predictions.json']),
    (('--no-sheet',), ['predictions.csv', 'predictions.json'])])
def test_only_what_was_asked_for_is_written(model, here, words, files):
    assert run(model, 'cells', '--out', 'a/b', *words) == 0
    assert sorted(os.listdir('a/b')) == files


def test_more_classes_asked_for_than_there_are(model, here):
    assert run(model, 'cells/0.png', '--no-sheet', '--top-k', 100) == 0
    row, = read_csv('predictions/predictions.csv')
    assert sum(float(row[f'probability_{rank}']) for rank in (1, 2, 3)) == pytest.approx(1, abs=1e-5)
    assert 'class_4' not in row


def test_the_engine_is_named_and_can_be_chosen(model, here, capsys):
    assert run(model, 'cells', '--no-sheet', '--engine', 'mxnet') == 0
    assert '5 images classified by mxnet: ' in capsys.readouterr().out
    (here / 'run').mkdir()
    (here / 'run/config.yaml').write_text('')
    assert run('run', 'cells', '--no-sheet', '--engine', 'mxnet', '--out', 'other') == 2
    assert 'is a run folder' in capsys.readouterr().err


def test_nothing_is_overwritten_unless_asked(model, here, capsys):
    assert run(model, 'cells', '--no-sheet') == 0
    before = (here / 'predictions/predictions.csv').read_bytes()
    assert run(model, 'cells/1.png', '--no-sheet') == 2
    assert '--overwrite' in capsys.readouterr().err
    assert (here / 'predictions/predictions.csv').read_bytes() == before
    assert run(model, 'cells/1.png', '--no-sheet', '--overwrite') == 0
    assert len(read_csv('predictions/predictions.csv')) == 1


def test_broken_images_stop_or_are_skipped(model, here, capsys):
    (here / 'cells' / '0a.jpg').write_bytes(b'')
    (here / 'cells' / '3a.jpeg').write_text('text with another name')
    assert run(model, 'cells') == 1
    message = capsys.readouterr().err
    assert '0a.jpg' in message and '--bad-image skip' in message and len(message.splitlines()) == 1
    assert not (here / 'predictions').exists()
    assert run(model, 'cells', '--bad-image', 'skip', '--no-sheet') == 0
    captured = capsys.readouterr()
    assert '0a.jpg' in captured.err and '3a.jpeg' in captured.err
    assert '5 images classified by mxnet' in captured.out and ', 2 skipped' in captured.out
    assert len(read_csv('predictions/predictions.csv')) == 5
    with open('predictions/predictions.json') as stream:
        assert [entry['path'] for entry in json.load(stream)['skipped']] == ['cells/0a.jpg', 'cells/3a.jpeg']


def test_no_readable_image_at_all(model, here, capsys):
    (here / 'empty.jpg').write_bytes(b'')
    assert run(model, 'empty.jpg', '--bad-image', 'skip') == 1
    assert 'none of the 1 images' in capsys.readouterr().err


@pytest.mark.parametrize('words, code, message', [
    (('cells', 'nowhere'), 1, "'nowhere' names no image"),
    (('*.tiff',), 1, r"'*.tiff' names no image"),
    (('cells', '--top-k', '0'), 2, '--top-k 0'),
    (('cells', '--batch-size', '-1'), 2, '--batch-size -1'),
    (('cells', '--gpus', '99'), 2, 'no GPU 99'),
    (('cells', '--gpus', 'x'), 2, "--gpus 'x'"),
    (('cells', '--format', 'xml'), 2, 'xml'),
    (('cells', '--top', '3'), 2, '--top'),
    ((), 2, 'INPUT')])
def test_wrong_words_get_one_line(model, here, capsys, words, code, message):
    assert run(model, *words) == code
    captured = capsys.readouterr()
    assert captured.err.startswith('error: ') and message in captured.err and len(captured.err.splitlines()) == 1
    assert not (here / 'predictions').exists()


def test_folder_that_is_no_model(here, capsys):
    assert run('cells', 'cells') == 1
    assert "'cells' is neither a run folder (it has no config.yaml) nor an exported model" in capsys.readouterr().err
    os.makedirs('runs/20260101-120000')
    (here / 'runs/20260101-120000/config.yaml').write_text('')
    assert run('runs', 'cells') == 1
    assert "'runs/20260101-120000'" in capsys.readouterr().err


def test_damaged_export(model, here, capsys):
    shutil.copytree(model, 'damaged')
    parameters = here / 'damaged' / 'model-0000.params'
    parameters.write_bytes(parameters.read_bytes()[:-10])
    assert run('damaged', 'cells') == 1
    error = capsys.readouterr().err
    assert 'model-0000.params' in error and 'sha256' in error and len(error.splitlines()) == 1


def test_file_names_need_not_be_text(model, here, capsys):
    name = os.fsdecode('gr\u00fcn'.encode('latin-1') + b',"1".png')
    shutil.copy('cells/0.png', os.path.join('cells', name))
    assert run(model, os.path.join('cells', name)) == 0
    assert os.fsencode(name) in (here / 'predictions/predictions.csv').read_bytes().replace(b'""', b'"')
    assert json.loads((here / 'predictions/predictions.json').read_text())['images'][0]['path'] == f'cells/{name}'


# --- finding images --------------------------------------------------------------------------

@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ('a/2.PNG', 'a/10.jpg', 'a/b/c.webp', 'a/notes.txt', 'a/.hidden.png', 'a/.git/x.png', 'd/[1].jpg',
                 'odd'):
        os.makedirs(os.path.dirname(name) or '.', exist_ok=True)
        open(name, 'w').close()


@pytest.mark.parametrize('inputs, found', [
    (['a'], ['a/10.jpg', 'a/2.PNG', 'a/b/c.webp']),
    (['a/notes.txt'], ['a/notes.txt']),      # named outright: taken at its word
    (['odd'], ['odd']),
    (['a/*'], ['a/10.jpg', 'a/2.PNG', 'a/b/c.webp']),
    (['a/**/*.webp'], ['a/b/c.webp']),
    (['**/*.jpg'], ['a/10.jpg', 'd/[1].jpg']),
    (['d/[1].jpg'], ['d/[1].jpg']),          # a file first, a pattern only then
    (['d', 'a/b', 'd/[[]1].jpg'], ['d/[1].jpg', 'a/b/c.webp'])])
def test_find_images(tree, inputs, found):
    assert find_images(inputs) == found


@pytest.mark.parametrize('given', ['none', 'a/*.txt', 'a/.git/../none*', ''])
def test_input_without_images(tree, given):
    with pytest.raises(DataError, match='names no image'):
        find_images(['a', given])

"""WARN and STN as a user runs them on Cluttered MNIST: train, predict, export, look at masks and gates, add clutter."""
import gzip
import json
import re
import struct

import cv2
import numpy as np
import pytest

from gluon_fgvc.commands import cli, export, predict, sweep, train, visualize

CONFIG = '''\
data: {{name: cluttered_mnist, root: digits, images: [300, 20, 24], distractors: 4, batch_size: 50, workers: 0}}
backbone: {{name: cluttered_cnn, weights: none}}
method: {method}
train: {{epochs: 1, optimizer: {{name: sgd, lr: 0.01}}}}
run: {{contexts: [cpu0]}}
'''
METHODS = {'warn': '{name: warn, depth: 2, width: 2, lr_mult: 1}', 'stn': '{name: stn, lr_mult: 1}'}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Digits that are bright squares in ten places, one run of each method, and a few of the images as files."""
    folder = tmp_path_factory.mktemp('warn')
    (folder / 'digits').mkdir()
    for name, count in (('train', 60), ('t10k', 20)):
        labels = (np.arange(count) % 10).astype('uint8')
        images = np.zeros((count, 28, 28), 'uint8')
        for image, label in zip(images, labels):
            image[2 * label:2 * label + 6, 20 - 2 * label:26 - 2 * label] = 255
        for kind, values in (('images-idx3', images), ('labels-idx1', labels)):
            header = bytes((0, 0, 8, values.ndim)) + struct.pack(f'>{values.ndim}I', *values.shape)
            (folder / 'digits' / f'{name}-{kind}-ubyte.gz').write_bytes(gzip.compress(header + values.tobytes()))
    (folder / 'images').mkdir()
    for index in range(3):
        picture = np.zeros((40, 40, 3), 'uint8')
        picture[5 + 3 * index:15 + 3 * index, 10:20] = 255
        cv2.imwrite(str(folder / 'images' / f'{index}.png'), picture)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, method in METHODS.items():
            (folder / f'{name}.yaml').write_text(CONFIG.format(method=method))
            assert cli.run(train.main, ['--cfg', f'{name}.yaml', '--work-dir', name]) == 0
    return folder


@pytest.fixture(autouse=True)
def there(folder, monkeypatch):
    monkeypatch.chdir(folder)


@pytest.mark.parametrize('name', METHODS)
def test_probabilities_of_predict_and_export_sum_to_one(folder, tmp_path, name):
    assert cli.run(export.main, [name, '--out', str(tmp_path / 'model'), '--bake-softmax']) == 0
    found = {}
    for source in (name, tmp_path / 'model'):
        out = tmp_path / f'from-{source == name}'
        assert cli.run(predict.main, [str(source), 'images', '--out', str(out), '--top-k', '10', '--no-sheet',
                                      '--format', 'json']) == 0
        text, = (path.read_text() for path in out.glob('*.json'))
        shares = [float(value) for value in re.findall(r'"probability": ([\d.e-]+)', text)]
        found[source] = np.array(shares).reshape(3, 10)
        np.testing.assert_allclose(found[source].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found[name], found[tmp_path / 'model'], atol=1e-5)


def test_masks_and_gates_are_on_the_page(folder, capsys):
    assert cli.run(visualize.main, ['warn', 'images', '--out', 'maps.html']) == 0
    text = (folder / 'maps.html').read_text()
    assert '3 of 3 images' in capsys.readouterr().out
    for name in ('conv5 head 1', 'conv5 head 2', 'pool3 head 2'):
        assert text.count(f'heat map of {name}"') == 3
    for title, bars in (('outputs', ['conv5', 'pool3', 'classifier']), ('conv5', ['head 1', 'head 2'])):
        for shares in re.findall(f'{title}: ([^"]*)"', text):
            percents = dict(re.findall(r'(?:^|, )([^,]*?) ([\d.]+)\u00a0%', shares))
            assert list(percents) == bars and abs(sum(map(float, percents.values())) - 100) < 0.2
        assert len(re.findall(f'{title}: ', text)) == 3
    assert cli.run(visualize.main, ['stn', 'images', '--out', 'window.html']) == 0
    assert (folder / 'window.html').read_text().count('heat map of window"') == 3


def test_a_sweep_over_clutter(folder, capsys):
    words = ['--key', 'data.distractors', '--values', '0', '4', '64', '--out', 'figures/clutter.2']
    before = sorted(path.name for path in (folder / 'warn').iterdir())
    assert cli.run(sweep.main, ['WARN=warn', 'STN=st[n]', *words]) == 0
    assert '| error, % at data.distractors | 0 | 4 | 64 |' in capsys.readouterr().out
    tree = json.loads((folder / 'figures' / 'clutter.2.json').read_text())
    assert [(row['label'], row['value']) for row in tree['results']] == [
        (label, value) for label in ('WARN', 'STN') for value in (0, 4, 64)]
    evaluated = json.loads((folder / 'warn' / 'evaluation.json').read_text())
    assert tree['results'][1]['top1'] == evaluated['top1'] and tree['results'][1]['images'] == 24
    assert tree['results'][0]['loss'] != tree['results'][2]['loss']
    assert 'WARN' in (folder / 'figures' / 'clutter.2.svg').read_text()
    assert sorted(path.name for path in (folder / 'warn').iterdir()) == before
    assert cli.run(sweep.main, ['WARN=warn', *words]) == 2
    assert "'figures/clutter.2.json' exists; name another, or add --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize('words, says', [
    (['WARN=nowhere'], "'WARN=nowhere' names no run folder"), (['warn'], "'warn' names no run folder"),
    (['WARN=warn', '--key', 'method.depth'], "--key 'method.depth' is not an option of the data"),
    (['WARN=warn', '--key', 'data.distractor'], "unknown key 'distractor'; did you mean 'distractors'"),
    (['WARN=warn', '--values', '4', 'many'], "'many' is not a whole number")])
def test_sweeps_that_make_no_sense(words, says, capsys):
    usual = {'--key': 'data.distractors', '--values': '4', '--out': 'x'}
    words += [word for flag, value in usual.items() if flag not in words for word in (flag, value)]
    assert cli.run(sweep.main, words) == 2
    out, error = capsys.readouterr()
    assert says in error and error.count('\n') == 1 and not out  # nothing was evaluated

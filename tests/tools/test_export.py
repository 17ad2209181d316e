"""A run from training to prediction: the run folder and its exports must say the same."""
import json
import shutil

import cv2
import numpy as np
import pytest

from gluon_fgvc import runs as engine
from gluon_fgvc.commands import cli, export, predict
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.engine import checkpoint, temperature

CONFIG = '''
data: {{name: image_folder, root: {root}, train: {{resize: 32, crop: 32}}, test: {{resize: 32}}, batch_size: 6,
        workers: 0, val_fraction: 0}}
backbone: {{name: mobilenetv2_0.25, weights: none}}
method: {{name: finetune, dropout: 0.5, batch_norm: fixed, lr_mult: 1}}
train: {{epochs: 2, optimizer: {{name: sgd, lr: 1e-3}}}}
run: {{contexts: [cpu0]}}
'''


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A trained run folder; the images are in ``images`` beside it, of three shapes once resized."""
    base, rng = tmp_path_factory.mktemp('trained'), np.random.RandomState(0)
    for split, count in (('train', 10), ('test', 5)):
        for label, name in enumerate(('circle', 'square')):
            (base / 'images' / split / name).mkdir(parents=True)
            for i in range(count):
                image = rng.randint(0, 90, (40, 40 + 8 * (i % 3), 3)).astype('uint8')
                if label:
                    cv2.rectangle(image, (8, 8), (30, 30), (200, 60, 200), -1)
                else:
                    cv2.circle(image, (20, 20), 12, (30, 200, 40), -1)
                assert cv2.imwrite(str(base / 'images' / split / name / f'{i}.png'), image)
    (base / 'cfg.yaml').write_text(CONFIG.format(root=base / 'images'))
    engine.train(engine.load_config(base / 'cfg.yaml'), base / 'run', test=False)
    return base


def probabilities(model, images, out):
    assert cli.run(predict.main, [str(model), str(images), '--out', str(out), '--no-sheet', '--gpus', '']) == 0
    tree = json.loads((out / 'predictions.json').read_text())
    return {image['path']: [{p['class']: p['probability'] for p in image['predictions']}[name]
                            for name in ('circle', 'square')] for image in tree['images']}


def test_run_and_exports_give_the_same_probabilities(trained, tmp_path, capsys):
    run, images = trained / 'run', trained / 'images' / 'test'
    assert cli.run(export.main, [str(run)]) == 0
    printed = capsys.readouterr().out
    metadata = json.loads((run / 'export' / 'model.json').read_text())
    for name in ('model-symbol.json', 'model-0000.params'):
        assert metadata['files'][name]['sha256'] in printed and name in printed
    assert 'largest difference from the network: ' in printed and 'on 10 real ones' in printed
    assert metadata['classes'] == ['circle', 'square'] and metadata['method'] == 'finetune'
    assert metadata['source']['run'] == 'run' and metadata['source']['backbone'] == 'mobilenetv2_0.25'

    assert cli.run(export.main, [str(run), '--out', str(tmp_path / 'baked'), '--bake-preprocessing', '--bake-softmax',
                                 '--images', str(images / 'circle'), '--which', 'last']) == 0
    assert 'on 5 real ones' in capsys.readouterr().out
    last = json.loads((tmp_path / 'baked' / 'model.json').read_text())
    assert last['source']['epoch'] == 2 and last['source']['checkpoint'] == 'last'
    assert cli.run(export.main, [str(run), '--out', str(tmp_path / 'baked'), '--bake-preprocessing',
                                 '--overwrite']) == 0

    found = probabilities(run, images, tmp_path / 'from_run')
    assert len(found) == 10
    assert np.ptp([row[0] for row in found.values()]) > 1e-3  # images can be told apart
    for model in (run / 'export', tmp_path / 'baked'):
        again = probabilities(model, images, tmp_path / f'from_{model.name}')
        assert again.keys() == found.keys()
        np.testing.assert_allclose([*again.values()], [*found.values()], atol=1e-5)


@pytest.mark.parametrize('words, code, message', [
    (('nowhere',), 1, "'nowhere' is not a run folder"),
    (('run', '--images', 'nowhere'), 1, "'nowhere' names no image"),
    (('run', '--which', 'first'), 2, 'first'),
    (('run', '--images', 'cfg.yaml'), 1, 'no image to compare on')])
def test_wrong_words_get_one_line(trained, monkeypatch, capsys, words, code, message):
    monkeypatch.chdir(trained)
    assert cli.run(export.main, words) == code
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


def test_existing_export_is_kept(trained, tmp_path, capsys):
    (tmp_path / 'model.json').write_text('{}')
    assert cli.run(export.main, [str(trained / 'run'), '--out', str(tmp_path)]) == 1
    assert '--overwrite' in capsys.readouterr().err
    assert (tmp_path / 'model.json').read_text() == '{}'


def test_data_that_is_gone(trained, tmp_path, monkeypatch, capsys):
    (trained / 'images').rename(trained / 'elsewhere')
    try:
        assert cli.run(export.main, [str(trained / 'run'), '--out', str(tmp_path / 'export')]) == 1
        assert '--images' in capsys.readouterr().err
        assert cli.run(export.main, [str(trained / 'run'), '--out', str(tmp_path / 'export'), '--images',
                                     str(trained / 'elsewhere')]) == 0
    finally:
        (trained / 'elsewhere').rename(trained / 'images')


@pytest.fixture
def chosen(trained, tmp_path):
    """Return a function that makes a run folder whose best checkpoint validation has chosen, at a temperature."""
    def make(value):
        folder = tmp_path / 'run'
        shutil.copytree(trained / 'run', folder, ignore=shutil.ignore_patterns('export'))
        opened = engine.open_run(folder)
        fitted = {} if value is None else {'temperature': value}
        checkpoint.save(folder, 'best', opened.method.train_net, {
            'epoch': 2, 'chosen_by': {'epoch': 1, 'split': 'val', 'metric': 'top1', 'value': 1.0, **fitted}})
        return folder
    return make


@pytest.mark.parametrize('words, used', [((), True), (('--uncalibrated',), False), (('--which', 'last'), False)])
def test_the_temperature_of_validation_leaves_with_the_network(trained, chosen, tmp_path, capsys, words, used):
    run, images = chosen(0.25), trained / 'images/test'
    assert cli.run(export.main, [str(run), '--bake-softmax', *words]) == 0
    printed = capsys.readouterr().out
    assert Metadata.read(run / 'export').temperature == (0.25 if used else None)
    assert ('logits divided by 0.25, fitted on validation' in printed) == used
    card = (run / 'export/MODEL.md').read_text()
    assert ('a temperature fitted on validation and never on test' in card) == used
    assert ('not calibrated' in card) != used
    raw = probabilities(trained / 'run', images, tmp_path / 'raw')
    found = probabilities(run / 'export', images, tmp_path / 'found')
    for path, row in raw.items():
        powers = np.power(row, 4.0) if used else np.array(row)  # softmax(z / 0.25) is p^4, scaled to a sum of 1
        # Divided by 0.25, a rounding of the logits counts four times, here and below.
        np.testing.assert_allclose(found[path], powers / powers.sum(), atol=2e-5)
    if used:  # predictions by the run folder say the same
        again = probabilities(run, images, tmp_path / 'run_itself')
        np.testing.assert_allclose([*again.values()], [*found.values()], atol=2e-5)


@pytest.mark.parametrize('value, says', [(temperature.LOW * (1 + 1e-8), '0.05 is the end of its range'),
                                         (temperature.HIGH * (1 - 1e-8), '20 is the end of its range'),
                                         (None, 'no validation split has fitted')])
def test_a_temperature_that_says_nothing_is_not_used(chosen, capsys, value, says):
    run = chosen(value)
    assert cli.run(export.main, [str(run)]) == 0
    assert says in capsys.readouterr().out and Metadata.read(run / 'export').temperature is None

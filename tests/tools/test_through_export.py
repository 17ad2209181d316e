"""fgvc evaluate --engine and fgvc visualize on an exported model: what the run says, by what runs the export."""
import csv
import json
from types import SimpleNamespace

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import runs
from gluon_fgvc.commands import cli, evaluate, export, predict, train, visualize
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.runs.exported import Scores
from tests import small_run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with two runs that are exported, the first as ONNX with all baked."""
    folder = small_run.write(tmp_path_factory.mktemp('runs'))
    baked = ['--bake-preprocessing', '--bake-softmax', '--format', 'onnx']
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for seed, words in ((0, baked), (1, [])):
            assert cli.run(train.main, ['--cfg', 'cfg.yaml', '--work-dir', f'run{seed}', '--seed', str(seed)]) == 0
            assert cli.run(export.main, [f'run{seed}', *words]) == 0
    return folder


@pytest.fixture
def here(trained, monkeypatch, tmp_path):
    monkeypatch.chdir(trained)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return trained


def run(*words):
    return cli.run(evaluate.main, [str(word) for word in words])


def probabilities(path):
    with open(path, newline='') as stream:
        return {row['path']: float(row['label_probability']) for row in csv.DictReader(stream)}


@pytest.mark.parametrize('name, engine', [('run0', 'onnxruntime'), ('run0', 'mxnet_fused'), ('run1', 'mxnet')])
def test_an_engine_gives_the_figures_of_the_network(here, capfd, name, engine):
    before = (here / name / 'evaluation.json').read_bytes()
    assert run(name, '--engine', engine) == 0
    printed = ''.join(capfd.readouterr())
    assert f'{name}: engine {engine}, as asked' in printed and f'the exported model by {engine})' in printed
    network, found = json.loads(before), json.loads((here / name / 'evaluation_exported.json').read_text())
    assert found['engine'] == engine and 'engine' not in network and found['views'] == 'exported'
    assert found['loss'] == pytest.approx(network['loss'], abs=1e-5)
    for key in ('top1', 'images', 'confusion', 'split', 'checkpoint'):
        assert found[key] == network[key]
    expected, again = (probabilities(here / name / file) for file in ('predictions.csv', 'predictions_exported.csv'))
    assert expected.keys() == again.keys() and len(expected) == 4
    assert [*again.values()] == pytest.approx([*expected.values()], abs=1e-5)
    assert (here / name / 'evaluation.json').read_bytes() == before
    listed = [json.loads(line) for line in (here / name / 'test_evaluations.jsonl').read_text().splitlines()]
    assert listed[-1]['engine'] == engine and 'engine' not in listed[0]


def test_auto_says_what_it_took_and_ran_it(here, capfd, monkeypatch):
    asked = []
    monkeypatch.setattr(Predictor, 'scores', lambda model, images, own=Predictor.scores: (asked.append(model.engine),
                                                                                          own(model, images))[1])
    assert run('run0', '--engine', 'auto', '--split', 'val') == 0
    found = json.loads((here / 'run0/evaluation_val_exported.json').read_text())
    assert asked == [found['engine']] and f"run0: engine {found['engine']} took " in ''.join(capfd.readouterr())


def test_views_and_ensembles_too(here, capfd):
    assert run('run0', '--tta', 'flip') == run('run0', '--tta', 'flip', '--engine', 'onnxruntime') == 0
    plain, found = (json.loads((here / f'run0/evaluation_flip{end}.json').read_text()) for end in ('', '_exported'))
    assert found['loss'] == pytest.approx(plain['loss'], abs=1e-5) and found['members'][0]['engine'] == 'onnxruntime'
    assert run('--ensemble', 'run0', 'run1', '--out', 'both', '--engine', 'mxnet_fused') == 0
    members = [probabilities(here / f'run{seed}/predictions.csv') for seed in (0, 1)]
    for path, value in probabilities(here / 'both/predictions_exported.csv').items():
        assert value == pytest.approx(np.mean([member[path] for member in members]), abs=1e-5)
    assert json.loads((here / 'both/evaluation_exported.json').read_text())['engine'] == 'mxnet_fused'


@pytest.mark.parametrize('words, code, says', [
    (('run1', '--engine', 'auto', '--export', 'images'), 1, "'images' is not an exported model"),
    (('run1', '--engine', 'auto', '--export', 'run0/export'), 1, "'run0/export' was made of epoch 1 of run 'run0'"),
    (('run0', '--engine', 'tensorrt'), 2, 'tensorrt'),
    (('run1', '--engine', 'onnxruntime'), 1, 'cannot read model.onnx'),
    (('run0', '--engine', 'auto', '--pointing-game'), 2, 'leave out --pointing-game'),
    (('run0', '--engine', 'auto', '--gpus', '0'), 2, 'on the CPU'),
    (('run0', '--export', 'run0/export'), 2, 'needs --engine')])
def test_wrong_use(here, capfd, words, code, says):
    assert run(*words) == code
    error = capfd.readouterr().err.strip().splitlines()[-1]
    assert says in error


def test_the_maps_of_an_export_are_the_networks(here, capfd, monkeypatch):
    pages = {}
    monkeypatch.setattr('gluon_fgvc.pages.maps.write_page', lambda rows, out, *_: pages.update({str(out): rows}))
    assert cli.run(visualize.main, ['run0/export', 'images/test', '--limit', '3', '--engine', 'onnxruntime']) == 0
    assert 'engine: onnxruntime, as asked\n3 of 4 images: run0/export/maps.html' in capfd.readouterr().out
    assert cli.run(visualize.main, ['run0', 'images/test', '--limit', '3']) == 0
    found, expected = pages['run0/export/maps.html'], pages['run0/maps.html']
    for ours, theirs in zip(found, expected):
        assert (ours.name, ours.predicted) == (theirs.name, theirs.predicted)
        assert ours.probability == pytest.approx(theirs.probability, abs=1e-5)
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_allclose(ours.maps['class activation'], np.maximum(theirs.maps['class activation'], 0),
                                   rtol=1e-4, atol=1e-5)
    assert len(found) == 3


def test_the_page_of_an_export_is_written(here, capfd):
    assert cli.run(visualize.main, ['run1/export', 'images/test', '--out', 'page.html', '--engine', 'mxnet']) == 0
    text = (here / 'page.html').read_text()
    assert 'Where finetune, exported, looks' in text and text.count('<img') >= 4


@pytest.mark.parametrize('words, says', [
    (('run0/export', '--split', 'test'), '--split is for a run folder'),
    (('run0/export', 'images', '--baseline', 'run1'), '--baseline is for a run folder'),
    (('run0/export', 'images', '--gpus', ''), '--gpus is for a run folder'),
    (('run0', 'images', '--engine', 'auto'), '--engine auto is for an exported model')])
def test_what_only_a_run_can_show(here, capfd, words, says):
    assert cli.run(visualize.main, [*words]) == 2
    assert says in capfd.readouterr().err


def test_what_a_graph_does_not_tell_is_one_line(here, capfd, monkeypatch):
    from gluon_fgvc.deploy import activation

    def refuse(*_):
        raise activation.NoActivation('it was built so')
    monkeypatch.setattr(Predictor, 'maps', refuse)
    assert cli.run(visualize.main, ['run1/export', 'images', '--engine', 'mxnet']) == 1
    error = capfd.readouterr().err
    assert 'does not tell where it looks: it was built so; give the run folder' in error and error.count('\n') == 1


def test_images_of_another_size_than_an_inflexible_graph_takes(here):
    from gluon_fgvc.errors import ConfigError
    from gluon_fgvc.runs.exported import Scores

    class Model:
        class metadata:
            size, flexible = (32, 32), False
    with pytest.raises(ConfigError, match=r'takes images of \[32, 32\] pixels, not \[40, 32\]'):
        Scores(Model)(np.zeros((1, 40, 32, 3), 'uint8'))


def test_predict_and_evaluate_agree(here):
    assert cli.run(predict.main, ['run0/export', 'images/test', '--engine', 'onnxruntime', '--no-sheet']) == 0
    tree = json.loads((here / 'predictions/predictions.json').read_text())
    opened = runs.through_export(runs.open_run('run0'), 'onnxruntime')
    predicted = {entry['path']: entry['predictions'][0] for entry in tree['images']}
    result = runs.evaluate(opened, 'test')
    assert result['engine'] == 'onnxruntime' and len(predicted) == result['images'] == 4
    right = sum(path.split('/')[-2] == best['class'] for path, best in predicted.items())
    assert result['top1'] == right / 4


def test_scores_are_those_of_the_network_whatever_the_temperature():
    """The graph has divided them, and evaluation judges calibration by scores that nothing has divided."""
    model = SimpleNamespace(metadata=SimpleNamespace(size=(2, 2), flexible=True, temperature=4.0),
                            scores=lambda pixels: np.float32([[0.5, -0.25]]))
    assert Scores(model)(mx.nd.zeros((1, 2, 2, 3), dtype='uint8')).asnumpy().tolist() == [[2, -1]]

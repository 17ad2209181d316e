"""fgvc prune as a user types it: a smaller run that is evaluated, trained on, exported and pruned again."""
import json

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import runs as engine
from gluon_fgvc.commands import cli, evaluate, export, prune, train
from tests import small_run

CONFIG = small_run.CONFIG.replace('{name: finetune, lr_mult: 1, dropout: 0.3}',
                                  '{name: attention_scaled, schedule: FAE, dropout: 0.3}').replace(
    'epochs: 1', 'epochs: 3').replace('{random_resized_crop: 32, flip: true}', '{resize: [32, 32]}')


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = small_run.write(tmp_path_factory.mktemp('trained'))
    (folder / 'cfg.yaml').write_text(CONFIG.replace('root: images', f"root: '{folder / 'images'}'"))
    engine.train(engine.load_config(folder / 'cfg.yaml'), folder / 'run', test=False)
    return folder


@pytest.fixture
def call(trained, tmp_path, monkeypatch, capsys):
    """Call a tool in an empty folder; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def invoke(tool, *words):
        code = cli.run(tool.main, list(map(str, words)))
        captured = capsys.readouterr()
        return code, captured.out, captured.err
    return invoke


@pytest.mark.parametrize('ranking', ['attention', *(pytest.param(name, marks=pytest.mark.slow)
                                                   for name in ('l1', 'taylor'))])
def test_a_pruned_run(trained, call, tmp_path, ranking):
    out = tmp_path / 'pruned'
    code, text, error = call(prune, trained / 'run', '--out', out, '--fraction', '0.3', '--ranking', ranking,
                             '--batches', 2)
    assert code == 0, error
    record = json.loads((out / 'prune.json').read_text())
    before, after = (record['figures'][key] for key in ('before', 'after'))
    assert after['parameters'] < before['parameters'] and after['multiply_adds'] < 0.85 * before['multiply_adds']
    assert f"{after['parameters']:,}" in text and all(row['images_per_s'] > 0 for row in (before, after))
    widths = json.loads((out / 'widths.json').read_text())['widths']
    small = engine.open_run(out)
    assert widths['stage1.1.out.0'] == 36 - int(0.3 * 36)  # 6 times 6 channels
    weight = small.method.net.body.stage1[1].out[0].weight.data()
    assert weight.shape[0] == widths['stage1.1.out.0']
    assert all(parameter.shape for parameter in small.method.net.collect_params().values())

    assert call(evaluate, out, '--split', 'val')[0] == 0
    result = json.loads((out / 'evaluation_val.json').read_text())
    for key in ('top1', 'loss'):
        assert result[key] == pytest.approx(after['val'][key])
    assert call(export, out)[0] == 0
    model = json.loads((out / 'export' / 'model.json').read_text())
    shapes = mx.nd.load(str(out / 'export' / 'model-0000.params'))
    assert shapes['arg:body.stage1.1.out.0.weight'].shape == weight.shape
    assert model['source']['widths'] == widths


def test_attention_is_no_cost_of_the_deployed_network(trained, call, tmp_path):
    assert call(prune, trained / 'run', '--out', tmp_path / 'out', '--fraction', '0.3', '--batches', 1)[0] == 0
    plain = json.loads((tmp_path / 'out' / 'prune.json').read_text())['figures']['before']
    assert call(evaluate, trained / 'run', '--split', 'val')[0] == 0
    cost = json.loads((trained / 'run' / 'evaluation_val.json').read_text())['cost']
    assert cost == {key: plain[key] for key in ('parameters', 'multiply_adds')}


@pytest.mark.slow
def test_training_goes_on_and_pruning_again(trained, call, tmp_path):
    out, again = tmp_path / 'pruned', tmp_path / 'again'
    code, text, error = call(prune, trained / 'run', '--out', out, '--fraction', '0.5', '--epochs', 1, '--batches', 2,
                             'train.optimizer.lr=1e-4')
    assert code == 0 and 'fine-tuned' in text, error
    assert engine.open_run(out, 'last').epoch == 1
    moved = engine.open_run(out, 'last').method.net.classifier.weight.data().asnumpy()
    start = mx.nd.load(str(out / 'pruned.params'))['classifier.weight'].asnumpy()
    assert 0 < np.abs(moved - start).max() < 1e-2  # it went on from the pruned classifier
    (out / 'widths.json').rename(tmp_path / 'kept.json')  # the run then has no plan
    assert call(evaluate, out, '--split', 'val')[0] != 0
    (tmp_path / 'kept.json').rename(out / 'widths.json')
    code, _, error = call(train, '--cfg', out / 'config.yaml', '--resume', '--work-dir', out, '--no-test')
    assert code == 0, error
    code, _, error = call(prune, out, '--out', again, '--fraction', '0.5', '--ranking', 'l1', '--batches', 2)
    assert code == 0, error
    first, second = (json.loads((folder / 'widths.json').read_text())['widths'] for folder in (out, again))
    assert second['stage1.1.out.0'] == first['stage1.1.out.0'] - first['stage1.1.out.0'] // 2
    code, _, error = call(prune, out, '--out', tmp_path / 'x', '--fraction', '0.5')
    assert code == 2 and 'has no attention weights to rank by; use --ranking l1 or taylor' in error


@pytest.mark.parametrize('words, code, says', [
    (('--threshold', '9'), 2, 'threshold 9 removes all 24 channels of'), ((), 2, 'give a fraction of the channels'),
    (('--fraction', '1.5'), 2, 'fraction 1.5 must be'), (('--fraction', '0.2', '--epochs', '-1'), 2, '--epochs -1'),
    (('--fraction', '0.2', '--ranking', 'l2'), 2, 'invalid choice'),
    (('--fraction', '0.2', 'train.epoch=3'), 2, "unknown key 'epoch'")])
def test_errors_are_one_line(trained, call, tmp_path, words, code, says):
    found, _, error = call(prune, trained / 'run', '--out', tmp_path / 'out', *words)
    assert found == code and says in error and error.count('\n') == 1
    assert not (tmp_path / 'out').exists()


def test_an_existing_run_is_left_alone(trained, call):
    config = (trained / 'run' / 'config.yaml').read_bytes()
    code, _, error = call(prune, trained / 'run', '--out', trained / 'run', '--fraction', '0.2')
    assert code == 1 and 'holds a run already' in error
    assert (trained / 'run' / 'config.yaml').read_bytes() == config


def test_the_old_name_of_fraction_is_read_with_a_warning(trained, call, tmp_path):
    with pytest.warns(UserWarning, match='--share is now --fraction'):
        assert call(prune, trained / 'run', '--out', tmp_path / 'out', '--share', '0.3', '--batches', 1)[0] == 0
    assert json.loads((tmp_path / 'out' / 'prune.json').read_text())['fraction'] == 0.3
    code, _, error = call(prune, trained / 'run', '--out', tmp_path / 'x', '--share', '0.3', '--fraction', '0.3')
    assert code == 2 and 'give one of them' in error

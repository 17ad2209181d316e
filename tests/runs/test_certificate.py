"""The certificate of an export passes what is right and fails each fault that was planted in it."""
import argparse
import json
import shutil
import warnings
from dataclasses import replace

import numpy as np
import onnx
import pytest

from benchmarks import int8
from gluon_fgvc import runs
from gluon_fgvc.commands import cli, export
from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.measure import measure
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.deploy.onnx.quantization import Quantizer
from gluon_fgvc.errors import CheckFailed
from gluon_fgvc.machine import processor
from gluon_fgvc.runs import certificate, conversion, model_card
from tests import small_run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A trained run, exported once with all formats by the command."""
    base = small_run.write(tmp_path_factory.mktemp('trained'), train=48, test=8)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(base)
        cfg = runs.load_config('cfg.yaml', [('train.epochs', 2)])
        runs.train(cfg, base / 'run')
        words = ['run', '--format', 'int8', 'onnx', 'float16', '--int8-loss', '100']
        assert cli.run(export.main, words) in (cli.OK, cli.PROBLEMS)  # int8 of a network that knows little may fail
        yield base


@pytest.fixture(scope='module')
def opened(trained):
    return runs.open_run(trained / 'run')


@pytest.fixture
def exported(trained, tmp_path):
    """A copy of the export with the symbol and ONNX only."""
    shutil.copytree(trained / 'run/export', tmp_path / 'export')
    metadata = Metadata.read(tmp_path / 'export')
    kept = {name: entry for name, entry in metadata.files.items() if entry.get('format', 'onnx') == 'onnx'}
    replace(metadata, files=kept).write(tmp_path / 'export')
    return tmp_path / 'export'


def test_the_command_writes_formats_certificate_page_and_card(trained):
    folder = trained / 'run/export'
    tree = json.loads((folder / 'certificate.json').read_text())
    assert list(tree['formats']) == ['symbol', 'onnx', 'float16', 'int8']
    assert tree['isa'] == processor.onednn_choice() and tree['images'] == {'split': 'val', 'count': 12, 'tinted': 12}
    listed = Metadata.read(folder).files
    for name, entry in tree['formats'].items():
        for file, identity in entry['files'].items():
            assert identity['sha256'] == listed[file]['sha256'] and file in (folder / 'certificate.html').read_text()
        assert set(entry['images_a_second']) == {'1', '16'} and min(entry['images_a_second'].values()) > 0
        assert 50 < entry['peak_memory_mib'] < 2000
        assert 0 <= entry['mcnemar']['p'] <= 1 and entry['worst_class']['name'] in ('circle', 'square')
        assert name in ('float16', 'int8') or entry['passed'], entry['faults']
    assert set(listed['model-int8.onnx']['in_float']) <= {'mobilenetv2_0.25_features_conv0_fwd'}
    assert listed['model-int8.onnx']['calibrated_on'] == 36
    card = (folder / 'MODEL.md').read_text()
    evaluation = json.loads((trained / 'run/evaluation.json').read_text())
    for words in ('circle, square', '`mobilenetv2_0.25`', f"Top-1 {evaluation['top1']:.2%}", 'on 8 images of the test',
                  'on the val split', 'none, random numbers', '| train | 36 | 18 | 18 |',
                  '| val | 12 | 6 | 6 |', '| onnx |', 'cannot say that it is none of them'):
        assert words in card, words


def test_the_memory_of_a_format_is_not_that_of_the_process_which_asks(exported):
    ballast = np.ones(1 << 27)  # 1 GiB
    measured = measure(exported, ['onnx'], batches=(1,), rounds=1)['onnx']
    assert 50 < measured['peak_memory_mib'] < ballast.nbytes >> 20


def test_a_card_of_somebody_else_is_left_alone(opened, exported):
    card = exported / 'MODEL.md'
    card.write_text(card.read_text() + 'More.')
    assert model_card.write(opened, exported) and 'More.' not in card.read_text()
    card.write_text('mine')
    assert not model_card.write(opened, exported) and card.read_text() == 'mine'


def test_a_right_export_passes(opened, exported):
    tree = certificate.certify(opened, exported, time=False)
    assert tree['passed'] and list(tree['formats']) == ['symbol', 'onnx']
    certificate.check(tree)
    found = tree['formats']['onnx']
    assert found['agreement'] == 1 and found['loss_points'] == 0 and found['mcnemar']['p'] == 1
    assert found['largest_difference'] < 1e-5 and found['worst_class']['change'] == 0


# --- planted faults --------------------------------------------------------------------------

def layers(model):
    return [node for node in model.graph.node if node.op_type in ('Conv', 'Gemm')]


def change(model, name, function):
    tensor = next(array for array in model.graph.initializer if array.name == name)
    array = function(onnx.numpy_helper.to_array(tensor))
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.ascontiguousarray(array), name))


def a_scale_doubled(model):
    change(model, layers(model)[10].input[1], lambda weight: 2 * weight)


def channels_swapped(model):
    change(model, layers(model)[3].input[1], lambda weight: weight[[1, 0, *range(2, len(weight))]])


def colours_swapped(model):
    change(model, layers(model)[0].input[1], lambda weight: weight[:, ::-1])


def outputs_permuted(model):
    for value in layers(model)[-1].input[1:]:
        change(model, value, lambda array: array[::-1])


@pytest.mark.parametrize('fault', [a_scale_doubled, channels_swapped, colours_swapped, outputs_permuted])
def test_faults_in_the_model_fail(opened, exported, fault):
    model = onnx.load(exported / 'model.onnx')
    fault(model)
    formats.save(exported, 'onnx', model, {})  # with the right SHA-256
    tree = certificate.certify(opened, exported, time=False)
    assert not tree['passed'] and tree['formats']['symbol']['passed'], fault.__name__
    with pytest.raises(CheckFailed, match="format 'onnx': .*allowed is 0.0001") as caught:
        certificate.check(tree)
    assert caught.value.exit_code == 3 and '\n' not in str(caught.value)
    assert not json.loads((exported / 'certificate.json').read_text())['passed']
    assert 'failed: ' in (exported / 'certificate.html').read_text()


@pytest.mark.parametrize('changes, says', [
    ({'mean': (0.0,) * 3, 'std': (1.0,) * 3}, 'a probability differs'),
    ({'mean': (0.406, 0.456, 0.485), 'std': (0.225, 0.224, 0.229)}, 'a probability differs'),
    ({'classes': ('square', 'circle')}, 'its classes are not those of the run')])
def test_faults_in_the_description_fail_every_format(opened, exported, changes, says):
    replace(Metadata.read(exported), **changes).write(exported)
    tree = certificate.certify(opened, exported, time=False)
    for entry in tree['formats'].values():
        assert not entry['passed'] and any(says in fault for fault in entry['faults'])


def test_damaged_and_exchanged_files_fail(opened, exported):
    path = exported / 'model.onnx'
    whole = path.read_bytes()
    for content, says in ((whole[:len(whole) // 2], 'it cannot be run'), (whole + b'\0', 'another SHA-256')):
        path.write_bytes(content)
        entry = certificate.certify(opened, exported, time=False)['formats']['onnx']
        assert not entry['passed'] and any(says in fault for fault in entry['faults'])


# --- int8 ------------------------------------------------------------------------------------

def test_int8_that_loses_too_much_is_not_written(opened, exported, monkeypatch):
    accuracies = iter([0.9, *[0.85] * 99])  # of float32, then of every candidate
    monkeypatch.setattr(conversion, '_accuracy', lambda model, judged: next(accuracies))
    few = [node.name for node in layers(onnx.load(exported / 'model.onnx'))][:4]  # to be quick
    monkeypatch.setattr(Quantizer, 'layers', few)
    monkeypatch.setattr(Quantizer, 'damage', lambda self, images, layers=few: dict.fromkeys(layers, 0.0))
    with pytest.raises(CheckFailed, match='int8 loses 5.00 points of accuracy on 12 images of the val split with 2 of '
                                          r'4 layers in float32; allowed is 1 \(--int8-loss\)'):
        conversion.convert(opened, exported, ['int8'], [])
    assert formats.written(exported) == ['symbol', 'onnx']


def test_the_benchmark_tells_what_8_bits_cost(trained):
    found = int8.measure(argparse.Namespace(run='run', data_root=None, images=12, split=None,
                                            ways=['onnxruntime-minmax', 'mxnet-naive']))
    float32, ours, mxnets = found.rows.values()
    assert float32['divergence'] == 0 and float32['agreement'] == 1
    for row in (ours, mxnets):
        assert 1e-7 < row['divergence'] < 1 and 0 <= row['top1'] <= 1
    assert found.settings['images'] == 12 and len(found.table()) == 5


@pytest.mark.parametrize('flags, has', [(['avx2'], False), (['avx2', 'avx_vnni'], True), (['avx512_vnni'], True)])
def test_vnni(monkeypatch, flags, has):
    monkeypatch.setattr(processor, 'instruction_sets', lambda: flags)
    assert conversion.has_vnni() is has


def test_the_command_warns_without_vnni(monkeypatch):
    monkeypatch.setattr(processor, 'instruction_sets', lambda: ['avx2'])
    with pytest.warns(UserWarning, match='--reduced-range avoids it'):
        assert cli.run(export.main, ['nowhere', '--format', 'int8']) == cli.FAILED
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        assert cli.run(export.main, ['nowhere', '--format', 'int8', '--reduced-range']) == cli.FAILED

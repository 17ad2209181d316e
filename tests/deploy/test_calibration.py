"""Probabilities of an export at a temperature, by hand: logits (2 ln 3, 0, 0) are 9/11 and, at T = 2, 3/5."""
import json
import subprocess
import sys

import cv2
import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import deploy
from gluon_fgvc.config import EvalView
from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.errors import CheckpointError
from tests.deploy.small import CLASSES, edit

RED = np.full((1, 8, 8, 3), [255, 0, 0], 'uint8')
RAW, CALIBRATED = [9 / 11, 1 / 11, 1 / 11], [3 / 5, 1 / 5, 1 / 5]


class Red(HybridBlock):
    """Scores (2 ln 3 · red, 0, 0), red the mean of the first channel."""

    def __init__(self):
        super().__init__()
        self.pool, self.classifier = nn.GlobalAvgPool2D(), nn.Dense(3, in_units=3)

    def hybrid_forward(self, F, images):
        return self.classifier(self.pool(images))


@pytest.fixture
def net():
    net = Red()
    net.initialize()
    weight = np.zeros((3, 3))
    weight[0, 0] = 2 * np.log(3)
    net.classifier.weight.set_data(mx.nd.array(weight))
    return net


def export(net, folder, temperature, **kwargs):
    return deploy.export(net, folder, classes=CLASSES, eval_view=EvalView(resize=(8, 8)), input_size=(8, 8),
                         mean=(0, 0, 0), std=(1, 1, 1), method='finetune', temperature=temperature, **kwargs)


@pytest.mark.parametrize('temperature, expected, bake_softmax, bake_preprocessing', [
    (None, RAW, False, False), (2.0, CALIBRATED, False, False), (2.0, CALIBRATED, True, False),
    (2.0, CALIBRATED, False, True)])
def test_probabilities_in_every_engine_and_format(net, tmp_path, temperature, expected, bake_softmax,
                                                  bake_preprocessing):
    folder = tmp_path / 'export'
    exported = export(net, folder, temperature, bake_softmax=bake_softmax, bake_preprocessing=bake_preprocessing)
    assert exported.difference == 0
    formats.write(folder, RED, ['onnx', 'float16'])
    for engine in ('mxnet', 'onnxruntime'):
        predictor = deploy.Predictor(folder, engine=engine)
        assert predictor.metadata.temperature == temperature
        np.testing.assert_allclose(predictor.predict(RED), [expected], atol=1e-6)
    for name in ('symbol', 'onnx', 'float16'):
        # float16 has 2 ln 3 to within 2^-11 of it.
        np.testing.assert_allclose(formats.open_format(folder, name)(RED), [expected], atol=3e-4)


def test_a_program_that_knows_nothing_of_it_has_calibrated_probabilities(net, tmp_path):
    export(net, tmp_path / 'export', 2.0)
    graph = mx.gluon.SymbolBlock.imports(str(tmp_path / 'export/model-symbol.json'), ['data'],
                                         str(tmp_path / 'export/model-0000.params'))
    logits = graph(mx.nd.array(RED.transpose(0, 3, 1, 2) / 255))
    np.testing.assert_allclose(mx.nd.softmax(logits).asnumpy(), [CALIBRATED], atol=1e-6)
    about = json.loads((tmp_path / 'export/model.json').read_text())['calibration']
    assert about['temperature'] == 2 and 'no further division' in about['rule']
    np.testing.assert_allclose(about['temperature'] * logits.asnumpy(), [[2 * np.log(3), 0, 0]], atol=1e-6)


def test_the_single_file_is_calibrated(net, tmp_path):
    export(net, tmp_path / 'export', 2.0)
    cv2.imwrite(str(tmp_path / 'red.png'), RED[0, :, :, ::-1])
    program = [sys.executable, '-W', 'ignore', str(tmp_path / 'export/predictor.py')]
    done = subprocess.run([*program, 'red.png', '--top', '1', '--engine', 'mxnet'], capture_output=True, text=True,
                          cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)['predictions'] == [{'class': 'hot dog', 'probability': pytest.approx(0.6, abs=1e-6)}]


def test_where_it_looks_is_the_same(net, tmp_path):
    half = RED.copy()
    half[:, :, 4:] = 0
    maps = []
    for temperature in (None, 2.0):
        export(net, tmp_path / str(temperature), temperature)
        maps.append(deploy.Predictor(tmp_path / str(temperature), engine='mxnet').maps(half)['class activation'])
    np.testing.assert_allclose(maps[0] / maps[0].max(), maps[1] / maps[1].max(), atol=1e-6)


@pytest.mark.parametrize('value', [0, -1, 'warm', None, float('inf')])
def test_a_temperature_that_is_none_is_refused(net, tmp_path, value):
    export(net, tmp_path, 2.0)
    edit(tmp_path, lambda tree: tree['calibration'].update(temperature=value))
    with pytest.raises(CheckpointError, match='incomplete or altered'):
        Metadata.read(tmp_path)

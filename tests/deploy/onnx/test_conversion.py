"""An exported folder gets ONNX files: what they hold, what they compute, and what is refused."""
import json

import mxnet as mx
import numpy as np
import onnx
import onnxruntime
import pytest

from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.deploy.onnx import conversion, runtime
from gluon_fgvc.errors import CheckFailed, CheckpointError
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.machine import processor
from tests.deploy.small import CLASSES, build_net, export_net
from tests.deploy.test_export import probabilities_of


@pytest.fixture
def pixels():
    return np.random.RandomState(0).randint(0, 256, (3, 24, 20, 3)).astype('uint8')


@pytest.mark.parametrize('preprocessing', [False, True])
@pytest.mark.parametrize('softmax', [False, True])
def test_model_takes_and_returns_what_is_asked_for(tmp_path, pixels, preprocessing, softmax):
    net = build_net()
    export_net(net, tmp_path, bake_preprocessing=preprocessing, bake_softmax=softmax, overwrite=True)
    entry = formats.write(tmp_path, list(pixels), ['onnx'])['onnx']
    model = onnx.load(tmp_path / 'model.onnx')
    assert (model.opset_import[0].version, model.ir_version) == (17, 8)
    session = onnxruntime.InferenceSession(str(tmp_path / 'model.onnx'), providers=['CPUExecutionProvider'])
    given, returned = session.get_inputs()[0], session.get_outputs()[0]
    if preprocessing:
        assert (given.type, given.shape) == ('tensor(uint8)', ['batch', 'height', 'width', 3])
    else:
        assert (given.type, given.shape) == ('tensor(float)', ['batch', 3, 'height', 'width'])
    assert (returned.name, returned.shape) == ('probabilities' if softmax else 'logits', ['batch', 3])
    assert json.loads(session.get_modelmeta().custom_metadata_map['classes']) == list(CLASSES)
    assert [node.op_type for node in model.graph.node].count('BatchNormalization') == 0
    assert not {value.name for value in model.graph.input} & {array.name for array in model.graph.initializer}

    runs = formats.open_format(tmp_path, 'onnx')
    np.testing.assert_allclose(runs(pixels), probabilities_of(net, pixels), atol=1e-6)
    listed = json.loads((tmp_path / 'model.json').read_text())['files']['model.onnx']
    assert listed == entry and entry['sha256'] == hash_of_file(tmp_path / 'model.onnx')
    assert entry['difference'] < 1e-6 and entry['images'] == 3
    assert formats.written(tmp_path) == ['symbol', 'onnx']


def test_same_network_same_bytes(tmp_path):
    net = build_net()
    for name in ('first', 'second'):
        export_net(net, tmp_path / name)
        formats.write(tmp_path / name, [], ['onnx'])
    assert (tmp_path / 'first/model.onnx').read_bytes() == (tmp_path / 'second/model.onnx').read_bytes()


def test_fixed_size_stays_in_the_model(tmp_path):
    export_net(build_net(pool=mx.gluon.nn.AvgPool2D(4)), tmp_path, overwrite=True)
    formats.write(tmp_path, [], ['onnx'])
    given = onnx.load(tmp_path / 'model.onnx').graph.input[0].type.tensor_type.shape.dim
    assert [dim.dim_value or dim.dim_param for dim in given] == ['batch', 3, 24, 20]


def test_float16_weights_take_half_of_the_space(tmp_path, pixels):
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(64, 3), mx.gluon.nn.Conv2D(64, 3, activation='relu'), mx.gluon.nn.GlobalAvgPool2D(),
            mx.gluon.nn.Dense(3))
    net.initialize(mx.init.Xavier())
    export_net(net, tmp_path, overwrite=True)
    entries = formats.write(tmp_path, list(pixels), ('onnx', 'float16'))
    assert entries['float16']['bytes'] < 0.55 * entries['onnx']['bytes']
    assert entries['onnx']['difference'] < 1e-6 < entries['float16']['difference'] < 1e-2
    assert formats.written(tmp_path) == ['symbol', 'onnx', 'float16']


def test_weights_that_float16_cannot_hold(tmp_path):
    net = build_net()
    export_net(net, tmp_path, overwrite=True)
    model = conversion.model_of(tmp_path, Metadata.read(tmp_path))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.full(300, 1e5, 'float32'), 'large'))
    with pytest.raises(CheckFailed, match="'large' reaches 1e\\+05"):
        conversion.with_float16_weights(model)


@pytest.mark.parametrize('name, share, says', [('onnx', 1.01, '3 real images, allowed is 0.0001'),
                                               ('float16', 3.0, 'allowed is')])
def test_a_model_that_computes_something_else_is_not_written(tmp_path, pixels, monkeypatch, name, share, says):
    export_net(build_net(), tmp_path, overwrite=True)
    before = (tmp_path / 'model.json').read_text()
    right = conversion.model_of

    def wrong(folder, metadata):
        model = right(folder, metadata)
        tensor = max(model.graph.initializer, key=lambda array: len(array.raw_data))
        tensor.CopyFrom(onnx.numpy_helper.from_array(share * onnx.numpy_helper.to_array(tensor), tensor.name))
        return model

    monkeypatch.setattr(conversion, 'model_of', wrong)
    with pytest.raises(CheckFailed, match=says) as caught:
        formats.write(tmp_path, list(pixels), (name,))
    assert caught.value.exit_code == 3 and '\n' not in str(caught.value) and f"'{name}'" in str(caught.value)
    assert not (tmp_path / formats.FILES[name]).exists() and (tmp_path / 'model.json').read_text() == before


def test_an_operator_without_translation_is_named_and_nothing_written(tmp_path):
    net = mx.gluon.nn.HybridSequential()
    net.add(build_net(), mx.gluon.nn.HybridLambda(lambda F, scores: F.arcsinh(scores)))
    export_net(net, tmp_path, overwrite=True)
    with pytest.raises(CheckFailed, match='operator arcsinh .* has no translation'):
        formats.write(tmp_path, [], ['onnx'])
    assert formats.written(tmp_path) == ['symbol']


def test_a_new_export_forgets_the_formats_of_the_old_one(tmp_path):
    net = build_net()
    export_net(net, tmp_path, overwrite=True)
    formats.write(tmp_path, [], ['onnx'])
    (tmp_path / 'notes.txt').write_text('mine')
    formats.forget(tmp_path)
    assert (tmp_path / 'model.onnx').exists()
    export_net(net, tmp_path, overwrite=True)
    formats.forget(tmp_path)
    assert not (tmp_path / 'model.onnx').exists() and (tmp_path / 'notes.txt').read_text() == 'mine'


def test_missing_packages_are_named(monkeypatch):
    monkeypatch.setattr(runtime, 'PACKAGES', ('onnx', 'no_such_runtime'))
    with pytest.raises(CheckpointError, match="'no_such_runtime'.*pip install onnx no_such_runtime"):
        runtime.require()


# --- bfloat16 --------------------------------------------------------------------------------

@pytest.mark.skipif(not formats.has_bfloat16(), reason='the processor has no bfloat16; the refusal is tested below')
def test_bfloat16_rounds_layers_but_not_grouped_ones(tmp_path, pixels):
    mx.random.seed(0)
    net = mx.gluon.nn.HybridSequential()
    net.add(mx.gluon.nn.Conv2D(8, 3), mx.gluon.nn.Conv2D(8, 3, groups=8), mx.gluon.nn.GlobalAvgPool2D(),
            mx.gluon.nn.Dense(3))
    net.initialize(mx.init.Xavier())
    export_net(net, tmp_path, overwrite=True)
    entry = formats.write(tmp_path, list(pixels), ['bfloat16'])['bfloat16']
    assert 1e-5 < entry['difference'] < 2e-2  # 8 bits of a number are kept
    graph = json.loads((tmp_path / 'model-bfloat16-symbol.json').read_text())['nodes']
    casts = {graph[node['inputs'][1][0]]['attrs'].get('dtype') for node in graph if node['op'] == 'Convolution'
             and node['attrs'].get('num_group') == '1'}
    assert casts == {'bfloat16'}
    grouped, = (node for node in graph if node['op'] == 'Convolution' and node['attrs'].get('num_group') == '8')
    assert graph[grouped['inputs'][1][0]]['attrs'].get('dtype') != 'bfloat16'
    runs = formats.open_format(tmp_path, 'bfloat16')
    assert np.abs(runs(pixels) - formats.open_format(tmp_path, 'symbol')(pixels)).max() < 2e-2


def test_bfloat16_is_refused_where_the_processor_has_none(tmp_path, monkeypatch):
    export_net(build_net(), tmp_path, overwrite=True)
    monkeypatch.setattr(processor, 'onednn_choice', lambda: 'AVX2')
    with pytest.raises(CheckFailed, match='AVX512_BF16 or AMX, this one has AVX2'):
        formats.write(tmp_path, [], ['bfloat16'])
    assert formats.written(tmp_path) == ['symbol']

"""int8: how much of it there is, which layers are found to suffer, and when to stop."""
import mxnet as mx
import numpy as np
import onnx
import pytest
from mxnet.gluon import nn

from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.deploy.onnx import conversion
from gluon_fgvc.deploy.onnx.quantization import Quantizer, search
from gluon_fgvc.deploy.onnx.runtime import OnnxModel
from tests.deploy.small import export_net


def build():
    mx.random.seed(0)
    net = nn.HybridSequential()
    for _ in range(4):
        net.add(nn.Conv2D(16, 3, padding=1), nn.BatchNorm(beta_initializer=mx.init.Normal(0.1)),
                nn.Activation('relu'))
    net.add(nn.GlobalAvgPool2D(), nn.Dense(3))
    net.initialize(mx.init.Xavier(magnitude=4))
    return net


@pytest.fixture(scope='module')
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp('export')
    export_net(build(), folder, overwrite=True)
    metadata = Metadata.read(folder)
    pixels = np.random.RandomState(0).randint(0, 256, (12, 24, 20, 3)).astype('uint8')
    return conversion.model_of(folder, metadata), metadata, pixels


@pytest.fixture
def quantizer(exported):
    model, metadata, pixels = exported
    return Quantizer(model, metadata, list(pixels))


def in_8_bits(model):
    """Names of the layers whose weights come from integers."""
    made = {output: node.op_type for node in model.graph.node for output in node.output}
    return [node.name for node in model.graph.node
            if node.op_type in ('Conv', 'Gemm') and made.get(node.input[1]) == 'DequantizeLinear']


def weights(model):
    return {array.name: onnx.numpy_helper.to_array(array) for array in model.graph.initializer
            if array.data_type == onnx.TensorProto.INT8}


def test_all_layers_are_quantised_and_compute_nearly_the_same(exported, quantizer):
    model, metadata, pixels = exported
    made = quantizer.quantized()
    assert in_8_bits(made) == quantizer.layers and len(quantizer.layers) == 5
    assert quantizer.first == quantizer.layers[:1]
    expected, found = (OnnxModel(m, metadata)(pixels) for m in (model, made))
    assert 1e-6 < np.abs(found - expected).max() < 0.05
    assert sum(array.size for array in weights(made).values()) >= 16 * 3 * 9 + 3 * 16 * 16 * 9 + 3 * 16


def test_layers_can_be_left_out(quantizer):
    first, *others = quantizer.layers
    assert in_8_bits(quantizer.quantized([first])) == others
    assert in_8_bits(quantizer.only(first)) == [first]


@pytest.mark.parametrize('layer', range(5))
def test_layers_left_out_stay_so_when_the_model_is_opened(layer, quantizer, tmp_path):
    """onnxruntime quantises weights by itself where it sees a layer between two quantised tensors."""
    import onnxruntime
    name = quantizer.layers[layer]
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / 'opened.onnx')
    onnxruntime.InferenceSession(quantizer.quantized([name]).SerializeToString(), options,
                                 providers=['CPUExecutionProvider'])
    opened = in_8_bits(onnx.load(tmp_path / 'opened.onnx'))
    assert name not in opened and len(opened) == 4


def test_reduced_range_is_7_bits(exported, quantizer):
    reduced = Quantizer(*exported[:2], list(exported[2]), reduced_range=True).quantized()
    assert max(np.abs(array).max() for array in weights(reduced).values()) <= 64
    assert max(np.abs(array).max() for array in weights(quantizer.quantized()).values()) > 64


@pytest.mark.parametrize('calibration', ['percentile', 'entropy'])
def test_ranges_can_leave_out_what_is_rare(exported, calibration):
    """The largest value of some activation is no longer its range, and the model computes nearly the same."""
    model, metadata, pixels = exported

    def ranges(calibration):
        found = Quantizer(model, metadata, list(pixels), calibration=calibration)._ranges.data
        return {name: float(value.highest) for name, value in found.items()}
    largest, narrower = ranges('minmax'), ranges(calibration)
    assert largest.keys() == narrower.keys() and len(largest) > 4
    assert all(narrower[name] <= largest[name] * 1.001 for name in largest)
    assert any(narrower[name] < 0.99 * largest[name] for name in largest)
    made = Quantizer(model, metadata, list(pixels), calibration=calibration).quantized()
    expected, found = (OnnxModel(m, metadata)(pixels) for m in (model, made))
    assert 1e-6 < np.abs(found - expected).max() < 0.1


def test_the_layer_that_suffers_is_found(exported, quantizer):
    suffering = quantizer.layers[2]
    value = next(node.input[0] for node in quantizer.model.graph.node if node.name == suffering)
    ranges = quantizer._ranges.data[value]
    ranges.lowest, ranges.highest = ranges.lowest * 300, ranges.highest * 300  # one step is all there is
    damage = quantizer.damage(exported[2])
    assert max(damage, key=damage.get) == suffering and all(value >= -1e-6 for value in damage.values())


def test_search_leaves_out_the_worst_until_it_is_accepted(exported, quantizer):
    damage = quantizer.damage(exported[2])
    worst = sorted(damage, key=damage.get, reverse=True)
    seen = []

    def accepts(model):
        seen.append(in_8_bits(model))
        return len(seen) > 2, len(seen)

    model, in_float, measured = search(quantizer, exported[2], accepts)
    assert in_float == worst[:2] and measured == 3 and in_8_bits(model) == seen[-1]
    assert [len(layers) for layers in seen] == [5, 4, 3] and not set(seen[-1]) & set(in_float)
    assert search(quantizer, exported[2], lambda model: (False, 'no')) == (None, worst[:2], 'no')  # half of the layers


def test_a_first_layer_that_moves_much_stays_in_float(exported, quantizer, monkeypatch):
    first, pixels = quantizer.layers[0], exported[2]
    accepts = lambda model: (True, len(in_8_bits(model)))  # noqa: E731
    assert search(quantizer, pixels, accepts)[1:] == ([], 5)
    monkeypatch.setattr(quantizer, 'damage', lambda images, layers: {layer: 3e-3 for layer in layers})
    assert search(quantizer, pixels, accepts)[1:] == ([first], 4)


def test_where_to_look_is_not_computed_in_8_bits():
    """The places of a sampler, and all arithmetic that leads to them, stay float32; its layers need not."""
    from gluon_fgvc.deploy.onnx.quantization import _keep_in_float, _reading_an_image
    helper = onnx.helper
    nodes = [helper.make_node('Conv', ['x', 'w'], ['a'], 'conv'), helper.make_node('Relu', ['a'], ['b'], 'relu'),
             helper.make_node('Add', ['b', 'b'], ['grid'], 'places'),
             helper.make_node('GridSample', ['x', 'grid'], ['y'], 'sample'),
             helper.make_node('Relu', ['y'], ['z'], 'after'), helper.make_node('Add', ['z', 'one'], ['s'], 'shift'),
             helper.make_node('Conv', ['s', 'v'], ['t'], 'stem'), helper.make_node('Conv', ['t', 'u'], ['out'], 'next')]
    image = helper.make_tensor_value_info('x', onnx.TensorProto.FLOAT, ['N', 3, 8, 8])
    graph = helper.make_graph(nodes, 'g', [image], [], [onnx.numpy_helper.from_array(np.ones(1, 'float32'), 'one')])
    assert sorted(_keep_in_float(helper.make_model(graph))) == ['places', 'relu', 'shift']
    assert _reading_an_image(helper.make_model(graph)) == ['conv', 'stem']

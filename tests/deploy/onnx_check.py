"""One graph, computed by MXNet and, translated, by onnxruntime."""
import mxnet as mx
import numpy as np
import onnxruntime

from gluon_fgvc.deploy.onnx.translation import translate
from tests.rounding import differences


def run(model, feeds):
    """Return the one output of a ModelProto."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    return session.run(None, feeds)[0]


def translated(symbol, feeds, parameters=None, free=None):
    """Translate ``symbol``; ``free`` names the axes of each input that stay free, by default the first."""
    shapes = {name: array.shape for name, array in feeds.items()}
    other = {name: tuple(2 * size + 3 if axis in (free or {}).get(name, (0,)) else size
                         for axis, size in enumerate(shape)) for name, shape in shapes.items()}
    return translate(symbol.tojson(), parameters or {}, shapes, other)


def compare(symbol, feeds, parameters=None, free=None, tolerance=1e-5):
    """Assert that both compute the same of ``feeds``, dict of input → numpy float32; returns the model."""
    parameters = parameters or {}
    arrays = {name: mx.nd.array(array) for name, array in {**feeds, **parameters}.items()}
    # Not by an executor: it fuses a convolution with its BatchNorm even where something else takes the convolution.
    expected = mx.nd.CachedOp(symbol)(*(arrays[name] for name in symbol.list_inputs()))
    expected = (expected[0] if isinstance(expected, list) else expected).asnumpy()
    model = translated(symbol, feeds, parameters, free)
    found = run(model, feeds)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    return model


def operators(model):
    """Return the operators of a model, without the Identity that names its output."""
    return [node.op_type for node in model.graph.node if node.op_type != 'Identity']


def compare_net(net, batches, sides):
    """Return the largest difference of a probability, and of a score as a share of the largest score.

    Both, since probabilities of networks that were not trained are often 0 and 1 to the last digit.

    :param net: HybridBlock, normalised images (N,3,H,W) → scores (N,K), initialised.
    :param batches: list of NDArray (N,3,H,W); the model is made once, for all of them.
    :param sides: None where height and width stay free, else the one side of all images.
    """
    mx.nd.waitall()
    expected = [net(batch).asnumpy() for batch in batches]
    symbol = net(mx.sym.var('data'))
    values = {name: parameter for name, parameter in net.collect_params().items()}
    parameters = {name: values[name].data().asnumpy() for name in symbol.list_inputs() if name != 'data'}
    one, two = ((2, 3, 96, 96), (3, 3, 256, 256)) if sides is None else ((2, 3, sides, sides), (3, 3, sides, sides))
    model = translate(symbol.tojson(), parameters, {'data': one}, {'data': two}, 'logits')
    named = {array.name for array in model.graph.initializer}
    assert [value.name for value in model.graph.input] == ['data'] and 'data' not in named
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=['CPUExecutionProvider'])
    found = [session.run(None, {'data': batch.asnumpy()})[0] for batch in batches]
    assert all(a.shape == b.shape and np.isfinite(a).all() for a, b in zip(found, expected))
    return differences(found, expected)


def photographs(count, side, seed=0):
    """Return ``count`` images (N,3,side,side) as smooth as photographs, normalised.

    On noise, where sampling by attention (TASN) lands a hair away, it reads another value.
    """
    rng = np.random.RandomState(seed)
    small = mx.nd.array(rng.normal(size=(count, 3, side // 8, side // 8)))
    return mx.nd.contrib.BilinearResize2D(small, height=side, width=side)

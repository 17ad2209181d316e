"""MXNet's symbol JSON and parameters become an ONNX model that computes the same.

Each operator has one small function in :mod:`layers`, :mod:`arithmetic` or :mod:`shapes`. What the translation of an
operator needs to know about shapes is not worked out again but asked of MXNet: the graph's shapes are inferred for two
batches of different number and size, and what is equal in both is constant.
"""
import json

import mxnet as mx
import onnx
from onnx import helper

from gluon_fgvc.deploy.onnx import arithmetic, layers, shapes  # noqa: F401  (they fill TRANSLATIONS)
from gluon_fgvc.deploy.onnx.graph import Graph, Node
from gluon_fgvc.deploy.onnx.registry import TRANSLATIONS
from gluon_fgvc.errors import CheckFailed

_TYPES = {'float32': onnx.TensorProto.FLOAT, 'uint8': onnx.TensorProto.UINT8}


def translate(symbol, parameters, inputs, other, output='output', dtype='float32'):
    """Return the ONNX ModelProto of a graph with one output.

    :param symbol: JSON text of a graph.
    :param parameters: dict of name → numpy array.
    :param inputs: dict of name → shape, for instance ``{'data': (2, 3, 224, 224)}``.
    :param other: the same for another batch; axes in which the two differ are free in the model.
    :param output: its name in the model.
    :param dtype: of all inputs, 'float32' or 'uint8'.
    :raises CheckFailed: for an operator, or a setting of one, that has no translation.
    """
    tree = json.loads(symbol)
    nodes = tree['nodes']
    inferred = _inferred(tree, parameters, inputs, other)
    values = {(i, 0): node['name'] for i, node in enumerate(nodes) if node['op'] == 'null'}
    graph = Graph(parameters, [*inputs, output])
    uses = {}
    for node in nodes:
        for entry in node['inputs']:
            uses[tuple(entry[:2])] = uses.get(tuple(entry[:2]), 0) + 1
    for i, node in enumerate(nodes):
        if node['op'] == 'null':
            continue
        entries = [tuple(entry[:2]) for entry in node['inputs']]
        found = _translated(graph, Node(
            node['op'], node['name'], node.get('attrs', {}), [values[entry] for entry in entries],
            [inferred[entry] for entry in entries], [inferred[i, k] for k in range(_count(inferred, i))]))
        for k, value in enumerate([found] if isinstance(found, str) else found):
            values[i, k] = value
            # Operators that change nothing pass their input on, so that one value may have several users' counts.
            graph.uses[value] = max(graph.uses.get(value, 0), uses.get((i, k), 0))
    head = tuple(tree['heads'][0][:2])
    information = [helper.make_tensor_value_info(name, _TYPES[dtype], _free(name, inputs[name], other[name]))
                   for name in inputs]
    return graph.model(information, (values[head], output), ['batch', *inferred[head][1:]])


def _translated(graph, node):
    function = TRANSLATIONS.get(node.operator)
    if function is None:
        raise CheckFailed(f"operator {node.operator} ('{node.name}') has no translation to ONNX; export without "
                          '--format onnx, or add one to gluon_fgvc/deploy/onnx')
    try:
        return function(graph, node)
    except NotImplementedError as reason:
        raise CheckFailed(f"operator {node.operator} ('{node.name}') cannot be translated to ONNX: {reason}; export "
                          'without --format onnx') from None


def _inferred(tree, parameters, inputs, other):
    """Return dict of (node, output) → shape, with None for dimensions in which the two batches differ."""
    # By number instead of by name, which need not be unique.
    nodes = [{**node, 'name': str(i)} for i, node in enumerate(tree['nodes'])]
    internals = mx.sym.load_json(json.dumps({**tree, 'nodes': nodes})).get_internals()
    found = []
    for shapes_of_inputs in (inputs, other):
        known = {**{name: array.shape for name, array in parameters.items()}, **shapes_of_inputs}
        given = {str(i): known[node['name']] for i, node in enumerate(tree['nodes']) if node['op'] == 'null'}
        found.append(internals.infer_shape(**given)[1])
    result, count = {}, {}
    for entry, one, two in zip(internals, *found):
        i = int(entry.name)
        result[i, count.get(i, 0)] = tuple(a if a == b else None for a, b in zip(one, two))
        count[i] = count.get(i, 0) + 1
    return result


def _count(inferred, i):
    return sum(1 for k in range(64) if (i, k) in inferred)


def _free(name, shape, other):
    """Return the shape of an input with names for its free axes."""
    names = iter(('batch', 'height', 'width')) if shape[0] != other[0] else iter(('height', 'width'))
    return [a if a == b else next(names) for a, b in zip(shape, other)]

"""What a network costs, read from the shapes in its graph: nothing is computed, no parameter is needed."""
import json
from collections import defaultdict, deque
from dataclasses import dataclass
from math import prod
from typing import Tuple

from mxnet import sym


@dataclass(frozen=True)
class Layer:
    """A convolution or dense layer where it is applied; a layer applied twice is there twice."""

    name: str                 # of the operator in the graph
    weight: str               # name of its weight, or of the operator that computes it
    output: Tuple[int, ...]   # shape, batch first
    multiply_adds: int        # products that are added up, for the whole batch; the bias is not counted


def layers(symbol, **shapes):
    """Return the list of convolution and dense layers of ``symbol`` in the order of their application.

    :param symbol: a Symbol, e.g. ``net(mx.sym.var('data'))``.
    :param shapes: shapes of its inputs, e.g. ``data=(1, 3, 224, 224)``.

    Each output of a convolution is a sum over one filter, each of a dense layer over one row of the weight.
    Products of two computed maps (attention, covariance) and elementwise ones are not counted.
    """
    internals = symbol.get_internals()
    outputs = defaultdict(deque)  # a block that is called twice gives the same name twice, in the order of the nodes
    for name, shape in zip(internals.list_outputs(), internals.infer_shape(**shapes)[1]):
        outputs[name].append(shape)
    nodes, found = json.loads(symbol.tojson())['nodes'], []
    for node in nodes:
        if node['op'] in ('Convolution', 'FullyConnected'):
            output = outputs[f"{node['name']}_output"].popleft()
            weight = nodes[node['inputs'][1][0]]
            shape = outputs[weight['name'] if weight['op'] == 'null' else f"{weight['name']}_output"][0]
            found.append(Layer(node['name'], weight['name'], output, prod(output) * prod(shape[1:])))
    return found


def multiply_adds(net, *shape):
    """Return the multiply-adds of ``net``, a HybridBlock, on one input of ``shape`` (without batch)."""
    output = net(sym.var('data'))
    return sum(layer.multiply_adds for layer in layers(
        sym.Group(output) if isinstance(output, (list, tuple)) else output, data=(1, *shape)))


def parameters(net):
    """Return how many numbers learn in ``net``; running statistics are not among them."""
    return sum(prod(parameter.shape) for parameter in net.collect_params().values() if parameter.grad_req != 'null')

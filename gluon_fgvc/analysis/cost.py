"""What a network costs: parameters that learn, and multiply-accumulates of one image."""
import json
import math

import mxnet as mx


def parameters(net):
    """Return how many numbers of ``net`` learn; BatchNorm's gamma and beta count, its running statistics do not."""
    learning = {p.name: p for p in net.collect_params().values() if p._differentiable}
    return sum(math.prod(p.shape) for p in learning.values())


def multiply_accumulates(net, shape):
    """Return the multiply-accumulates of convolutions, linear layers and matrix products for one input.

    :param net: HybridBlock with parameters of known shapes, one input.
    :param shape: of the input with its batch axis, e.g. (1, 3, 224, 224); the count is for all of the batch.

    Additions, activations, normalisation and pooling are left out, as is usual. Bias is left out too.
    """
    output = net(mx.sym.var('data'))
    internals = (mx.sym.Group(output) if isinstance(output, (list, tuple)) else output).get_internals()
    _, shapes, _ = internals.infer_shape(data=shape)
    shapes = dict(zip(internals.list_outputs(), shapes))
    graph = json.loads(internals.tojson())['nodes']

    def shape_of(node):
        name = graph[node]['name']
        return shapes[name if graph[node]['op'] == 'null' else f'{name}_output']

    total = 0
    for index, node in enumerate(graph):
        operands = [entry[0] for entry in node['inputs']]
        if node['op'] in ('Convolution', 'FullyConnected'):
            # Each value of the output is a product with one row of the weight (out, in / groups, height, width).
            total += math.prod(shape_of(index)) * math.prod(shape_of(operands[1])[1:])
        elif node['op'] == 'batch_dot':
            left = shape_of(operands[0])
            inner = left[1 if node.get('attrs', {}).get('transpose_a') == 'True' else 2]
            total += math.prod(shape_of(index)) * inner
    return total

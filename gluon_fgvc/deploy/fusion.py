"""Fewer, larger operators: an exported graph as oneDNN runs it best on CPUs.

MXNet can run a convolution with the BatchNorm, the activation and the sum that follow it as one operator of oneDNN.
Besides the arithmetic it saves the changes of layout between operators that oneDNN has and those that it has not,
above all ``clip``. Such a graph is for prediction only: its gradients are zero.

MXNet 1.9.1 fuses some graphs wrongly (pre-activation ResNets for CIFAR) and fails on others (most with
squeeze-excitation), so what comes out is compared before it is used.
"""
import json
import warnings

TOLERANCE = 5e-3  # of the largest output; far above rounding (more where TASN samples), far below wrong operators


class NotFused(Exception):
    """MXNet cannot fuse a graph, or the result computes something else; the message says which."""


def is_available(ctx):
    """Whether graphs on ``ctx`` can be fused: on CPUs, by an MXNet built with oneDNN."""
    import mxnet as mx
    return ctx.device_type == 'cpu' and mx.runtime.Features().is_enabled('MKLDNN')


def fuse(graph, name, images):
    """Return ``graph``, fused, after a comparison on ``images``.

    :param graph: SymbolBlock of one input and one output; its parameters are shared.
    :param name: of the input.
    :param images: input of any batch size; the fused graph takes others, and other image sizes where ``graph`` does.
    :returns: SymbolBlock whose outputs differ by rounding: some 1e-6 of the largest, 1e-4 where images are sampled by
        attention.
    :raises NotFused: ``graph`` can be used as before.
    """
    import mxnet as mx
    data = mx.sym.var(name)
    symbol = mx.sym.load_json(_without_needless_relu(graph(data).tojson()))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # the type of the input is left open
        fused = mx.gluon.SymbolBlock(symbol, data, params=graph.collect_params())
    expected = graph(images)
    try:
        fused.optimize_for(images, backend='MKLDNN', static_alloc=True, static_shape=True)
        found = fused(images)
        difference = (abs(found - expected).max() / abs(expected).max()).asscalar()
    except mx.MXNetError as error:
        raise NotFused(f'MXNet cannot: {str(error).splitlines()[0]}') from None
    if not difference <= TOLERANCE:
        raise NotFused(f'its outputs would be off by {difference:.2g} of the largest')
    return fused


def _without_needless_relu(text):
    """Return a graph (JSON) without each ReLU whose values a clip at 0 or above takes, which it does not change.

    ReLU6 has them (:mod:`gluon_fgvc.nn.relu6`), since training is faster with both; but only a clip by itself can be
    fused.
    """
    graph = json.loads(text)
    nodes = graph['nodes']
    for node in nodes:
        if node['op'] == 'clip' and float(node['attrs']['a_min']) >= 0:
            before = nodes[node['inputs'][0][0]]
            if before['op'] == 'Activation' and before['attrs']['act_type'] == 'relu':
                node['inputs'] = before['inputs']
    return json.dumps(graph)

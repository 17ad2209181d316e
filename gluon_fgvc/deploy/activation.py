"""Where an exported network looks: the class activation, of graphs in which it can be told.

An exported graph returns scores alone. Where all of them come from one map F through a global average, the graph is cut
there: the part before gives F, and the gradient of a score through the part behind gives the weight of each channel of
F, as in :func:`gluon_fgvc.nn.class_activation`.
"""
import json
import warnings

import numpy as np

_RESAMPLING = ('BilinearSampler', 'GridGenerator', 'SpatialTransformer')
_AS_IN_PREDICTION = {'BatchNorm': {'use_global_stats': 'True'}, 'Dropout': {'p': '0.0'}}
_BEHIND_SCORES = ('softmax', '_div_scalar')  # that by the temperature


class NoActivation(Exception):
    """The graph does not tell where it looks; the message says why."""


class ClassActivation:
    """Class activation of a graph.

    :param engine: a :class:`~gluon_fgvc.deploy.engines.MXNetEngine`, whose graph is the plain one.
    :param name: of the graph's input.
    :raises NoActivation: if places of the last map are not places of the image, or scores come from elsewhere as well.
    """

    def __init__(self, engine, name):
        import mxnet as mx
        self._mx, self._engine = mx, engine
        data, features = mx.sym.var(name), mx.sym.var('features')
        trunk, top = cut(engine.graph(data).tojson(), name)
        parameters = engine.graph.collect_params()
        parameters.setattr('grad_req', 'null')
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the type of the input is left open
            self._trunk = mx.gluon.SymbolBlock(mx.sym.load_json(trunk), data, params=parameters)
            self._top = mx.gluon.SymbolBlock(mx.sym.load_json(top), features, params=parameters)

    def __call__(self, pixels, classes=None):
        """Return what speaks for a class, where it lies: (N,h,w) float32, non-negative, h x w places of the image.

        :param pixels: uint8 (N,H,W,3).
        :param classes: (N,) class indices; None takes the class of the highest score.
        """
        mx = self._mx
        features = self._trunk(self._engine.array(pixels))
        features.attach_grad()
        with mx.autograd.record():
            scores = self._top(features)
            score = scores.max(axis=1) if classes is None else mx.nd.pick(scores, mx.nd.array(classes), axis=1)
        score.backward()
        weights = features.grad.sum(axis=(2, 3), keepdims=True)                   # (N,C,1,1)
        return np.maximum((features.detach() * weights).sum(axis=1).asnumpy(), 0)


def cut(text, name):
    """Return two graphs (JSON): input ``name`` → the map that is averaged, and 'features', that map → scores.

    :raises NoActivation: as :class:`ClassActivation` does.
    """
    graph = json.loads(text)
    nodes = graph['nodes']
    if any(node['op'] in _RESAMPLING for node in nodes):
        raise NoActivation('the network looks at the image resampled, and its graph does not return from where')
    pools = [node for node in nodes if node['op'] == 'Pooling' and node['attrs'].get('global_pool') == 'True'
             and node['attrs'].get('pool_type', 'max') == 'avg']
    if not pools:
        raise NoActivation('the network does not average a map')
    position, output, _ = pools[-1]['inputs'][0]
    head = graph['heads'][0]
    # Of the scores as the network gives them: the gradient of softmax fades where the class is certain.
    while nodes[head[0]]['op'] in _BEHIND_SCORES:
        head = nodes[head[0]]['inputs'][0]
    behind = [*nodes]
    behind[position] = {'op': 'null', 'name': 'features', 'inputs': []}
    if output or name in {behind[i]['name'] for i in _reached(behind, head[0])}:
        raise NoActivation('not all of the scores come from the map that is averaged last')
    return _part(nodes, [position, output, 0]), _part(behind, head)


def _reached(nodes, last):
    """Return the indices of the nodes that node ``last`` is computed from, in order, itself included."""
    found, waiting = set(), [last]
    while waiting:
        index = waiting.pop()
        if index not in found:
            found.add(index)
            waiting += [entry[0] for entry in nodes[index]['inputs']]
    return sorted(found)


def _part(nodes, head):
    """Return the graph (JSON) of what ``head`` is computed from, and nothing else; it predicts in training mode, too.

    Recorded outside training mode, gradients can be wrong (:func:`gluon_fgvc.nn.as_in_prediction`).
    """
    kept = _reached(nodes, head[0])
    number = {old: new for new, old in enumerate(kept)}
    part = [{**nodes[old], 'attrs': {**nodes[old].get('attrs', {}), **_AS_IN_PREDICTION.get(nodes[old]['op'], {})},
             'inputs': [[number[entry[0]], *entry[1:]] for entry in nodes[old]['inputs']]}
            for old in kept]
    return json.dumps({'nodes': part, 'arg_nodes': [i for i, node in enumerate(part) if node['op'] == 'null'],
                       'heads': [[number[head[0]], *head[1:]]], 'attrs': {'mxnet_version': ['int', 10901]}})

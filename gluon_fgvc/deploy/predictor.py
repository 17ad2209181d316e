"""Class probabilities of new images, from an exported model or from a network at hand.

An exported model is a folder of three files: ``model-symbol.json`` (the graph), ``model-0000.params``
(its parameters) and ``model.json``, which says how to prepare an image and what comes out, and holds
the sha256 of the other two. Reading one needs MXNet, not the code that built the network.
"""
import json
import os
import warnings

import mxnet as mx
import numpy as np
from mxnet.gluon import SymbolBlock

from gluon_fgvc.data import BrokenImage, EvalTransform, Picture
from gluon_fgvc.deploy import fusion
from gluon_fgvc.deploy.metadata import METADATA, PARAMETERS, SYMBOL, Metadata
from gluon_fgvc.errors import CheckpointError, DataError
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.nn import Normalize
from gluon_fgvc.nn.parameters import compile_net


class ImageClassifier:
    """Images in, class probabilities out.

    :param classes: names of the K classes.
    :param transform: uint8 RGB (H,W,3) → uint8 RGB, as for the test split.
    :param forward: NDArray uint8 (N,H,W,3) → NDArray (N,K), class probabilities.
    :param ctx: the device on which ``forward`` runs.
    :param batch_size: images that go through the network at once.
    """

    def __init__(self, classes, transform, forward, ctx=None, batch_size=32):
        self.classes, self.transform = tuple(classes), transform
        self.ctx, self.batch_size = ctx or mx.cpu(), batch_size
        self._forward = forward

    def predict_batch(self, images):
        """Return the probabilities, numpy float32 (N,K), of transformed images, numpy uint8 (N,H,W,3)."""
        return self._forward(mx.nd.array(images, ctx=self.ctx, dtype='uint8')).asnumpy()

    def load(self, path):
        """Return the image at ``path``, ready for :meth:`predict_batch`: uint8 RGB (H,W,3).

        :raises DataError: naming the path, if it cannot be read or is too small for the transform.
        """
        try:
            return self.transform(Picture(path), None)
        except BrokenImage:
            raise
        except DataError as error:
            raise DataError(f"cannot use image '{path}': {error}") from None

    def predict(self, inputs):
        """Return the probabilities, numpy float32 (N,K), of ``inputs``: paths or uint8 RGB arrays (H,W,3).

        :raises DataError: naming the path of an image that cannot be used.
        """
        images = (self.transform(value, None) if isinstance(value, np.ndarray) else self.load(value)
                  for value in inputs)
        found = dict(self.stream(enumerate(images)))
        return np.stack([found[i] for i in range(len(found))]) if found else np.zeros((0, len(self.classes)), 'float32')

    def stream(self, items):
        """Yield (key, probabilities (K,)) for each (key, image) of ``items``; images as :meth:`load` returns.

        Images are batched by their shape, so keys come back in another order. No more than four batches
        wait for company.
        """
        waiting = {}  # shape → [(key, image)]
        for key, image in items:
            waiting.setdefault(image.shape, []).append((key, image))
            if len(waiting[image.shape]) == self.batch_size:
                yield from self._predict_pairs(waiting.pop(image.shape))
            elif sum(map(len, waiting.values())) >= 4 * self.batch_size:
                yield from self._predict_pairs(waiting.pop(max(waiting, key=lambda shape: len(waiting[shape]))))
        for pairs in waiting.values():
            yield from self._predict_pairs(pairs)

    def _predict_pairs(self, pairs):
        keys, images = zip(*pairs)
        return zip(keys, self.predict_batch(np.stack(images)))


class Predictor(ImageClassifier):
    """An exported model, ready to classify.

    :param folder: what :func:`gluon_fgvc.deploy.export` wrote.
    :param fuse: on CPUs, run the graph with operators fused by oneDNN, see :mod:`gluon_fgvc.deploy.fusion`; where that
        cannot be, a warning says so and the graph runs as it was exported. Results differ by rounding.
    :raises CheckpointError: for a missing, truncated, altered or foreign file.

    ``metadata`` is its :class:`~gluon_fgvc.deploy.metadata.Metadata`.
    """

    def __init__(self, folder, ctx=None, batch_size=32, fuse=True):
        ctx = ctx or mx.cpu()
        self.metadata, graph = load_exported(folder, ctx)
        compile_net(graph)
        prepare = None
        if not self.metadata.takes_pixels:
            prepare = Normalize(self.metadata.mean, self.metadata.std)
            prepare.collect_params().reset_ctx(ctx)
            prepare.hybridize()
        if fuse and fusion.is_available(ctx):
            graph = self._fused(graph, prepare, ctx)

        def forward(images):
            output = graph(prepare(images) if prepare else images)
            return output if self.metadata.output == 'probabilities' else mx.nd.softmax(output)

        super().__init__(self.metadata.classes, EvalTransform(self.metadata.view), forward, ctx, batch_size)

    def _fused(self, graph, prepare, ctx):
        shape = (2, *self.metadata.size, 3)
        pixels = mx.nd.array(np.random.RandomState(0).randint(0, 256, shape), ctx=ctx, dtype='uint8')
        try:
            return fusion.fuse(graph, self.metadata.input_name, prepare(pixels) if prepare else pixels)
        except fusion.NotFused as reason:
            warnings.warn(f'the model runs as exported, not fused by oneDNN: {reason}', stacklevel=3)
            return graph


def load_exported(folder, ctx=None):
    """Return ``(metadata, block)`` of the exported model in ``folder``, checked before MXNet sees it.

    :returns: the :class:`~gluon_fgvc.deploy.metadata.Metadata` and a SymbolBlock with one input and one output.
    :raises CheckpointError: for a missing, truncated, altered or foreign file.
    """
    metadata = Metadata.read(folder)
    for name in (SYMBOL, PARAMETERS):
        path = os.path.join(folder, name)
        try:
            found = hash_of_file(path)
        except OSError as error:
            raise CheckpointError(f"exported model '{folder}': cannot read {name}: {error.strerror}; "
                                  'export the run again') from None
        if found != metadata.files[name]['sha256']:
            raise CheckpointError(f"'{path}' is truncated, altered or of another export: its sha256 is {found[:12]}…, "
                                  f"{METADATA} says {metadata.files[name]['sha256'][:12]}…; export the run again")
    symbol_path = os.path.join(folder, SYMBOL)
    with open(symbol_path, encoding='utf-8', errors='replace') as stream:  # what is no text is no graph either
        check_graph(stream.read(), symbol_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the type of the input is left open: uint8 and float both go
            block = SymbolBlock.imports(symbol_path, [metadata.input_name],
                                        os.path.join(folder, PARAMETERS), ctx=ctx or mx.cpu())
        name = metadata.input_name
        _, outputs, _ = block(mx.sym.var(name)).infer_shape(**{name: metadata.shape(1, *metadata.size)})
    except (mx.MXNetError, AssertionError, ValueError, OSError) as error:
        raise CheckpointError(f"exported model '{folder}': graph and parameters do not fit: "
                              f'{_last_line(error)}') from None
    if outputs != [(1, len(metadata.classes))]:
        raise CheckpointError(f"exported model '{folder}': {METADATA} names {len(metadata.classes)} classes, the "
                              f'graph returns {outputs} for one image; export the run again')
    return metadata, block


def operators(graph):
    """Yield (operator, node name, attributes) of every operator of a graph (dict), control flow included."""
    for node in graph['nodes']:
        if node['op'] != 'null':
            yield node['op'], node['name'], node.get('attrs', {})
        for inner in node.get('subgraphs', ()):
            yield from operators(inner)


def check_graph(text, place):
    """Raise CheckpointError unless ``text`` is a symbol JSON that MXNet can be handed.

    MXNet 1.9.1 trusts the indices in it: one out of range writes outside its memory or ends the process.
    """
    try:
        graph = json.loads(text)
        _check_indices(graph)
        _check_outputs(graph)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, mx.MXNetError) as error:
        raise CheckpointError(f"'{place}' is not a valid MXNet graph: {_last_line(error)}") from None


def _check_indices(graph):
    """Node indices: every input lies before the node that uses it, every variable is an operator 'null'."""
    nodes = graph['nodes']
    for position, node in enumerate(nodes):
        for entry in node['inputs']:
            _check_entry(entry, position, f"input of node '{node['name']}'")
        if node['op'] == 'null' and node['inputs']:
            raise ValueError(f"variable '{node['name']}' has inputs")
        for inner in node.get('subgraphs', ()):
            _check_indices(inner)
            _check_outputs(inner)
    for entry in graph['heads']:
        _check_entry(entry, len(nodes), 'output')
    variables = [position for position, node in enumerate(nodes) if node['op'] == 'null']
    if graph['arg_nodes'] != variables or not graph['heads']:
        raise ValueError('arg_nodes does not list the variables, or there is no output')


def _check_entry(entry, below, where):
    if not (isinstance(entry, list) and len(entry) in (2, 3) and all(type(i) is int and i >= 0 for i in entry)
            and entry[0] < below):
        raise ValueError(f'{where}: {entry} points outside the graph')


def _check_outputs(graph):
    """Output indices: below the number of outputs that MXNet gives the operator.

    The number comes from a copy of the graph in which every output index is 0, the one index that is
    always valid.
    """
    def first(entries):
        return [[entry[0], 0, *entry[2:]] for entry in entries]

    nodes = [{**node, 'name': str(i), 'inputs': first(node['inputs'])} for i, node in enumerate(graph['nodes'])]
    safe = {key: value for key, value in graph.items() if key != 'node_row_ptr'}
    # All nodes as heads, or those that the output does not reach would not be counted.
    safe.update(nodes=nodes, heads=[[i, 0, 0] for i in range(len(nodes))])
    outputs = [0] * len(nodes)
    for entry in mx.sym.load_json(json.dumps(safe)).get_internals():
        outputs[int(entry.name)] += 1
    for entry in [entry for node in graph['nodes'] for entry in node['inputs']] + graph['heads']:
        if entry[1] >= outputs[entry[0]]:
            raise ValueError(f"{entry}: node '{graph['nodes'][entry[0]]['name']}' has {outputs[entry[0]]} outputs")


def _last_line(error):
    """The line of an MXNetError that says what was wrong; those before it are where."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1]

"""The files of an exported model, checked before anything else reads them.

MXNet is imported where it is needed: a model can also be run without it.
"""
import json
import os
import warnings

from gluon_fgvc.deploy.metadata import METADATA, PARAMETERS, SYMBOL, Metadata
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import hash_of_file


def check_files(folder, metadata, names):
    """Raise CheckpointError unless the files ``names`` of an exported model are those that ``metadata`` tells of."""
    for name in names:
        path = os.path.join(folder, name)
        try:
            found = hash_of_file(path)
        except OSError as error:
            raise CheckpointError(f"exported model '{folder}': cannot read {name}: {error.strerror}; "
                                  'export the run again') from None
        if found != metadata.files[name]['sha256']:
            raise CheckpointError(f"'{path}' is truncated, altered or of another export: its sha256 is {found[:12]}…, "
                                  f"{METADATA} says {metadata.files[name]['sha256'][:12]}…; export the run again")


def load_exported(folder, ctx=None):
    """Return ``(metadata, block)`` of the exported model in ``folder``, checked before MXNet sees it.

    :returns: the :class:`~gluon_fgvc.deploy.metadata.Metadata` and a SymbolBlock with one input and one output.
    :raises CheckpointError: for a missing, truncated, altered or foreign file.
    """
    import mxnet as mx
    metadata = Metadata.read(folder)
    check_files(folder, metadata, (SYMBOL, PARAMETERS))
    symbol_path = os.path.join(folder, SYMBOL)
    with open(symbol_path, encoding='utf-8', errors='replace') as stream:  # what is no text is no graph either
        check_graph(stream.read(), symbol_path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # the type of the input is left open: uint8 and float both go
            block = mx.gluon.SymbolBlock.imports(symbol_path, [metadata.input_name],
                                                 os.path.join(folder, PARAMETERS), ctx=ctx or mx.cpu())
        name = metadata.input_name
        shapes = {parameter.name: parameter.list_data()[0].shape for parameter in block.collect_params().values()}
        _, outputs, _ = block(mx.sym.var(name)).infer_shape(**{**shapes, name: metadata.shape(1, *metadata.size)})
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
    import mxnet as mx
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

    import mxnet as mx
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

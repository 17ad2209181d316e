"""Operators that move, cut, join, repeat or count.

Where a shape is known it becomes a constant; where it depends on the images it is computed at run time.
"""
import numpy as np
import onnx

from gluon_fgvc.deploy.onnx.registry import table, translates

_LAST = np.iinfo('int64').max  # beyond any end


@translates('Flatten', 'flatten')
def _flatten(graph, node):
    return graph.add('Flatten', node.inputs[0], name=node.name, axis=1)


@translates('Reshape', 'reshape')
def _reshape(graph, node):
    """The result's shape is MXNet's; its codes 0, -1, -2, -3, -4 matter only if two axes or more are free."""
    shape = list(node.out_shapes[0])
    if shape.count(None) <= 1:
        return _reshaped(graph, node, [-1 if size is None else size for size in shape])
    if node.get('reverse', False):
        raise NotImplementedError('reverse, where two axes or more are free')
    origins = _origins(node.get('shape'), len(node.shapes[0]))
    free = [i for i, size in enumerate(shape) if size is None]
    inferred = next((i for i in free if origins[i] is None), free[-1])
    pieces = []
    for i, size in enumerate(shape):
        if i == inferred:
            pieces.append(graph.integers([-1], node.name))
        elif size is not None:
            pieces.append(graph.integers([size], node.name))
        else:
            pieces.append(_size(graph, node, *origins[i]))
    return graph.add('Reshape', node.inputs[0], graph.add('Concat', *pieces, name=f'{node.name}.shape', axis=0),
                     name=node.name)


def _origins(codes, rank):
    """Return for each axis of the result (axes of the input, divisor), or None where it is inferred.

    Its size is the product of those axes, divided.
    """
    origins, at, codes = [], 0, list(codes)
    while codes:
        code = codes.pop(0)
        if code == -2:
            origins += [((axis,), 1) for axis in range(at, rank)]
            at = rank
        elif code == -3:
            origins.append(((at, at + 1), 1))
            at += 2
        elif code == -4:
            first, second = codes.pop(0), codes.pop(0)
            origins += [((at,), other) if own == -1 else ((), own) for own, other in ((first, second), (second, first))]
            at += 1
        else:
            origins.append(None if code == -1 else ((at,), 1))
            at += 1
    return origins


def _size(graph, node, axes, divisor):
    sizes = [graph.dimension(node.inputs[0], axis, node.name) for axis in axes]
    size = sizes[0]
    for other in sizes[1:]:
        size = graph.add('Mul', size, other, name=f'{node.name}.product')
    return size if divisor == 1 else graph.add('Div', size, graph.integers([divisor], node.name),
                                               name=f'{node.name}.quotient')


def _reshaped(graph, node, shape):
    return graph.add('Reshape', node.inputs[0], graph.integers(shape, node.name), name=node.name)


@translates('reshape_like')
def _reshape_like(graph, node):
    if any(node.get(key) is not None for key in ('lhs_begin', 'lhs_end', 'rhs_begin', 'rhs_end')):
        raise NotImplementedError('a part of the axes')
    return graph.add('Reshape', node.inputs[0], graph.add('Shape', node.inputs[1], name=f'{node.name}.shape'),
                     name=node.name)


@translates('expand_dims')
def _expand_dims(graph, node):
    axis = node.axis('axis', None, rank=len(node.out_shapes[0]))
    return graph.add('Unsqueeze', node.inputs[0], graph.integers([axis], node.name), name=node.name)


@translates('squeeze')
def _squeeze(graph, node):
    axes = node.get('axis')
    if axes is None:
        axes = [axis for axis, size in enumerate(node.shapes[0]) if size == 1]
    axes = [axis % len(node.shapes[0]) for axis in ([axes] if isinstance(axes, int) else axes)]
    return graph.add('Squeeze', node.inputs[0], graph.integers(axes, node.name), name=node.name)


@translates('transpose')
def _transpose(graph, node):
    axes = node.get('axes') or range(len(node.shapes[0]))[::-1]
    return graph.add('Transpose', node.inputs[0], name=node.name, perm=list(axes))


@translates('SwapAxis', 'swapaxes')
def _swap(graph, node):
    order = list(range(len(node.shapes[0])))
    one, two = node.axis('dim1', 0), node.axis('dim2', 0)
    order[one], order[two] = order[two], order[one]
    return graph.add('Transpose', node.inputs[0], name=node.name, perm=order)


@translates('Concat', 'concat')
def _concat(graph, node):
    return graph.add('Concat', *node.inputs, name=node.name, axis=node.axis('dim', 1))


@translates('stack')
def _stack(graph, node):
    axis = node.axis('axis', 0, rank=len(node.out_shapes[0]))
    parts = [graph.add('Unsqueeze', value, graph.integers([axis], node.name), name=f'{node.name}.part{i}')
             for i, value in enumerate(node.inputs)]
    return graph.add('Concat', *parts, name=node.name, axis=axis)


@translates('SliceChannel', 'split')
def _split(graph, node):
    axis, count = node.axis('axis', 1), node.get('num_outputs')
    parts = graph.add('Split', node.inputs[0], name=f'{node.name}.parts', outputs=count, axis=axis)
    parts = [parts] if isinstance(parts, str) else parts
    if not node.get('squeeze_axis', False):
        return parts
    return [graph.add('Squeeze', part, graph.integers([axis], node.name), name=node.name) for part in parts]


@translates('slice_axis')
def _slice_axis(graph, node):
    return _cut(graph, node, [node.axis('axis', 0)], [node.get('begin')], [node.get('end')], [1])


@translates('slice')
def _slice(graph, node):
    begins, ends = node.get('begin'), node.get('end')
    steps = node.get('step') or [None] * len(begins)
    return _cut(graph, node, range(len(begins)), begins, ends, [step or 1 for step in steps])


def _cut(graph, node, axes, begins, ends, steps):
    """None is the beginning or the end, whichever way the step goes."""
    begins = [(0 if step > 0 else _LAST) if begin is None else begin for begin, step in zip(begins, steps)]
    ends = [(_LAST if step > 0 else -_LAST) if end is None else end for end, step in zip(ends, steps)]
    limits = [graph.integers(part, node.name) for part in (begins, ends, axes, steps)]
    return graph.add('Slice', node.inputs[0], *limits, name=node.name)


@translates('Pad', 'pad')
def _pad(graph, node):
    widths, mode = node.get('pad_width'), node.get('mode', 'constant')
    inputs = [node.inputs[0], graph.integers([*widths[0::2], *widths[1::2]], node.name)]
    if mode == 'constant':
        inputs.append(graph.constant(float(node.get('constant_value', 0.0)), f'{node.name}.value'))
    return graph.add('Pad', *inputs, name=node.name, mode=mode)


@translates('broadcast_axis', 'broadcast_axes')
def _broadcast_axis(graph, node):
    axes, sizes = ((value,) if isinstance(value, int) else value for value in (node.get('axis'), node.get('size')))
    shape = [1] * len(node.shapes[0])
    for axis, size in zip(axes, sizes):
        shape[axis] = size
    return graph.add('Expand', node.inputs[0], graph.integers(shape, node.name), name=node.name)


@translates('broadcast_to')
def _broadcast_to(graph, node):
    shape = [size or 1 for size in node.get('shape')]  # 0 keeps an axis, and so does 1 in ONNX
    return graph.add('Expand', node.inputs[0], graph.integers(shape, node.name), name=node.name)


@translates('broadcast_like')
def _broadcast_like(graph, node):
    rank = len(node.shapes[0])
    own, others = node.get('lhs_axes'), node.get('rhs_axes')
    own, others = (range(rank), range(rank)) if own is None else (own, others)
    pairs = {axis % rank: other % len(node.shapes[1]) for axis, other in zip(own, others)}
    pieces = [graph.dimension(node.inputs[1], pairs[axis], node.name) if axis in pairs else
              graph.integers([1], node.name) for axis in range(rank)]
    return graph.add('Expand', node.inputs[0], graph.add('Concat', *pieces, name=f'{node.name}.shape', axis=0),
                     name=node.name)


def _filled(graph, node, value):
    value = onnx.numpy_helper.from_array(np.array([value], 'float32'))
    return graph.add('ConstantOfShape', graph.add('Shape', node.inputs[0], name=f'{node.name}.shape'), name=node.name,
                     value=value)


table(_filled, ones_like=1.0, zeros_like=0.0)


@translates('_arange')
def _arange(graph, node):
    start, stop = float(node.get('start', 0)), node.get('stop')
    start, stop = (0.0, start) if stop is None else (start, float(stop))
    numbers = np.repeat(np.arange(start, stop, float(node.get('step', 1.0))), node.get('repeat', 1))
    return graph.constant(numbers, node.name)


@translates('_contrib_arange_like')
def _arange_like(graph, node):
    axis = node.get('axis')
    if axis is None or node.get('repeat', 1) != 1:
        raise NotImplementedError('all axes, or repeated numbers')
    axis = axis % len(node.shapes[0])
    start, step, count = float(node.get('start', 0.0)), float(node.get('step', 1.0)), node.shapes[0][axis]
    if count is not None:
        return graph.constant(start + step * np.arange(count), node.name)
    numbers = counted(graph, graph.dimension(node.inputs[0], axis, node.name), node.name)
    if step != 1:
        numbers = graph.add('Mul', numbers, graph.constant(step, f'{node.name}.step'), name=f'{node.name}.steps')
    return graph.add('Add', numbers, graph.constant(start, f'{node.name}.start'), name=node.name) if start else numbers


def counted(graph, size, name):
    """Return 0, 1, …, size - 1 as float32; ``size`` is a value of one int64."""
    last = graph.add('Squeeze', size, name=f'{name}.count')
    zero, one = (graph.constant(number, f'{name}.number', 'int64') for number in (0, 1))
    return graph.add('Cast', graph.add('Range', zero, last, one, name=f'{name}.range'), name=f'{name}.numbers',
                     to=onnx.TensorProto.FLOAT)


@translates('_linalg_extracttrian')
def _triangle(graph, node):
    """The lower triangle of the last two axes row by row, or the upper one column by column."""
    size, offset = node.shapes[0][-1], node.get('offset', 0)
    # Above the diagonal (offset > 0) it is an upper triangle and below a lower one, whatever is asked for.
    lower = offset < 0 or offset == 0 and node.get('lower', True)
    rows, columns = np.tril_indices(size, offset) if lower else np.tril_indices(size, -offset)[::-1]
    flat = graph.add('Reshape', node.inputs[0], graph.integers([*[0] * (len(node.shapes[0]) - 2), -1], node.name),
                     name=f'{node.name}.flat')
    return graph.add('Gather', flat, graph.integers(rows * size + columns, node.name), name=node.name, axis=-1)

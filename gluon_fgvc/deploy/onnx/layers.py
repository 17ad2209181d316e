"""Operators with weights, windows or samples: convolutions, BatchNorm, pooling, resizing, spatial transformers."""
import numpy as np

from gluon_fgvc.deploy.onnx.registry import translates
from gluon_fgvc.deploy.onnx.shapes import counted


@translates('Convolution')
def _convolution(graph, node):
    kernel = node.get('kernel')
    if node.get('layout') not in (None, 'None', 'NCW', 'NCHW', 'NCDHW'):
        raise NotImplementedError(f"layout {node.get('layout')}")
    ones = (1,) * len(kernel)
    return graph.add('Conv', *node.inputs, name=node.name, kernel_shape=kernel, strides=node.get('stride') or ones,
                     dilations=node.get('dilate') or ones, pads=(node.get('pad') or (0,) * len(kernel)) * 2,
                     group=node.get('num_group', 1))


@translates('FullyConnected')
def _fully_connected(graph, node):
    value, *rest = node.inputs
    rank = len(node.shapes[0])
    if node.get('flatten', True) or rank == 2:
        value = value if rank == 2 else graph.add('Flatten', value, name=f'{node.name}.flat', axis=1)
        return graph.add('Gemm', value, *rest, name=node.name, transB=1)
    weight = graph.add('Transpose', rest[0], name=f'{node.name}.transposed', perm=(1, 0))
    if len(rest) == 1:
        return graph.add('MatMul', value, weight, name=node.name)
    return graph.add('Add', graph.add('MatMul', value, weight, name=f'{node.name}.product'), rest[1], name=node.name)


@translates('BatchNorm')
def _batch_norm(graph, node):
    """Folded into the convolution or dense layer before it, where nothing else looks at that layer's output."""
    if node.axis('axis', 1) != 1:
        raise NotImplementedError('another axis than the second')
    value, *names = node.inputs
    gamma, beta, mean, variance = (graph.arrays[name].astype('float64') for name in names)
    if node.get('fix_gamma', True):
        gamma = np.ones_like(gamma)
    scale = gamma / np.sqrt(variance + float(node.get('eps', 1e-3)))
    shift = beta - mean * scale
    before = graph.producer(value, 'Conv') or graph.producer(value, 'Gemm')
    if before is not None and all(name in graph.arrays for name in before.input[1:]):
        _fold(graph, before, scale, shift, node.name)
        return value
    constants = (graph.constant(array, f'{node.name}.{name}') for array, name in (
        (scale, 'scale'), (shift, 'shift'), (np.zeros_like(scale), 'mean'), (np.ones_like(scale), 'variance')))
    return graph.add('BatchNormalization', value, *constants, name=node.name, epsilon=0.0)


def _fold(graph, layer, scale, shift, name):
    weight = graph.arrays[layer.input[1]].astype('float64')
    bias = graph.arrays[layer.input[2]] if len(layer.input) > 2 else 0.0
    data = layer.input[0]
    del layer.input[:]
    layer.input.extend([
        data, graph.constant(weight * scale.reshape((-1,) + (1,) * (weight.ndim - 1)), f'{name}.folded_weight'),
        graph.constant(bias * scale + shift, f'{name}.folded_bias')])


@translates('Pooling')
def _pooling(graph, node):
    kind, convention = node.get('pool_type', 'max'), node.get('pooling_convention', 'valid')
    operator = {'max': 'MaxPool', 'avg': 'AveragePool'}.get(kind)
    if operator is None or node.get('layout') not in (None, 'None', 'NCW', 'NCHW', 'NCDHW'):
        raise NotImplementedError(f"pool_type '{kind}', layout {node.get('layout')}")
    if node.get('global_pool', False):
        return graph.add(f'Global{operator}', node.inputs[0], name=node.name)
    if convention not in ('valid', 'full'):
        raise NotImplementedError(f"pooling_convention '{convention}'")
    kernel = node.get('kernel')
    strides, pads = node.get('stride') or (1,) * len(kernel), node.get('pad') or (0,) * len(kernel)
    value, extra = node.inputs[0], {}
    if kind == 'avg' and any(pads) and node.get('count_include_pad', True):
        # The padding counts, but not what 'full' adds behind it: so the padding becomes part of the map.
        value = graph.add('Pad', value, graph.integers([0, 0, *pads] * 2, node.name), name=f'{node.name}.padded')
        pads = (0,) * len(kernel)
    if kind == 'avg':
        extra['count_include_pad'] = 0
    return graph.add(operator, value, name=node.name, kernel_shape=kernel, strides=strides, pads=pads * 2,
                     ceil_mode=int(convention == 'full'), **extra)


@translates('_contrib_AdaptiveAvgPooling2D')
def _adaptive_pooling(graph, node):
    """Cell i of o averages places ⌊i·H/o⌋ to ⌈(i+1)·H/o⌉, so that it is two products with matrices."""
    size = node.get('output_size') or 1
    size = (size,) if isinstance(size, int) else size
    rows, columns = size * 2 if len(size) == 1 else size
    if (rows, columns) == (1, 1):
        return graph.add('GlobalAveragePool', node.inputs[0], name=node.name)
    over_rows, over_columns = (_cells(graph, node, axis, cells) for axis, cells in ((2, rows), (3, columns)))
    pooled = graph.add('MatMul', over_rows, node.inputs[0], name=f'{node.name}.rows')         # (N,C,o,W)
    transposed = graph.add('Transpose', over_columns, name=f'{node.name}.transposed', perm=(1, 0))
    return graph.add('MatMul', pooled, transposed, name=node.name)


def _cells(graph, node, axis, cells):
    """Return (cells, places): the weight of each place along ``axis`` in the mean of each cell."""
    places, name = node.shapes[0][axis], node.name
    if places is not None:
        ends = np.arange(cells + 1) * places
        starts, ends = ends[:-1] // cells, -(-ends[1:] // cells)
        inside = (np.arange(places) >= starts[:, None]) & (np.arange(places) < ends[:, None])
        return graph.constant(inside / (ends - starts)[:, None], f'{name}.cells')
    # The same at run time, in whole numbers.
    count = graph.dimension(node.inputs[0], axis, name)
    steps = graph.constant(np.arange(cells)[:, None], f'{name}.steps', 'int64')
    divisor = graph.integers([cells], name)
    starts = graph.add('Div', graph.add('Mul', steps, count, name=f'{name}.up'), divisor, name=f'{name}.starts')
    following = graph.constant(np.arange(1, cells + 1)[:, None], f'{name}.following', 'int64')
    raised = graph.add('Add', graph.add('Mul', following, count, name=f'{name}.up'),
                       graph.integers([cells - 1], name), name=f'{name}.raised')
    ends = graph.add('Div', raised, divisor, name=f'{name}.ends')
    numbers = graph.add('Cast', counted(graph, count, name), name=f'{name}.places', to=7)  # int64
    inside = graph.add('And', graph.add('GreaterOrEqual', numbers, starts, name=f'{name}.from'),
                       graph.add('Less', numbers, ends, name=f'{name}.to'), name=f'{name}.inside')
    width = graph.add('Cast', graph.add('Sub', ends, starts, name=f'{name}.width'), name=f'{name}.widths', to=1)
    return graph.add('Div', graph.add('Cast', inside, name=f'{name}.mask', to=1), width, name=f'{name}.cells')


@translates('_contrib_BilinearResize2D')
def _resize(graph, node):
    height, width = node.out_shapes[0][2:]
    if node.get('mode', 'size') != 'size' or height is None or width is None:
        raise NotImplementedError('a size that depends on that of the images')
    kept = graph.add('Shape', node.inputs[0], name=f'{node.name}.kept', start=0, end=2)
    sizes = graph.add('Concat', kept, graph.integers([height, width], node.name), name=f'{node.name}.sizes', axis=0)
    how = 'align_corners' if node.get('align_corners', True) else 'half_pixel'
    return graph.add('Resize', node.inputs[0], '', '', sizes, name=node.name, mode='linear',
                     coordinate_transformation_mode=how)


@translates('BilinearSampler')
def _sampler(graph, node):
    """-1 and 1 are the centres of the outermost pixels; beyond the image it is 0."""
    places = graph.add('Transpose', node.inputs[1], name=f'{node.name}.places', perm=(0, 2, 3, 1))  # (N,H,W,2)
    return graph.add('GridSample', node.inputs[0], places, name=node.name, mode='bilinear', padding_mode='zeros',
                     align_corners=1)


@translates('GridGenerator')
def _grid(graph, node):
    """Of six numbers an image ('affine') or of a flow in pixels ('warp'), where to look: (N,2,H,W), x before y."""
    name = node.name
    if node.get('transform_type') == 'affine':
        height, width = node.get('target_shape')
        y, x = np.meshgrid(_centres(height), _centres(width), indexing='ij')
        places = graph.constant(np.stack([x.ravel(), y.ravel(), np.ones(x.size)]), f'{name}.places')  # (3,H·W)
        theta = graph.add('Reshape', node.inputs[0], graph.integers([-1, 2, 3], name), name=f'{name}.theta')
        flat = graph.add('MatMul', theta, places, name=f'{name}.flat')
        return graph.add('Reshape', flat, graph.integers([0, 2, height, width], name), name=name)
    height, width = node.shapes[0][2:]
    if height is None or width is None:
        raise NotImplementedError('a flow whose size depends on that of the images')
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing='ij')
    pixels = graph.constant(np.stack([x, y])[None], f'{name}.pixels')
    halves = np.array([max(width - 1, 1), max(height - 1, 1)]).reshape((1, 2, 1, 1)) / 2
    moved = graph.add('Add', node.inputs[0], pixels, name=f'{name}.moved')
    scaled = graph.add('Div', moved, graph.constant(halves, f'{name}.halves'), name=f'{name}.scaled')
    return graph.add('Sub', scaled, graph.constant(1.0, f'{name}.one'), name=name)


def _centres(pixels):
    return np.linspace(-1, 1, pixels)

"""Operators that compute element by element, along axes, or as products of matrices."""
import math

import onnx

from gluon_fgvc.deploy.onnx.registry import table, translates


def _plain(graph, node, operator):
    return graph.add(operator, *node.inputs, name=node.name)


table(_plain, abs='Abs', ceil='Ceil', floor='Floor', exp='Exp', log='Log', sqrt='Sqrt', erf='Erf', sigmoid='Sigmoid',
      tanh='Tanh', relu='Relu', negative='Neg', reciprocal='Reciprocal', sign='Sign', softsign='Softsign',
      elemwise_add='Add', elemwise_sub='Sub', elemwise_mul='Mul', elemwise_div='Div',
      broadcast_add='Add', broadcast_plus='Add', broadcast_sub='Sub', broadcast_minus='Sub', broadcast_mul='Mul',
      broadcast_div='Div', broadcast_power='Pow', broadcast_maximum='Max', broadcast_minimum='Min',
      _plus='Add', _sub='Sub', _mul='Mul', _div='Div', _maximum='Max', _minimum='Min', add_n='Sum')


def _with_scalar(graph, node, operator):
    return graph.add(operator, node.inputs[0], _scalar(graph, node), name=node.name)


def _scalar_first(graph, node, operator):
    return graph.add(operator, _scalar(graph, node), node.inputs[0], name=node.name)


def _scalar(graph, node):
    return graph.constant(float(node.get('scalar', 1.0)), f'{node.name}.scalar')


table(_with_scalar, _plus_scalar='Add', _minus_scalar='Sub', _mul_scalar='Mul', _div_scalar='Div', _power_scalar='Pow',
      _maximum_scalar='Max', _minimum_scalar='Min')
table(_scalar_first, _rminus_scalar='Sub', _rdiv_scalar='Div', _rpower_scalar='Pow')


def _comparison(graph, node, operator):
    """0 or 1 as float, as MXNet has it."""
    other = node.inputs[1] if len(node.inputs) > 1 else _scalar(graph, node)
    return graph.add('Cast', graph.add(operator, node.inputs[0], other, name=f'{node.name}.holds'), name=node.name,
                     to=onnx.TensorProto.FLOAT)


table(_comparison, broadcast_greater='Greater', broadcast_greater_equal='GreaterOrEqual', broadcast_lesser='Less',
      broadcast_lesser_equal='LessOrEqual', broadcast_equal='Equal', _greater_scalar='Greater',
      _greater_equal_scalar='GreaterOrEqual', _lesser_scalar='Less', _lesser_equal_scalar='LessOrEqual',
      _equal_scalar='Equal')


@translates('square', 'rsqrt')
def _powers(graph, node):
    if node.operator == 'square':
        return graph.add('Mul', node.inputs[0], node.inputs[0], name=node.name)
    return graph.add('Reciprocal', graph.add('Sqrt', node.inputs[0], name=f'{node.name}.root'), name=node.name)


@translates('clip')
def _clip(graph, node):
    low, high = float(node.get('a_min')), float(node.get('a_max'))
    value = node.inputs[0]
    # Training is faster with a ReLU before it (EfficientNet-Lite), which changes nothing; runtimes fuse one of them.
    before = graph.producer(value, 'Relu') if low >= 0 else None
    return graph.add('Clip', before.input[0] if before else value, graph.constant(low, f'{node.name}.low'),
                     graph.constant(high, f'{node.name}.high'), name=node.name)


@translates('Cast', 'cast')
def _cast(graph, node):
    types = {'float32': onnx.TensorProto.FLOAT, 'int32': onnx.TensorProto.INT32, 'uint8': onnx.TensorProto.UINT8,
             'int64': onnx.TensorProto.INT64}
    if node.get('dtype') not in types:
        raise NotImplementedError(f"type {node.get('dtype')}")
    return graph.add('Cast', node.inputs[0], name=node.name, to=types[node.get('dtype')])


@translates('BlockGrad', '_copy', 'Dropout', 'identity', 'stop_gradient', 'amp_cast')
def _same(graph, node):
    """In prediction these hand their input on."""
    return node.inputs[0]


@translates('Activation')
def _activation(graph, node):
    operators = {'relu': 'Relu', 'sigmoid': 'Sigmoid', 'tanh': 'Tanh', 'softrelu': 'Softplus', 'softsign': 'Softsign'}
    return _plain(graph, node, operators[node.get('act_type')])


@translates('LeakyReLU')
def _leaky_relu(graph, node):
    kind, slope = node.get('act_type', 'leaky'), float(node.get('slope', 0.25))
    if kind == 'elu':
        return graph.add('Elu', node.inputs[0], name=node.name, alpha=slope)
    if kind == 'leaky':
        return graph.add('LeakyRelu', node.inputs[0], name=node.name, alpha=slope)
    if kind == 'gelu':  # x · (1 + erf(x / √2)) / 2
        x = node.inputs[0]
        scaled = graph.add('Mul', x, graph.constant(math.sqrt(0.5), f'{node.name}.root'), name=f'{node.name}.scaled')
        gate = graph.add('Add', graph.add('Erf', scaled, name=f'{node.name}.erf'),
                         graph.constant(1.0, f'{node.name}.one'), name=f'{node.name}.gate')
        half = graph.add('Mul', x, graph.constant(0.5, f'{node.name}.half'), name=f'{node.name}.halved')
        return graph.add('Mul', half, gate, name=node.name)
    raise NotImplementedError(f"act_type '{kind}'")


@translates('hard_sigmoid')
def _hard_sigmoid(graph, node):
    return graph.add('HardSigmoid', node.inputs[0], name=node.name, alpha=float(node.get('alpha', 0.2)),
                     beta=float(node.get('beta', 0.5)))


@translates('softmax', 'log_softmax')
def _softmax(graph, node):
    if node.get('temperature') not in (None, 1.0) or node.get('use_length'):
        raise NotImplementedError('temperature or lengths')
    operator = 'Softmax' if node.operator == 'softmax' else 'LogSoftmax'
    return graph.add(operator, node.inputs[0], name=node.name, axis=node.axis('axis', -1))


def _reduction(graph, node, operator):
    rank = len(node.shapes[0])
    axes = node.get('axis')
    axes = range(rank) if axes in (None, ()) else [axes] if isinstance(axes, int) else axes
    axes = sorted(axis % rank for axis in axes)
    if node.get('exclude', False):
        axes = [axis for axis in range(rank) if axis not in axes]
    keep = bool(node.get('keepdims', False))
    # Of all axes MXNet makes an array of one element, ONNX one without axes.
    scalar = len(axes) == rank and not keep
    name = f'{node.name}.all' if scalar else node.name
    if operator == 'ReduceSum':  # the one that takes its axes as an input in this opset
        value = graph.add(operator, node.inputs[0], graph.integers(axes, node.name), name=name, keepdims=int(keep))
    else:
        value = graph.add(operator, node.inputs[0], name=name, axes=axes, keepdims=int(keep))
    return graph.add('Reshape', value, graph.integers([1], node.name), name=node.name) if scalar else value


table(_reduction, sum='ReduceSum', sum_axis='ReduceSum', mean='ReduceMean', max='ReduceMax', max_axis='ReduceMax',
      min='ReduceMin', min_axis='ReduceMin', prod='ReduceProd')


@translates('_np_cumsum', 'cumsum')
def _cumsum(graph, node):
    if node.get('axis') is None:
        raise NotImplementedError('a sum over all axes')
    axis = graph.constant(node.axis('axis', None), f'{node.name}.axis', 'int64')
    return graph.add('CumSum', node.inputs[0], axis, name=node.name)


@translates('batch_dot', '_linalg_gemm2', 'dot')
def _product(graph, node):
    if node.operator == 'dot' and {len(shape) for shape in node.shapes} != {2}:
        raise NotImplementedError(f'arrays of {[len(shape) for shape in node.shapes]} axes')
    factors = [_transposed(graph, node, i) if node.get(key, False) else node.inputs[i]
               for i, key in enumerate(('transpose_a', 'transpose_b'))]
    alpha = float(node.get('alpha', 1.0))
    if alpha == 1:
        return graph.add('MatMul', *factors, name=node.name)
    product = graph.add('MatMul', *factors, name=f'{node.name}.product')
    return graph.add('Mul', product, graph.constant(alpha, f'{node.name}.alpha'), name=node.name)


def _transposed(graph, node, i):
    rank = len(node.shapes[i])
    return graph.add('Transpose', node.inputs[i], name=f'{node.name}.transposed{i}',
                     perm=[*range(rank - 2), rank - 1, rank - 2])


@translates('L2Normalization')
def _l2_normalization(graph, node):
    """x / √(Σ x² + ε): over all but the batch ('instance'), channels ('channel') or places ('spatial')."""
    rank = len(node.shapes[0])
    axes = {'instance': range(1, rank), 'channel': [1], 'spatial': range(2, rank)}[node.get('mode', 'instance')]
    x, name = node.inputs[0], node.name
    squares = graph.add('ReduceSum', graph.add('Mul', x, x, name=f'{name}.squares'), graph.integers(axes, name),
                        name=f'{name}.sum', keepdims=1)
    offset = graph.add('Add', squares, graph.constant(float(node.get('eps', 1e-10)), f'{name}.eps'), name=f'{name}.add')
    return graph.add('Div', x, graph.add('Sqrt', offset, name=f'{name}.norm'), name=name)

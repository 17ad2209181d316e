"""Every operator's translation against MXNet, on random numbers and at the edges of its settings."""
import itertools

import mxnet as mx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gluon_fgvc.deploy.onnx.registry import TRANSLATIONS
from gluon_fgvc.errors import CheckFailed
from tests.deploy.onnx_check import compare, operators, translated

DATA = mx.sym.var('data')
few = settings(max_examples=30)
sides = st.integers(5, 12)


def numbers(*shape, seed=0, low=None):
    values = np.random.RandomState(seed).normal(size=shape).astype('float32')
    return values if low is None else np.abs(values) + np.float32(low)


def of_shapes(*axes):
    return st.tuples(*[st.integers(1, 5)] * len(axes))


@pytest.mark.parametrize('name', ['abs', 'ceil', 'floor', 'exp', 'erf', 'sigmoid', 'tanh', 'relu', 'square', 'negative',
                                  'sign', 'softsign', 'identity', 'BlockGrad', 'ones_like', 'zeros_like',
                                  'hard_sigmoid'])
def test_one_array(name):
    compare(getattr(mx.sym, name)(DATA), {'data': numbers(3, 4, 5) * 3})


@pytest.mark.parametrize('name', ['log', 'sqrt', 'rsqrt', 'reciprocal'])
def test_one_positive_array(name):
    compare(getattr(mx.sym, name)(DATA), {'data': numbers(3, 4, low=0.1)})


@pytest.mark.parametrize('name', ['elemwise_add', 'elemwise_sub', 'elemwise_mul', 'elemwise_div'])
def test_two_arrays(name):
    compare(getattr(mx.sym, name)(DATA, mx.sym.var('other')), {'data': numbers(3, 4), 'other': numbers(3, 4, low=0.5)})


@pytest.mark.parametrize('name', ['add', 'sub', 'mul', 'div', 'power', 'maximum', 'minimum', 'greater', 'greater_equal',
                                  'lesser', 'lesser_equal', 'equal'])
@given(shape=of_shapes(0, 1, 2), ones=st.sets(st.integers(0, 2)))
@settings(max_examples=8)
def test_broadcasting(name, shape, ones):
    other = [1 if axis in ones else size for axis, size in enumerate(shape)]
    feeds = {'data': np.round(numbers(*shape, low=0.5), 1), 'other': np.round(numbers(*other, seed=1, low=0.5), 1)}
    # The translation learns of free axes from two batches: an axis of 1 stays one.
    free = {'other': () if 0 in ones else (0,)}
    compare(getattr(mx.sym, f'broadcast_{name}')(DATA, mx.sym.var('other')), feeds, free=free)


@pytest.mark.parametrize('build', [
    lambda x: x + 2, lambda x: x - 2, lambda x: 2 - x, lambda x: x * 2.5, lambda x: x / 3, lambda x: 1 / x,
    lambda x: x ** 2, lambda x: 2 ** x, lambda x: mx.sym.maximum(x, 1.0), lambda x: mx.sym.minimum(x, 1.0),
    lambda x: x > 1, lambda x: x >= 1, lambda x: x < 1, lambda x: x <= 1, lambda x: x == 1])
def test_scalars(build):
    compare(build(DATA), {'data': np.concatenate([numbers(3, 4, low=0.1), np.ones((3, 1), 'float32')], axis=1)})


@given(low=st.floats(-2, 0, width=32), high=st.floats(0, 7, width=32))
@few
def test_clip(low, high):
    compare(mx.sym.clip(DATA, low, high), {'data': numbers(2, 9) * 5})


def test_clip_takes_a_needless_relu_away_and_no_other():
    feeds = {'data': numbers(2, 9) * 5}
    assert operators(compare(mx.sym.clip(mx.sym.relu(DATA), 0, 6), feeds)) == ['Clip']
    assert operators(compare(mx.sym.clip(mx.sym.relu(DATA), -1, 6), feeds)) == ['Relu', 'Clip']
    relu = mx.sym.relu(DATA)
    assert operators(compare(mx.sym.clip(relu, 1, 6) + relu, feeds)) == ['Relu', 'Clip', 'Add']


@pytest.mark.parametrize('kind', ['relu', 'sigmoid', 'tanh', 'softrelu', 'softsign'])
def test_activation(kind):
    compare(mx.sym.Activation(DATA, act_type=kind), {'data': numbers(2, 9) * 3})


@pytest.mark.parametrize('kind, slope', [('elu', 1.0), ('elu', 0.3), ('leaky', 0.1), ('gelu', 0.25)])
def test_leaky_relu(kind, slope):
    compare(mx.sym.LeakyReLU(DATA, act_type=kind, slope=slope), {'data': numbers(2, 9) * 3})


@pytest.mark.parametrize('name', ['softmax', 'log_softmax'])
@pytest.mark.parametrize('axis', [-1, 0, 1, 2])
def test_softmax(name, axis):
    compare(getattr(mx.sym, name)(DATA, axis=axis), {'data': numbers(2, 3, 4) * 9})


@pytest.mark.parametrize('name', ['sum', 'mean', 'max', 'min', 'prod'])
@given(axes=st.one_of(st.none(), st.integers(-3, 2), st.sets(st.integers(0, 2), min_size=1).map(tuple)),
       keepdims=st.booleans(), exclude=st.booleans())
@settings(max_examples=15)
def test_reductions(name, axes, keepdims, exclude):
    assume(not exclude or axes is not None and (isinstance(axes, int) or len(axes) < 3))
    settings_ = {} if axes is None else {'axis': axes, 'exclude': exclude}
    compare(getattr(mx.sym, name)(DATA, keepdims=keepdims, **settings_), {'data': numbers(2, 3, 4)})


@pytest.mark.parametrize('axis', [0, 1, 2])
def test_cumsum(axis):
    compare(mx.sym.cumsum(DATA, axis=axis), {'data': numbers(2, 3, 40)})


@pytest.mark.parametrize('first, second', [*itertools.product([False, True], repeat=2)])
def test_products_of_matrices(first, second):
    feeds = {'data': numbers(2, 4, 3) if first else numbers(2, 3, 4),
             'other': numbers(2, 5, 4, seed=1) if second else numbers(2, 4, 5, seed=1)}
    other = mx.sym.var('other')
    compare(mx.sym.batch_dot(DATA, other, transpose_a=first, transpose_b=second), feeds)
    compare(mx.sym.linalg.gemm2(DATA, other, transpose_a=first, transpose_b=second, alpha=0.3), feeds)
    compare(mx.sym.dot(DATA, other, transpose_a=first, transpose_b=second),
            {name: array[0] for name, array in feeds.items()}, free={'data': (), 'other': ()})


@pytest.mark.parametrize('mode', ['instance', 'channel', 'spatial'])
def test_l2_normalization(mode):
    compare(mx.sym.L2Normalization(DATA, mode=mode), {'data': numbers(2, 3, 4, 5)})


# --- shapes ----------------------------------------------------------------------------------

@pytest.mark.parametrize('codes', [
    (0, -1), (-1,), (0, -2), (-2,), (-3, -2), (0, -3, 0), (0, 0, -3), (0, -3, -1), (0, -4, 2, 3, 0, 0),
    (0, -4, -1, 2, -2), (0, -4, 3, -1, -3), (-3, -3), (0, 1, 6, -1), (0, 6, -1, 1), (-1, 6, 5), (0, 0, 0, 0)])
@pytest.mark.parametrize('free', [(), (0,), (0, 2), (0, 2, 3)])
def test_reshape(codes, free):
    compare(mx.sym.reshape(DATA, shape=codes), {'data': numbers(2, 6, 4, 5)}, free={'data': free})


def test_reshape_in_reverse():
    compare(mx.sym.reshape(DATA, shape=(-1, 0), reverse=True), {'data': numbers(2, 6, 4)})
    with pytest.raises(CheckFailed, match='reverse'):
        translated(mx.sym.reshape(DATA, shape=(0, -3), reverse=True), {'data': numbers(2, 6, 4)},
                   free={'data': (0, 1, 2)})


@pytest.mark.parametrize('axis', [0, 1, -1, 3])
def test_expand_stack_concat(axis):
    other = mx.sym.var('other')
    feeds = {'data': numbers(2, 3, 4), 'other': numbers(2, 3, 4, seed=1)}
    compare(mx.sym.expand_dims(DATA, axis=axis), {'data': feeds['data']})
    compare(mx.sym.stack(DATA, other, axis=axis), feeds)
    if axis < 3:
        compare(mx.sym.concat(DATA, other, dim=axis), feeds)


@pytest.mark.parametrize('axis', [None, 1, -1, (1, 3)])
def test_squeeze(axis):
    compare(mx.sym.squeeze(DATA, **({} if axis is None else {'axis': axis})), {'data': numbers(2, 1, 4, 1)})


def test_transposing():
    feeds = {'data': numbers(2, 3, 4, 5)}
    for axes in ((), (0, 2, 3, 1), (3, 1, 0, 2)):
        compare(mx.sym.transpose(DATA, **({'axes': axes} if axes else {})), feeds)
    compare(mx.sym.swapaxes(DATA, dim1=1, dim2=3), feeds)
    compare(mx.sym.Flatten(DATA), feeds)


@pytest.mark.parametrize('squeezed', [False, True])
@pytest.mark.parametrize('output', [0, 1, 2])
def test_split(squeezed, output):
    parts = mx.sym.split(DATA, num_outputs=3, axis=-1, squeeze_axis=squeezed)
    compare(parts[output], {'data': numbers(2, 4, 3 if squeezed else 6)})


@given(axis=st.integers(-3, 2), begin=st.integers(-4, 3), end=st.one_of(st.none(), st.integers(-3, 4)))
@few
def test_slice_axis(axis, begin, end):
    assume(len(range(4)[begin:end]) > 0)
    compare(mx.sym.slice_axis(DATA, axis=axis, begin=begin, end=end), {'data': numbers(4, 4, 4)}, free={'data': ()})


@given(data=st.data())
@few
def test_slice(data):
    steps = data.draw(st.tuples(*[st.sampled_from([None, 1, 2, -1, -2])] * 2))
    begins, ends = (data.draw(st.tuples(*[st.one_of(st.none(), st.integers(-5, 4))] * 2)) for _ in range(2))
    assume(all(len(range(5)[slice(*limits)]) for limits in zip(begins, ends, steps)))
    compare(mx.sym.slice(DATA, begin=begins, end=ends, step=steps), {'data': numbers(5, 5, 2)}, free={'data': ()})


@given(before=st.tuples(st.integers(0, 2), st.integers(0, 2)), after=st.tuples(st.integers(0, 2), st.integers(0, 2)),
       mode=st.sampled_from(['constant', 'edge', 'reflect']))
@few
def test_pad(before, after, mode):
    widths = (0, 0, 0, 0, before[0], after[0], before[1], after[1])
    compare(mx.sym.pad(DATA, mode=mode, pad_width=widths, constant_value=1.5), {'data': numbers(2, 3, 4, 5)})


def test_repeating():
    feeds = {'data': numbers(2, 1, 4, 1)}
    compare(mx.sym.broadcast_axis(DATA, axis=(1, 3), size=(3, 5)), feeds)
    compare(mx.sym.broadcast_axis(DATA, axis=3, size=5), feeds)
    compare(mx.sym.broadcast_to(DATA, shape=(0, 3, 0, 5)), feeds)
    other = {'other': numbers(2, 3, 4, 5)}
    compare(mx.sym.broadcast_like(DATA, mx.sym.var('other')), {**feeds, **other})
    compare(mx.sym.broadcast_like(DATA, mx.sym.var('other'), lhs_axes=(1, -1), rhs_axes=(2, 0)), {**feeds, **other})
    compare(mx.sym.reshape_like(DATA, mx.sym.var('other')), {**feeds, 'other': numbers(2, 2, 2)})


def test_counting():
    feeds = {'data': numbers(2, 3, 7)}
    for axis, free in itertools.product((0, 1, 2, -1), ((0,), (0, 2))):
        compare(mx.sym.contrib.arange_like(DATA, axis=axis, start=2, step=3), feeds, free={'data': free})
    row = mx.sym.reshape(mx.sym.arange(1, 8, step=1), (1, 1, -1))
    compare(mx.sym.broadcast_mul(DATA, row), feeds)
    compare(mx.sym.broadcast_mul(DATA, mx.sym.reshape(mx.sym.arange(7), (1, 1, -1))), feeds)


@pytest.mark.parametrize('lower', [True, False])
@pytest.mark.parametrize('offset', [-2, 0, 1])
def test_triangle(lower, offset):
    compare(mx.sym.linalg.extracttrian(DATA, lower=lower, offset=offset), {'data': numbers(2, 4, 4)})


def test_cast():
    compare(mx.sym.cast(mx.sym.cast(DATA, 'int32'), 'float32'), {'data': numbers(2, 9) * 5})


# --- layers ----------------------------------------------------------------------------------

@given(kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.integers(1, 3), dilate=st.integers(1, 2),
       pad=st.tuples(st.integers(0, 2), st.integers(0, 2)), groups=st.sampled_from([1, 2, 4]), bias=st.booleans())
@few
def test_convolution(kernel, stride, dilate, pad, groups, bias):
    symbol = mx.sym.Convolution(DATA, kernel=kernel, stride=(stride, 1), dilate=(dilate, 1), pad=pad, num_filter=8,
                                num_group=groups, no_bias=not bias, name='conv')
    parameters = {'conv_weight': numbers(8, 4 // groups, *kernel, seed=1), 'conv_bias': numbers(8, seed=2)}
    compare(symbol, {'data': numbers(2, 4, 9, 8)}, parameters if bias else {'conv_weight': parameters['conv_weight']},
            free={'data': (0, 2, 3)})


@pytest.mark.parametrize('shape, flatten', [((2, 6), True), ((2, 3, 2), True), ((2, 3, 6), False), ((2, 6), False)])
@pytest.mark.parametrize('bias', [False, True])
def test_fully_connected(shape, flatten, bias):
    symbol = mx.sym.FullyConnected(DATA, num_hidden=5, flatten=flatten, no_bias=not bias, name='dense')
    parameters = {'dense_weight': numbers(5, 6, seed=1), **({'dense_bias': numbers(5, seed=2)} if bias else {})}
    compare(symbol, {'data': numbers(*shape)}, parameters)


def statistics(channels):
    return {'bn_gamma': numbers(channels, seed=3), 'bn_beta': numbers(channels, seed=4),
            'bn_moving_mean': numbers(channels, seed=5), 'bn_moving_var': numbers(channels, seed=6, low=0.01)}


@pytest.mark.parametrize('fixed', [False, True])
@pytest.mark.parametrize('eps', [1e-5, 1e-3])
def test_batch_norm(fixed, eps):
    symbol = mx.sym.BatchNorm(DATA, fix_gamma=fixed, eps=eps, name='bn')
    compare(symbol, {'data': numbers(2, 4, 5, 6)}, statistics(4))
    compare(symbol, {'data': numbers(2, 4)}, statistics(4))


@pytest.mark.parametrize('bias', [False, True])
def test_batch_norm_is_folded_into_what_it_follows(bias):
    conv = mx.sym.Convolution(DATA, kernel=(3, 3), num_filter=4, no_bias=not bias, name='conv')
    dense = mx.sym.FullyConnected(mx.sym.BatchNorm(conv, name='bn', fix_gamma=False), num_hidden=4, no_bias=not bias,
                                  name='dense')
    symbol = mx.sym.BatchNorm(dense, name='second', fix_gamma=False)
    parameters = {'conv_weight': numbers(4, 3, 3, 3), 'dense_weight': numbers(4, 4 * 16, seed=1), **statistics(4),
                  **{name.replace('bn', 'second'): array for name, array in statistics(4).items()},
                  **({'conv_bias': numbers(4, seed=7), 'dense_bias': numbers(4, seed=8)} if bias else {})}
    model = compare(symbol, {'data': numbers(2, 3, 6, 6)}, parameters, tolerance=1e-4)
    assert operators(model) == ['Conv', 'Flatten', 'Gemm']
    assert not {name for name in parameters if 'weight' in name} & {array.name for array in model.graph.initializer}


def test_batch_norm_is_not_folded_where_the_layer_is_looked_at_or_shares_its_weight():
    weight = mx.sym.var('weight')

    def conv(data, name):
        return mx.sym.Convolution(data, weight, kernel=(1, 1), num_filter=3, no_bias=True, name=name)

    first = conv(DATA, 'first')
    symbol = mx.sym.BatchNorm(first, name='bn', fix_gamma=False) + first
    assert operators(compare(symbol, {'data': numbers(2, 3, 4, 4)}, {'weight': numbers(3, 3, 1, 1), **statistics(3)})) \
        == ['Conv', 'BatchNormalization', 'Add']
    symbol = mx.sym.BatchNorm(first, name='bn', fix_gamma=False) + conv(DATA, 'second')  # each has its own from now on
    assert operators(compare(symbol, {'data': numbers(2, 3, 4, 4)}, {'weight': numbers(3, 3, 1, 1), **statistics(3)})) \
        == ['Conv', 'Conv', 'Add']


@given(kind=st.sampled_from(['max', 'avg']), kernel=st.integers(2, 3), stride=st.integers(1, 3), pad=st.integers(0, 1),
       convention=st.sampled_from(['valid', 'full']), counted=st.booleans(), height=sides, width=sides)
@settings(max_examples=80)
def test_pooling(kind, kernel, stride, pad, convention, counted, height, width):
    # A last window that lies in the padding alone has no value that anybody would want: MXNet's is -3e38 or 0/0.
    assume(all((-(-(side + 2 * pad - kernel) // stride)) * stride - pad < side for side in (height, width)))
    symbol = mx.sym.Pooling(DATA, kernel=(kernel, kernel), stride=(stride, stride), pad=(pad, pad), pool_type=kind,
                            pooling_convention=convention, count_include_pad=counted)
    compare(symbol, {'data': numbers(2, 3, height, width)}, free={'data': (0, 2, 3)})


@pytest.mark.parametrize('kind', ['max', 'avg'])
def test_global_pooling(kind):
    compare(mx.sym.Pooling(DATA, global_pool=True, pool_type=kind, kernel=(1, 1)), {'data': numbers(2, 3, 5, 6)})


def test_pooling_without_translation_is_named():
    symbol = mx.sym.Pooling(DATA, kernel=(2, 2), pool_type='lp', p_value=2, name='pool')
    with pytest.raises(CheckFailed, match=r"operator Pooling \('pool'\) cannot be translated to ONNX: pool_type 'lp'"):
        translated(symbol, {'data': numbers(2, 3, 6, 6)})


@pytest.mark.parametrize('size', [1, 3, 4, (2, 5)])
@pytest.mark.parametrize('free', [(0,), (0, 2, 3)])
@pytest.mark.parametrize('shape', [(8, 8), (5, 7), (4, 13), (3, 2)])
def test_adaptive_pooling(size, free, shape):
    compare(mx.sym.contrib.AdaptiveAvgPooling2D(DATA, output_size=size), {'data': numbers(2, 3, *shape)},
            free={'data': free})


@pytest.mark.parametrize('aligned', [False, True])
@given(height=st.integers(2, 15), width=st.integers(2, 15), out=st.tuples(st.integers(2, 20), st.integers(2, 20)))
@few
def test_resize(aligned, height, width, out):
    symbol = mx.sym.contrib.BilinearResize2D(DATA, height=out[0], width=out[1], align_corners=aligned)
    compare(symbol, {'data': numbers(2, 3, height, width)}, free={'data': (0, 2, 3)})


@given(seed=st.integers(0, 99), reach=st.sampled_from([0.5, 1.0, 1.5, 30.0]))
@few
def test_sampler_inside_and_outside(seed, reach):
    grid = np.random.RandomState(seed).uniform(-reach, reach, (2, 2, 4, 6)).astype('float32')
    corners = np.array([-1, 1, -1.0001, 1.0001], 'float32') * (reach >= 1)
    grid[:, 0, 0, :4], grid[:, 1, 0, :4] = corners, corners[::-1]
    compare(mx.sym.BilinearSampler(DATA, mx.sym.var('grid')), {'data': numbers(2, 3, 5, 7), 'grid': grid},
            tolerance=2e-5)


def test_grid_generator():
    theta = np.array([[1, 0, 0, 0, 1, 0], [0.5, 0.2, -0.3, 0.1, 2, 0.4]], 'float32')
    compare(mx.sym.GridGenerator(DATA, transform_type='affine', target_shape=(4, 7)), {'data': theta})
    compare(mx.sym.GridGenerator(DATA, transform_type='warp'), {'data': numbers(2, 2, 4, 7)})
    with pytest.raises(CheckFailed, match='flow'):
        translated(mx.sym.GridGenerator(DATA, transform_type='warp'), {'data': numbers(2, 2, 4, 7)},
                   free={'data': (0, 2)})


# --- what has no translation ----------------------------------------------------------------

def test_unknown_operator_is_named():
    with pytest.raises(CheckFailed, match=r"operator arcsinh \('odd'\) has no translation to ONNX"):
        translated(mx.sym.arcsinh(DATA, name='odd'), {'data': numbers(2, 3)})


@pytest.mark.parametrize('build, says', [
    (lambda: mx.sym.LeakyReLU(DATA, act_type='selu'), 'selu'),
    (lambda: mx.sym.softmax(DATA, temperature=2.0), 'temperature'),
    (lambda: mx.sym.cumsum(DATA), 'all axes'),
    (lambda: mx.sym.cast(DATA, 'float16'), 'float16'),
    (lambda: mx.sym.contrib.arange_like(DATA), 'all axes')])
def test_setting_without_translation_is_named(build, says):
    with pytest.raises(CheckFailed, match=says) as caught:
        translated(build(), {'data': numbers(2, 3)})
    assert caught.value.exit_code == 3 and '\n' not in str(caught.value)


def test_sums_of_several_and_what_hands_on():
    other = mx.sym.var('other')
    feeds = {'data': numbers(2, 3), 'other': numbers(2, 3, seed=1)}
    compare(mx.sym.add_n(DATA, other, DATA), feeds)
    assert operators(compare(mx.sym.Dropout(DATA, p=0.5) + mx.sym.BlockGrad(other), feeds)) == ['Add']


OTHER_NAMES = {  # MXNet's own for what the tests call by another
    'Flatten', 'SliceChannel', 'SwapAxis', 'Concat', '_copy', 'stop_gradient', 'amp_cast', '_np_cumsum', 'sum_axis',
    'max_axis', 'min_axis', 'broadcast_axes', 'broadcast_minus', 'broadcast_plus', '_arange', '_plus', '_sub', '_mul',
    '_div', '_maximum', '_minimum'}


def test_every_translation_is_tested_here():
    source = open(__file__, encoding='utf-8').read().lower()
    for name in TRANSLATIONS.keys() - OTHER_NAMES:
        plain = name.replace('_contrib_', '').replace('_linalg_', '').replace('broadcast_', '').lower()
        assert plain in source or name.endswith('_scalar'), name  # those of scalars are written as x + 2 and the like

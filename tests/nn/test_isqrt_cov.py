"""iSQRT-COV against its recursion and the eigendecomposition in numpy, and its gradient by finite differences."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc import backbones, methods
from gluon_fgvc.nn import ISQRTCov
from gluon_fgvc.nn.isqrt_cov import CovarianceRoot


def covariance(x):
    """Return the channels' covariances (N,C,C) of maps (N,C,h,w) in float64."""
    x = np.asarray(x, 'float64').reshape(*x.shape[:2], -1)
    x = x - x.mean(axis=2, keepdims=True)
    return x @ x.transpose(0, 2, 1) / x.shape[2]


def recursion(x, iters):
    """The paper's Algorithm 1 for each map."""
    roots = []
    for sigma in covariance(x):
        trace, unit = np.trace(sigma), np.eye(len(sigma))
        y, z = sigma / trace, unit
        for _ in range(iters):
            t = (3 * unit - z @ y) / 2
            y, z = y @ t, t @ z
        roots.append(np.sqrt(trace) * y)
    return np.array(roots)


def exact(x):
    """√Σ from eigenvalues and eigenvectors."""
    values, vectors = np.linalg.eigh(covariance(x))
    return vectors * np.sqrt(np.maximum(values, 0))[:, None] @ vectors.transpose(0, 2, 1)


def root(x, iters, dtype='float32', hybridized=True):
    block = CovarianceRoot(x.shape[1], iters)
    block.initialize()
    block.cast(dtype)
    block.hybridize(hybridized)
    return block(mx.nd.array(x, dtype=dtype))


def maps(*shape, seed=0):
    return np.abs(np.random.RandomState(seed).normal(size=shape))


@pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])
@pytest.mark.parametrize('channels, side', [(16, 9), (64, 14), (32, 3)])
def test_five_iterations_are_those_of_the_recursion(channels, side, hybridized):
    x = maps(2, channels, side, side)
    np.testing.assert_allclose(root(x, 5, hybridized=hybridized).asnumpy(), recursion(x, 5), atol=1e-5)


def test_twenty_iterations_reach_the_root():
    x = maps(2, 64, 16, 16)  # 256 places for 64 channels: full rank
    np.testing.assert_allclose(root(x, 20).asnumpy(), exact(x), atol=1e-4)
    assert np.abs(root(x, 5).asnumpy() - exact(x)).max() > 0.01  # five do not


def test_the_vector_is_the_lower_triangle_row_by_row():
    pool = ISQRTCov(dim=3, iters=3, in_channels=4)
    pool.initialize()
    x = mx.nd.array(maps(2, 4, 5, 5))
    matrix = pool.root(mx.nd.relu(pool.bn(pool.conv(x)))).asnumpy()
    expected = np.stack([matrix[:, i, j] for i in range(3) for j in range(i + 1)], axis=1)
    np.testing.assert_array_equal(pool(x).asnumpy(), expected)
    np.testing.assert_allclose(matrix, matrix.transpose(0, 2, 1), atol=1e-6)
    assert pool.units == 6 and ISQRTCov().units == 32896


@pytest.mark.parametrize('iters', [2, 5])
@pytest.mark.parametrize('shape', [(2, 4, 3, 3), (1, 6, 2, 2)], ids=['full rank', 'rank-deficient'])
def test_gradient(shape, iters):
    x = mx.nd.array(maps(*shape), dtype='float64')
    block = CovarianceRoot(shape[1], iters)
    block.initialize()
    block.cast('float64')
    weights = mx.nd.array(np.random.RandomState(1).normal(size=(shape[0], shape[1], shape[1])), dtype='float64')
    x.attach_grad()
    with autograd.record():
        total = (block(x) * weights).sum()
    total.backward()
    found, step = x.grad.asnumpy(), 1e-6
    for place in np.ndindex(*shape):
        moved = [x.asnumpy() for _ in range(2)]
        moved[0][place] += step
        moved[1][place] -= step
        values = [float((block(mx.nd.array(m, dtype='float64')) * weights).sum().asscalar()) for m in moved]
        assert (values[0] - values[1]) / 2 / step == pytest.approx(found[place], rel=1e-5, abs=1e-6), place


@pytest.mark.parametrize('name, x', [
    ('zero', np.zeros((2, 6, 4, 4))), ('constant', np.ones((2, 6, 4, 4))), ('one place', maps(2, 6, 1, 1)),
    ('rank 1', maps(2, 1, 4, 4) * np.ones((1, 6, 1, 1))), ('tiny', 1e-15 * maps(2, 6, 4, 4)),
    ('huge', 1e15 * maps(2, 6, 4, 4)), ('one dead channel', maps(2, 6, 4, 4) * (np.arange(6) > 0)[:, None, None])])
def test_values_and_gradients_are_finite(name, x):
    x = mx.nd.array(x)
    for block in (CovarianceRoot(6, 5), CovarianceRoot(6, 20), ISQRTCov(dim=4, in_channels=6)):
        block.initialize()
        x.attach_grad()
        with autograd.record():
            out = block(x)
        out.backward()
        assert np.isfinite(out.asnumpy()).all() and np.isfinite(x.grad.asnumpy()).all()
        for parameter in block.collect_params().values():
            if parameter.grad_req != 'null':
                assert np.isfinite(parameter.grad().asnumpy()).all()


@pytest.mark.parametrize('dim, iters', [(0, 5), (4, 1)])
def test_parameters_out_of_range(dim, iters):
    with pytest.raises(ValueError, match=f'dim {dim} must be at least 1 and iters {iters} at least 2'):
        ISQRTCov(dim, iters)


def test_as_the_head_of_a_backbone(tmp_path):
    """Any method takes it; weights of a backbone without it start one with it, which saves and loads its own."""
    plain = backbones.get('mobilenetv2_0.25')
    plain.save_parameters(str(tmp_path / 'plain.params'))
    mx.random.seed(0)
    backbone = backbones.get('mobilenetv2_0.25', str(tmp_path / 'plain.params'), global_pool='isqrt_cov',
                             output_stride=16)
    images = mx.nd.random.normal(shape=(2, 3, 64, 64))
    assert backbone(images).shape == (2, 1280, 4, 4) and backbone.pool_units == 32896
    np.testing.assert_array_equal(backbone.stem[0].weight.data().asnumpy(), plain.stem[0].weight.data().asnumpy())
    method = methods.create('finetune', backbone, 3)
    assert method.net(images).shape == (2, 3)
    assert method.explain(images).maps['class activation'].shape == (2, 4, 4)
    method.net.save_parameters(str(tmp_path / 'second.params'))
    again = backbones.get('mobilenetv2_0.25', str(tmp_path / 'second.params'), global_pool='isqrt_cov',
                          output_stride=16)
    np.testing.assert_array_equal(again.pool(again(images)).asnumpy(), backbone.pool(backbone(images)).asnumpy())

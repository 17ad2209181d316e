"""Sampling by hand and against a second implementation, gradients by differences, where the transformer starts."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import nn
from gluon_fgvc.nn.spatial_transformer import affine_sample

IDENTITY = [[1, 0, 0], [0, 1, 0]]
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


class Sampler(mx.gluon.HybridBlock):
    def __init__(self, size):
        super().__init__()
        self._size = size

    def hybrid_forward(self, F, images, theta):
        return affine_sample(F, images, theta, self._size)


def images(*shape, seed=0):
    return nd.array(np.random.RandomState(seed).standard_normal(shape))


def bilinear(image, theta, size):
    """Sample ``image`` (C,H,W) pixel by pixel."""
    channels, height, width = image.shape
    out = np.zeros((channels, *size))
    for row in range(size[0]):
        for column in range(size[1]):
            target = [2 * column / max(size[1] - 1, 1) - 1, 2 * row / max(size[0] - 1, 1) - 1, 1]
            x, y = theta @ target
            x, y = (x + 1) * (width - 1) / 2, (y + 1) * (height - 1) / 2
            for i in range(height):
                for j in range(width):
                    out[:, row, column] += max(0, 1 - abs(x - j)) * max(0, 1 - abs(y - i)) * image[:, i, j]
    return out


@each_way
@pytest.mark.parametrize('size', [None, (4, 7), (1, 3)])
def test_sampling_against_a_loop(hybridized, size):
    x, theta = images(2, 3, 5, 6), images(2, 2, 3, seed=1) * 0.5 + nd.array([IDENTITY])
    block = Sampler(size)
    block.hybridize(hybridized)
    found = block(x, theta).asnumpy()
    for n in range(2):
        expected = bilinear(x[n].asnumpy(), theta[n].asnumpy().astype('float64'), size or (5, 6))
        np.testing.assert_allclose(found[n], expected, atol=1e-5)


def test_the_identity_and_a_mirror():
    x = images(1, 2, 5, 6)
    np.testing.assert_allclose(affine_sample(nd, x, nd.array([IDENTITY])).asnumpy(), x.asnumpy(), atol=1e-5)
    mirrored = affine_sample(nd, x, nd.array([[[-1, 0, 0], [0, 1, 0]]])).asnumpy()
    np.testing.assert_allclose(mirrored, x.asnumpy()[..., ::-1], atol=1e-5)


def test_a_shift_by_one_pixel_shows_zeros_beyond_the_border():
    x = nd.arange(1, 13).reshape((1, 1, 3, 4))
    shifted = affine_sample(nd, x, nd.array([[[1, 0, 2 / 3], [0, 1, 0]]])).asnumpy()[0, 0]
    np.testing.assert_allclose(shifted, [[2, 3, 4, 0], [6, 7, 8, 0], [10, 11, 12, 0]], atol=1e-4)


@each_way
def test_gradients_by_differences(hybridized):
    x, weights = images(1, 2, 5, 6), images(1, 2, 4, 4, seed=2)
    theta = nd.array([[[0.61, 0.13, 0.05], [-0.07, 0.53, -0.11]]])  # no sample lies on a pixel's edge
    block = Sampler((4, 4))
    block.hybridize(hybridized)
    for array in (x, theta):
        array.attach_grad()
    with autograd.record():
        loss = (block(x, theta) * weights).sum()
    loss.backward()

    def value(x, theta):
        return (bilinear(x[0], theta[0], (4, 4)) * weights.asnumpy()[0]).sum()

    start = x.asnumpy().astype('float64'), theta.asnumpy().astype('float64')
    for index, array in enumerate((x, theta)):
        found = array.grad.asnumpy()
        for place in np.ndindex(found.shape) if index else [(0, 0, 2, 3), (0, 1, 1, 1), (0, 0, 3, 2)]:
            values = []
            for step in (1e-5, -1e-5):
                moved = [a.copy() for a in start]
                moved[index][place] += step
                values.append(value(*moved))
            assert found[place] == pytest.approx((values[0] - values[1]) / 2e-5, abs=2e-3, rel=1e-3), place


def transformer(**kwargs):
    mx.random.seed(0)
    block = nn.SpatialTransformer(channels=(4, 4), **kwargs)
    block.initialize()
    return block


@each_way
@pytest.mark.parametrize('shape', [(2, 3, 16, 16), (2, 3, 21, 13)])
def test_affine_starts_as_the_identity(hybridized, shape):
    block, x = transformer(), images(*shape)
    block.hybridize(hybridized)
    windows, theta = block(x)
    np.testing.assert_array_equal(theta.asnumpy(), [IDENTITY] * 2)
    np.testing.assert_allclose(windows.asnumpy(), x.asnumpy(), atol=1e-4)


def test_location_learns_the_place_alone():
    block, x = transformer(mode='location', size=(5, 5)), images(2, 3, 9, 9)
    windows, theta = block(x)
    np.testing.assert_array_equal(theta.asnumpy(), [[[0.5, 0, 0], [0, 0.5, 0]]] * 2)
    np.testing.assert_allclose(windows.asnumpy(), x.asnumpy()[:, :, 2:7, 2:7], atol=1e-5)  # the centre, at full size
    block.window.bias.set_data(nd.array([0.5, -1e6]))  # 0.5 · u / (0.5 + |u|): half way to the edge, and at it
    windows, theta = block(x)
    np.testing.assert_allclose(theta.asnumpy(), [[[0.5, 0, 0.25], [0, 0.5, -0.5]]] * 2, atol=1e-5)
    np.testing.assert_allclose(windows.asnumpy(), x.asnumpy()[:, :, 0:5, 3:8], atol=1e-4)


@each_way
@pytest.mark.parametrize('mode, zoom', [('affine', 1), ('affine', 0.7), ('location', 0.7)])
def test_windows_stay_inside_whatever_is_learnt(hybridized, mode, zoom):
    block = transformer(mode=mode, zoom=zoom)
    block.hybridize(hybridized)
    x = images(4, 3, 16, 16)
    for scale in (0.3, 3, 1000):
        for parameter in (block.window.weight, block.window.bias):
            parameter.set_data(images(*parameter.shape, seed=int(scale)) * scale)
        with autograd.record():
            theta = block(x)[1]
            loss = theta.sum()
        loss.backward()
        values = theta.asnumpy()
        reach = np.abs(values[:, :, :2]).sum(axis=2)
        assert reach.max() <= zoom + 1e-5 and (reach + np.abs(values[:, :, 2])).max() <= 1 + 1e-5
        assert np.isfinite(block.window.weight.grad().asnumpy()).all()


def test_a_window_at_its_largest_can_shrink():
    """The gradient to a row that reaches too far is not cut off."""
    block, x = transformer(), images(2, 3, 16, 16)
    block.window.bias.set_data(nd.array([1.5, 0, 0, 0, 1.5, 0]))
    with autograd.record():
        theta = block(x)[1]
        loss = theta.sum()
    loss.backward()
    np.testing.assert_allclose(theta.asnumpy(), [IDENTITY] * 2, atol=1e-6)
    assert block.window.bias.grad().asnumpy()[[0, 4]].min() > 1


def test_the_hidden_vector_is_centred():
    """What all images have in common is a small part of it, so a step moves windows apart and not together."""
    block, hidden = transformer(), []
    block.window.register_forward_pre_hook(lambda _, inputs: hidden.append(inputs[0].asnumpy()))
    with autograd.train_mode():
        block(3 + images(64, 3, 16, 16))
    assert (hidden[0].mean(0) ** 2).sum() < 0.05 * (hidden[0] ** 2).sum(1).mean() < 0.05


def test_it_learns_to_find_a_square():
    """Eight bright squares, one place each: the window's centre must end up on them."""
    random = np.random.RandomState(0)
    places = random.uniform(-0.5, 0.5, (16, 2))
    x = np.zeros((16, 1, 16, 16), 'float32')
    for n, (left, top) in enumerate(np.round((places + 1) * 7.5).astype(int)):
        x[n, 0, top - 2:top + 3, left - 2:left + 3] = 1
    x = nd.array(x)
    block = transformer(mode='location', size=(8, 8), in_channels=1)
    trainer = mx.gluon.Trainer(block.collect_params(), 'adam', {'learning_rate': 0.01})
    for step in range(60):
        with autograd.record():
            loss = -block(x)[0].mean()
        loss.backward()
        trainer.step(1)
        if step == 0:
            before = -loss.asscalar()
    assert -loss.asscalar() > 1.2 * before


@pytest.mark.parametrize('mode, zoom', [('affine', 0), ('affine', 1.1), ('location', 1)])
def test_zooms_out_of_range(mode, zoom):
    with pytest.raises(ValueError, match=f'zoom {zoom} must be above 0'):
        nn.SpatialTransformer(mode=mode, zoom=zoom)


def test_an_unknown_mode():
    with pytest.raises(ValueError, match="mode 'rigid' is not 'affine' or 'location'"):
        nn.SpatialTransformer(mode='rigid')

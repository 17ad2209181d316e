"""The ART module against given numbers, a reference pixel by pixel, and differences; windows that degenerate."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import nn
from gluon_fgvc.nn import art

VECTORS = np.load(Path(__file__).parent / 'files' / 'art_module.npz')
SIZE = 28, 28
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


def transform(hybridized, size=SIZE, **kwargs):
    block = nn.SimilarityTransform(size, **kwargs)
    block.hybridize(hybridized)
    return block


@each_way
def test_given_numbers(hybridized):
    block = transform(hybridized, location=float(VECTORS['alpha_p']), scale=float(VECTORS['alpha_s']))
    attention, theta, redundancy, parameters = block(nd.array(VECTORS['image']), nd.array(VECTORS['gamma']))
    np.testing.assert_allclose(theta.asnumpy().reshape(3, 6), VECTORS['A'], atol=1e-6)
    np.testing.assert_array_equal(nn.redundancy_mask(parameters, SIZE).asnumpy()[:, 0], VECTORS['mask_analytic'])
    bound = 1e-5 * np.abs(VECTORS['image']).max()  # the sampler's places are float32, so errors scale with contrasts
    np.testing.assert_allclose(attention.asnumpy(), VECTORS['attention'], atol=bound)
    np.testing.assert_allclose(redundancy.asnumpy(), VECTORS['redundancy_analytic'], atol=bound)
    loss = nn.restriction_loss(parameters, VECTORS['E'], VECTORS['T'])
    np.testing.assert_allclose(loss.asnumpy(), VECTORS['L_res_paper'], atol=1e-5)


def test_bounds():
    gamma = nd.array([[9, -9, 9, 9], [0, 0, 0, 0], [0.5, 0, -9, -0.5]])
    found = art.bounded(gamma, 0.5, 0.8).asnumpy()
    expected = [[0.5, -0.5, 0.8, 9], [0, 0, 0, 0], [0.5 * np.tanh(0.5), 0, -0.8, -0.5]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for name, value in (('location', 1.1), ('scale', -0.1)):
        with pytest.raises(ValueError, match=rf'{name} {value} is not in \[0, 1\]'):
            nn.SimilarityTransform(**{name: value})


@each_way
def test_half_of_the_image_at_full_size(hybridized):
    """Scale 1/2 in the middle of 9 pixels is pixels 2 to 6; what is left of them is black."""
    images = nd.array(np.random.RandomState(0).uniform(0.1, 1, (2, 3, 9, 9)))
    gamma = nd.array([[0, 0, np.arctanh(0.5), 0]] * 2)
    attention, theta, redundancy, _ = nn.SimilarityTransform((5, 5))(images, gamma)
    np.testing.assert_allclose(theta.asnumpy(), [[[0.5, 0, 0], [0, 0.5, 0]]] * 2, atol=1e-6)
    np.testing.assert_allclose(attention.asnumpy(), images.asnumpy()[:, :, 2:7, 2:7], atol=1e-5)
    black = transform(hybridized, None)(images, gamma)[2].asnumpy()
    expected = images.asnumpy().copy()
    # On the window's border a pixel is inside or not by the rounding of tanh, so only the others are looked at.
    inner, outer = (slice(None), slice(None), slice(3, 6), slice(3, 6)), np.ones((9, 9), bool)
    outer[2:7, 2:7] = False
    assert not black[inner].any()
    np.testing.assert_array_equal(black[:, :, outer], expected[:, :, outer])
    assert redundancy.shape == (2, 3, 5, 5)


def inside(parameters, height, width):
    """Which pixels lie in a window, one by one: those that are a combination of its half axes of at most 1 each."""
    t_x, t_y, scale, angle = parameters
    axes = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    found, doubtful = np.zeros((height, width), bool), np.zeros((height, width), bool)
    for row in range(height):
        for column in range(width):
            p = np.array([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1])
            share = np.abs(np.linalg.solve(axes, p - (t_x, t_y))).max()
            found[row, column], doubtful[row, column] = share <= 1, abs(share - 1) < 1e-4
    return found, doubtful


def test_the_mask_of_random_windows_pixel_by_pixel():
    random = np.random.RandomState(0)
    windows = np.concatenate([random.uniform(-0.5, 0.5, (60, 2)), random.uniform(-1, 1, (60, 1)),
                              random.uniform(-7, 7, (60, 1))], axis=1)
    masks = nn.redundancy_mask(nd.array(windows), (13, 17)).asnumpy()
    assert masks.shape == (60, 1, 13, 17)
    kinds = set()
    for window, mask in zip(windows, masks[:, 0]):
        expected, doubtful = inside(window, 13, 17)
        np.testing.assert_array_equal(mask.astype(bool)[~doubtful], expected[~doubtful], err_msg=str(window))
        kinds |= {expected.any(), bool(expected.all())}
    assert kinds == {False, True}  # windows between pixels, or of some pixels, and none of all


def test_the_mask_holds_what_the_attention_shows():
    """A bright pixel well inside the window is seen and taken away; one well outside is not seen and is left."""
    random, size, seen = np.random.RandomState(1), 15, set()
    for _ in range(20):
        gamma = nd.array(random.normal(size=(1, 4)) * (1, 1, 0.6, 2))
        for place in [(7, 7), (2, 11), (12, 5)]:
            images = nd.zeros((1, 1, size, size))
            images[0, 0, place[0], place[1]] = 1
            attention, _, _, parameters = nn.SimilarityTransform((101, 101))(images, gamma)
            t_x, t_y, scale, angle = parameters.asnumpy()[0].astype('float64')
            taken = nn.redundancy_mask(parameters, (size, size)).asnumpy()[0, 0][place] == 1
            if inside((t_x, t_y, 0.8 * scale, angle), size, size)[0][place]:
                assert taken and attention.asnumpy().max() > 0.5
                seen.add('inside')
            elif not inside((t_x, t_y, abs(scale) + 0.2, angle), size, size)[0][place]:
                assert not taken and not attention.asnumpy().any()
                seen.add('outside')
    assert seen == {'inside', 'outside'}


def test_no_gradient_from_the_mask():
    gamma = nd.array([[0.1, 0.2, 0.4, 0.3]])
    gamma.attach_grad()
    with autograd.record():
        mask = nn.redundancy_mask(art.bounded(gamma), SIZE)
        redundancy = nn.SimilarityTransform(SIZE)(nd.ones((1, 1, 28, 28)), gamma)[2]
        total = mask.sum() + redundancy.sum()
    gamma.grad[:] = 5
    total.backward()
    assert not gamma.grad.asnumpy().any()


@each_way
def test_gradient_of_gamma_through_the_sampler(hybridized):
    """By differences of a smooth image's attention, sampled in float64 by hand."""
    height = width = 12
    y, x = np.mgrid[:height, :width]
    image = np.stack([np.sin(0.5 * x + 0.3 * y), np.cos(0.4 * x - 0.2 * y)])
    weights = np.random.RandomState(2).normal(size=(2, 5, 5))
    gamma = np.array([0.3, -0.5, 0.45, 0.7])
    block = transform(hybridized, (5, 5))
    array = nd.array([gamma])
    array.attach_grad()
    with autograd.record():
        loss = (block(nd.array(image[None]), array)[0] * nd.array(weights[None])).sum()
    loss.backward()

    def value(gamma):
        t_x, t_y, s = 0.5 * np.tanh(gamma[0]), 0.5 * np.tanh(gamma[1]), np.tanh(gamma[2])
        rotation = s * np.array([[np.cos(gamma[3]), -np.sin(gamma[3])], [np.sin(gamma[3]), np.cos(gamma[3])]])
        total = 0
        for row in range(5):
            for column in range(5):
                place = rotation @ (column / 2 - 1, row / 2 - 1) + (t_x, t_y)
                u, v = (place + 1) * 5.5
                i, j = int(np.floor(v)), int(np.floor(u))
                for m, n in ((i, j), (i, j + 1), (i + 1, j), (i + 1, j + 1)):
                    if 0 <= m < height and 0 <= n < width:
                        share = (1 - abs(v - m)) * (1 - abs(u - n))
                        total += share * (image[:, m, n] * weights[:, row, column]).sum()
        return total

    assert loss.asscalar() == pytest.approx(value(gamma), abs=1e-4)
    for i in range(4):
        step = 1e-5 * np.eye(4)[i]
        expected = (value(gamma + step) - value(gamma - step)) / 2e-5
        assert abs(expected) > 0.01
        assert array.grad.asnumpy()[0, i] == pytest.approx(expected, rel=2e-3, abs=2e-3), i


@each_way
@pytest.mark.parametrize('gamma', [[0, 0, 0, 0], [0.4, -0.2, 0, 1], [0, 0, 1e-8, 0], [40, -40, 40, 1e4],
                                   [0, 0, -40, 0]])
@pytest.mark.parametrize('black', [False, True])
def test_extreme_windows_are_finite(hybridized, gamma, black):
    """Scale 0 shows one place of the image everywhere, which is all that can be asked of it."""
    images = nd.zeros((2, 3, 10, 10)) if black else nd.array(np.random.RandomState(0).normal(size=(2, 3, 10, 10)))
    array = nd.array([gamma] * 2)
    array.attach_grad()
    block = transform(hybridized, (6, 6))
    with autograd.record():
        attention, theta, redundancy, parameters = block(images, array)
        loss = (attention ** 2).sum() + nn.restriction_loss(parameters).sum() + (redundancy ** 2).sum()
    loss.backward()
    for values in (attention, theta, redundancy, parameters, array.grad):
        assert np.isfinite(values.asnumpy()).all()
    if gamma[2] == 0:
        assert np.ptp(attention.asnumpy(), axis=(2, 3)).max() == 0
    if black:
        assert not attention.asnumpy().any() and not redundancy.asnumpy().any()


def test_scale_zero_takes_nothing_away_but_its_own_pixel():
    masks = nn.redundancy_mask(nd.array([[0, 0, 0, 1], [0.25, 0, 0, 0], [0.01, 0, 0, 0]]), (9, 9)).asnumpy()[:, 0]
    assert [mask.sum() for mask in masks] == [1, 1, 0] and masks[0, 4, 4] and masks[1, 4, 5]


@each_way
def test_a_whole_turn_changes_nothing_and_a_scale_of_minus_one_is_half_a_turn(hybridized):
    images = nd.array(np.random.RandomState(3).normal(size=(2, 1, 8, 8)))
    block = transform(hybridized, None)
    same, turned = block(images, nd.array([[0.2, -0.1, 0.5, 0.3], [0.2, -0.1, 0.5, 0.3 + 2 * np.pi]]))[:2]
    np.testing.assert_allclose(turned[0].asnumpy(), turned[1].asnumpy(), atol=1e-5)
    images[1] = images[0]
    attention, _, redundancy, _ = block(images, nd.array([[0.2, -0.1, 0.5, 0.3], [0.2, -0.1, -0.5, 0.3 + np.pi]]))
    np.testing.assert_allclose(attention[0].asnumpy(), attention[1].asnumpy(), atol=1e-4)
    np.testing.assert_array_equal(redundancy[0].asnumpy(), redundancy[1].asnumpy())
    assert same.shape == images.shape


def test_symbols_give_the_same_mask():
    parameters = mx.sym.var('parameters')
    values = nd.array([[0.1, -0.2, 0.6, 0.5]])
    found = nn.redundancy_mask(parameters, (7, 7)).eval(parameters=values)[0]
    np.testing.assert_array_equal(found.asnumpy(), nn.redundancy_mask(values, (7, 7)).asnumpy())

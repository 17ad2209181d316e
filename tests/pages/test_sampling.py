"""Pictures of sampling grids: against MXNet's sampler, and dots where the points are."""
import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc.pages import maps as attention_maps
from gluon_fgvc.pages import sampling


def grid(seed=0, side=9):
    return np.random.RandomState(seed).uniform(-0.95, 0.95, (2, side, side))


def test_sampled_is_what_the_network_sees():
    image = np.random.RandomState(1).randint(0, 256, (20, 30, 3)).astype('uint8')
    found = sampling.sampled(image, grid())
    expected = mx.nd.BilinearSampler(mx.nd.array(image.transpose(2, 0, 1)[None]), mx.nd.array(grid()[None]))
    assert found.shape == (9, 9, 3) and found.dtype == np.uint8
    # OpenCV rounds places to 1/32 pixel
    np.testing.assert_allclose(found, expected[0].asnumpy().transpose(1, 2, 0), atol=14)
    assert np.abs(found - expected[0].asnumpy().transpose(1, 2, 0)).mean() < 3


def test_outside_is_black():
    image = np.full((8, 8, 3), 200, np.uint8)
    outside = np.full((2, 4, 4), 1.9)
    assert not sampling.sampled(image, outside).any()


def test_points_lie_where_the_grid_says():
    image = np.full((100, 100, 3), 255, np.uint8)
    corners = np.stack(np.meshgrid([-0.5, 0.5], [-1, 0]))  # x 24.75 and 74.25, y 0 and 49.5 of 99
    drawn = sampling.points(image, corners, side=200)
    blue = drawn[..., 0] < 128
    rows, columns = np.nonzero(blue)
    assert drawn.shape == (200, 200, 3) and blue[100, 50] and blue[100, 149] and blue[0, 50] and blue[0, 149]
    assert all(min(abs(row - y) for y in (0, 99.5)) < 4 for row in rows)
    assert all(min(abs(column - x) for x in (50, 149)) < 4 for column in columns)


def test_of_many_points_some_are_drawn():
    image = np.full((64, 64, 3), 255, np.uint8)
    even = np.stack(np.meshgrid(np.linspace(-1, 1, 224), np.linspace(-1, 1, 224)))
    drawn = sampling.points(image, even)
    assert 0.05 < (drawn[..., 0] < 128).mean() < 0.3  # dots, with room between them


@pytest.mark.parametrize('values', [np.zeros((3, 4, 4)), np.zeros((4, 4)), np.full((2, 4, 4), np.nan)])
def test_what_is_no_grid(values):
    with pytest.raises(ValueError, match=r'a grid must be finite and of shape \(2,O,O\)'):
        sampling.sampled(np.zeros((8, 8, 3), np.uint8), values)


def test_page_shows_points_and_sample(tmp_path):
    row = attention_maps.Row('a.png', np.zeros((32, 32, 3), np.uint8), {'map': np.eye(4)}, 'cat', 0.5,
                             grids={'structure': grid()})
    text = open(attention_maps.write_page([row], tmp_path / 'page.html')).read()
    assert 'structure, points</strong>' in text and 'structure, sampled</strong> <span class="detail">9×9' in text
    assert text.count('<img') == 5  # scale, photograph, map, points, sample


def test_points_far_away_are_not_drawn():
    image = np.full((64, 64, 3), 255, np.uint8)
    far = np.full((2, 4, 4), 1e12)
    np.testing.assert_array_equal(sampling.points(image, far), 255)

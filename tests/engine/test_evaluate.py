"""Means over views and networks, by hand."""
import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc.data import Batch, ImageSet
from gluon_fgvc.engine.evaluate import predict_together
from gluon_fgvc.errors import DataError

IMAGES = ImageSet('test', ['a', 'b', 'c'], np.array([0, 1, 1]))
CPU = [mx.cpu()]


class Views:
    """What predict_together takes for a loader: values (3,2) that the network returns, in batches of two."""

    image_set = IMAGES

    def __init__(self, values, skip=None):
        self.values, self.skip = np.log(np.asarray(values)), skip

    def epoch(self, epoch):
        for rows in ([0, 1], [2]):
            rows = np.array([row for row in rows if row != self.skip])
            yield Batch(mx.nd.array(self.values[rows]), mx.nd.array(IMAGES.labels[rows]), rows)


def identity(values):
    return values


def member(*views):
    return [(identity, identity, view) for view in views]


def test_means_are_of_probabilities_over_all_views():
    first = member(Views([[0.9, 0.1], [0.6, 0.4], [0.5, 0.5]]), Views([[0.5, 0.5], [0.1, 0.9], [0.2, 0.8]]))
    second = member(Views([[2, 6], [1, 1], [0.3, 0.1]]))  # scores need not be normalised
    together, (one, two) = predict_together([first, second], CPU)
    mean = np.array([(0.9 + 0.5 + 0.25) / 3, (0.4 + 0.9 + 0.5) / 3, (0.5 + 0.8 + 0.25) / 3])  # of each label
    np.testing.assert_allclose(together.label_probabilities, mean, rtol=1e-6)
    np.testing.assert_allclose(together.losses, -np.log(mean), rtol=1e-6)
    np.testing.assert_array_equal(together.indices, [0, 1, 2])
    np.testing.assert_allclose(one.label_probabilities, [0.9, 0.4, 0.5], rtol=1e-6)  # the first view alone
    np.testing.assert_allclose(two.label_probabilities, [0.25, 0.5, 0.25], rtol=1e-6)
    assert (together.top[:, 0] == [0, 1, 1]).all() and (one.top[:, 0] == [0, 0, 0]).all()


def test_a_single_view_is_itself():
    together, (alone,) = predict_together([member(Views([[1e-30, 1], [0.6, 0.4], [0.5, 0.5]]))], CPU)
    assert together is alone
    assert together.losses[0] == pytest.approx(-np.log(1e-30), rel=1e-6)


def test_views_of_different_images_are_refused():
    views = [Views(np.ones((3, 2))), Views(np.ones((3, 2)), skip=1)]
    with pytest.raises(DataError, match='could be read for one view and not for another'):
        predict_together([member(*views)], CPU)

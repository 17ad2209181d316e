"""The weighted sampler: classes come equally often, from (seed, epoch) alone, and training uses it."""
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc import runs as run
from gluon_fgvc.data import samplers
from tests.engine import toy

LABELS = np.array([0] * 90 + [2] * 9 + [5])


def test_classes_come_equally_often_and_images_of_a_class_too():
    sampler = samplers.Weighted(LABELS, seed=3)
    drawn = np.concatenate([sampler(epoch) for epoch in range(300)])
    shares = np.bincount(LABELS[drawn], minlength=6) / len(drawn)
    np.testing.assert_allclose(shares, [1 / 3, 0, 1 / 3, 0, 0, 1 / 3], atol=0.01)
    np.testing.assert_allclose(np.bincount(drawn)[90:99] / len(drawn), 1 / 27, atol=0.01)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(0, 99), st.integers(0, 99))
def test_an_epoch_is_as_long_as_the_set_and_repeatable(labels, seed, epoch):
    one, other = (samplers.Weighted(np.array(labels), seed) for _ in range(2))
    other(epoch + 1)  # what was drawn before does not matter
    indices = one(epoch)
    assert len(one) == len(indices) == len(labels) and set(indices) <= set(range(len(labels)))
    np.testing.assert_array_equal(indices, other(epoch))


def test_seeds_and_epochs_differ():
    first = samplers.Weighted(LABELS, 0)
    assert (first(0) != first(1)).any() and (first(0) != samplers.Weighted(LABELS, 1)(0)).any()


@pytest.mark.parametrize('sampler', ['shuffled', 'weighted'])
def test_training_draws_by_it_and_evaluation_never(tmp_path, sampler):
    images = toy.image_set(tmp_path / 'images', 16)
    images.labels[:] = [0] * 14 + [1] * 2
    cfg = toy.settings(data__sampler=sampler)
    with run.loader_of(cfg, images, train=True) as loader:
        drawn = np.concatenate([batch.indices for epoch in range(10) for batch in loader.epoch(epoch)])
    share = images.labels[drawn].mean()
    assert share == 1 / 8 if sampler == 'shuffled' else 0.35 < share < 0.65
    with run.loader_of(cfg, images) as loader:
        assert [index for batch in loader.epoch(0) for index in batch.indices] == list(range(16))

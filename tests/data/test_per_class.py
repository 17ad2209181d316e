"""At most so many training images of a class."""
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc import config, data
from gluon_fgvc.data.splits import stratified_subset
from gluon_fgvc.errors import ConfigError


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 99))
def test_it_is_stratified_seeded_and_nested(labels, most, seed):
    labels = np.array(labels)
    kept = stratified_subset(labels, most, seed)
    assert (np.diff(kept) > 0).all() and kept.dtype == np.int64
    for label in set(labels.tolist()):
        assert (labels[kept] == label).sum() == min(most, (labels == label).sum())
    np.testing.assert_array_equal(kept, stratified_subset(labels, most, seed))
    assert set(kept) <= set(stratified_subset(labels, most + 1, seed))


def test_another_seed_draws_others():
    labels = np.zeros(100, int)
    assert set(stratified_subset(labels, 10, 0)) != set(stratified_subset(labels, 10, 1))


@pytest.fixture
def folder(tmp_path):
    for split, count in (('train', 20), ('test', 3)):
        for name in 'ab':
            (tmp_path / split / name).mkdir(parents=True)
            for i in range(count):
                cv2.imwrite(str(tmp_path / split / name / f'{i:02d}.png'), np.full((4, 4, 3), i, np.uint8))
    return tmp_path


def build(folder, **changes):
    section = config.data_from_tree({'name': 'image_folder', 'root': str(folder), 'val_fraction': 0.2}, data.options)
    return data.build(replace(section, **changes))


def test_validation_and_test_stay_what_they_are(folder):
    whole, few = build(folder), build(folder, per_class=5)
    assert few.val.paths == whole.val.paths and few.test.paths == whole.test.paths
    assert np.bincount(few.train.labels).tolist() == [5, 5] and set(few.train.paths) <= set(whole.train.paths)
    assert build(folder, per_class=1000).train.paths == whole.train.paths


def test_none_is_refused():
    with pytest.raises(ConfigError, match='per_class: 0 must be at least 1'):
        config.data_from_tree({'name': 'image_folder', 'per_class': 0}, data.options)

"""Folds of every data set: a partition, stratified, units together, and the same pixels whatever the reader."""
import cv2
import numpy as np
import pytest

from gluon_fgvc import config, data
from gluon_fgvc.data import ImageSet, Source
from gluon_fgvc.data.folds import deal, pooled, with_fold
from gluon_fgvc.errors import ConfigError, DataError
from tests import small_run


def source_of(labels, units=None, tests=4):
    """Return a source whose last ``tests`` images are its test split."""
    labels = np.array(labels, np.int64)
    images = ImageSet('all', [f'{i}.png' for i in range(len(labels))], labels,
                      units=None if units is None else np.array(units))
    first = np.arange(len(labels) - tests)
    return Source(('a', 'b'), images.subset(first, 'train'), images.subset(np.arange(tests) + len(first), 'test'))


def test_every_image_is_tested_once_and_strata_are_even():
    source = source_of([0] * 23 + [1] * 11)
    tested = []
    for fold in range(5):
        split = with_fold(source, 5, fold, seed=3)
        assert not set(split.train.paths) & set(split.test.paths) and split.val is None
        assert len(split.train) + len(split.test) == 34 and (split.train.name, split.test.name) == ('train', 'test')
        assert [int(path[:-4]) >= 23 for path in split.test.paths] == split.test.labels.astype(bool).tolist()
        counts = np.bincount(split.test.labels)
        assert counts[0] in (4, 5) and counts[1] in (2, 3) and counts.sum() in (6, 7)
        tested += split.test.paths
    assert sorted(tested) == sorted(source.train.paths + source.test.paths)


def test_folds_depend_on_the_seed_alone():
    labels = [0, 1] * 20
    assert (deal(labels, 4, 0) == deal(labels, 4, 0)).all() and (deal(labels, 4, 0) != deal(labels, 4, 1)).any()
    assert np.bincount(deal(labels, 4, 0)).tolist() == [10] * 4


def test_units_stay_together_and_folds_stay_even():
    rng = np.random.RandomState(0)
    units = np.repeat(np.arange(60), rng.randint(1, 9, 60))
    labels = np.repeat(rng.randint(0, 2, 60), np.bincount(units))
    fold_of = deal(labels, 5, 0, units)
    assert all(len(set(fold_of[units == unit])) == 1 for unit in range(60))
    for label in 0, 1:  # a fold and another differ by no more than one unit of the largest size
        counts = np.bincount(fold_of[labels == label], minlength=5)
        assert counts.max() - counts.min() <= 8
    split = with_fold(source_of(labels, units), 5, 2, seed=0)
    assert not set(split.train.units) & set(split.test.units) and '60 units of them kept together' in split.notes[-1]


def test_a_class_that_cannot_be_in_both_is_named():
    with pytest.raises(DataError, match="class 'b' has 1 image, which cannot be in train and test"):
        with_fold(source_of([0] * 9 + [1]), 2, 0, 0)
    with pytest.raises(DataError, match="class 'a' has 1 unit of images"):
        with_fold(source_of([0] * 5 + [1] * 5, units=[0] * 5 + [1, 2, 3, 4, 5]), 2, 0, 0)


def test_pixels_follow_files_and_readers(tmp_path):
    rng = np.random.RandomState(0)
    shades = rng.randint(0, 256, 5).astype('uint8')
    files = [str(tmp_path / f'{i}.png') for i in range(3)]
    for path, shade in zip(files, shades):
        assert cv2.imwrite(path, np.full((2, 2, 3), shade))
    drawn = ImageSet('test', ['d3', 'd4'], np.array([0, 1]), reader=lambda row: np.full((2, 2, 3), shades[row + 3]))
    on_disk = ImageSet('train', files, np.array([0, 1, 0]))
    together = pooled([on_disk, drawn])
    order = [4, 0, 3, 2, 1]
    assert [together.subset(order).read(i)[0, 0, 0] for i in range(5)] == shades[order].tolist()
    assert pooled([on_disk, on_disk]).reader is None  # files stay files, which loaders read in parts


def test_a_folder_of_photographs_in_folds(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path, train=16, test=4))
    options = data.options('image_folder')('images')
    build = {fold: data.build(config.DataConfig('image_folder', folds=5, fold=fold, val_fraction=0.25, options=options))
             for fold in range(5)}
    assert sum(len(source.test) for source in build.values()) == 20
    assert len({path for source in build.values() for path in source.test.paths}) == 20
    assert {len(source.val) for source in build.values()} == {4}
    assert 'the test split is fold 1 of 0 to 4 of all 20 images' in build[1].notes[-1]


@pytest.mark.parametrize('keys, says', [
    (dict(fold=0), "fold 0 is not below folds, 0; set data.folds"), (dict(folds=1, fold=0), 'folds is 1'),
    (dict(folds=5), 'fold is not given; set it to 0 to 4'), (dict(folds=5, fold=5), 'not one of the 5 folds, 0 to 4')])
def test_fold_and_folds_go_together(keys, says):
    with pytest.raises(ValueError, match=says):
        config.DataConfig('image_folder', **keys)


def test_a_data_set_with_folds_of_its_own():
    tree = {'name': 'adience', 'fold': 3}
    cfg = config.data_from_tree(tree, data.options)
    assert cfg.options.fold == 3 and cfg.fold is None and config.to_tree(cfg)['fold'] == 3
    with pytest.raises(ConfigError, match="data set 'adience' brings folds of its own"):
        config.data_from_tree({**tree, 'folds': 5}, data.options)

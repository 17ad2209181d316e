import dataclasses

import numpy as np
import pytest

from gluon_fgvc import config, data
from gluon_fgvc.data import ImageSet, Source
from gluon_fgvc.errors import ConfigError, DataError


@pytest.fixture
def build(monkeypatch):
    """build(labels by split, …) → data.build of a data set that reads these labels."""
    def make(train, test=(0, 1), val=None, classes=('a', 'b'), strata=None, **options):
        sets = {name: None if labels is None else
                ImageSet(name, [f'{name}{i}.png' for i in range(len(labels))], np.array(labels, dtype=np.int64),
                         strata=np.array(strata) if strata and name == 'train' else None)
                for name, labels in (('train', train), ('test', test), ('val', val))}

        class Fake:
            @staticmethod
            def read(_):
                return Source(tuple(classes), sets['train'], sets['test'], sets['val'])
        monkeypatch.setattr(data, '_dataset', lambda name: Fake)
        return data.build(config.DataConfig(name='fake', **options))
    return make


def test_every_data_set_declares_its_options():
    assert data.available() == [
        'adience', 'cifar10', 'cifar100', 'cluttered_mnist', 'cub200', 'elpv', 'hotdog', 'image_folder', 'inaturalist',
        'list_file', 'recordio', 'stanford_cars', 'stanford_dogs', 'uec_food100']
    own = {field.name for field in dataclasses.fields(config.DataConfig)}
    for name in data.available():
        fields = dataclasses.fields(data.options(name))
        assert fields and own & {field.name for field in fields} == ({'fold'} if name == 'adience' else set())
        assert all(field.metadata.get('doc') for field in fields)


@pytest.mark.parametrize('name, hint', [('elvp', "did you mean 'elpv'"), ('../elpv', 'allowed: adience, cifar10'),
                                        ('__init__', 'allowed')])
def test_unknown_data_set(name, hint):
    with pytest.raises(ConfigError, match=f"unknown data set '{name}'.*{hint}"):
        data.options(name)


def test_validation_is_carved_out_of_train(build):
    source = build([0] * 10 + [1] * 20, val_fraction=0.2)
    assert np.bincount(source.val.labels).tolist() == [2, 4] and np.bincount(source.train.labels).tolist() == [8, 16]
    assert source.val.name == 'val' and not set(source.val.paths) & set(source.train.paths)
    again, other = (build([0] * 10 + [1] * 20, val_fraction=0.2, val_seed=seed) for seed in (0, 1))
    assert again.val.paths == source.val.paths != other.val.paths


def test_strata_count_before_labels(build):
    source = build([0] * 8 + [1] * 8, strata=list('xxxxyyyy' * 2), val_fraction=0.25)
    assert sorted(source.val.strata) == ['x', 'x', 'y', 'y'] and sorted(source.train.strata) == ['x'] * 6 + ['y'] * 6


def test_own_validation_is_kept_and_none_is_possible(build):
    assert build([0, 1, 1], val=[1], val_fraction=0.5).val.paths == ['val0.png']
    assert build([0, 1, 1], val_fraction=0).val is None


def test_a_share_that_takes_nothing_is_said(build):
    with pytest.raises(ConfigError, match='data.val_fraction 0.1 takes no image out of the 4'):
        build([0, 0, 1, 1], val_fraction=0.1)


@pytest.mark.parametrize('labels, options, message', [
    ([0, 2], {}, r"train1.png: label 2 in split 'train' is not in 0..1"),
    ([0, -1], {}, r"label -1 in split 'train'"),
    ([0, 0, 0], {'val_fraction': 0}, "class 'b' has no image in split 'train'"),
    ([0, 0, 0, 1], {'val_fraction': 0.6}, "class 'b' has no image in split 'train'"),
    ([0, 1], {'test': [7]}, r"test0.png: label 7 in split 'test' is not in 0..1"),
    ([0, 1], {'test': []}, "split 'test' has no images"),
    ([0, 1], {'val': []}, "split 'val' has no images"),
])
def test_labels_are_checked(build, labels, options, message):
    with pytest.raises(DataError, match=message):
        build(labels, **options)

import hashlib
import importlib.util
import os

import numpy as np
import pytest

from gluon_fgvc import config, data
from gluon_fgvc.data.datasets import elpv
from gluon_fgvc.errors import ConfigError, DataError

needs_package = pytest.mark.skipif(importlib.util.find_spec('elpv_dataset') is None, reason='elpv-dataset is missing')

FIRST_TEST_CELLS = [4, 9, 16, 18, 21, 24, 31, 35]
TEST_CELLS_SHA256 = '157de45860d90d16e7da88bbf056a1c10bc1dd8c5c27f0afde47cddaac48e0cd'


def number(path):
    return int(os.path.basename(path)[4:8])


@needs_package
def test_counts_of_each_grade_and_type_are_as_published():
    source = elpv.read(elpv.Options(labels='grade_type'))
    counts = np.bincount(np.concatenate([source.train.labels, source.test.labels]))
    assert counts.tolist() == [588, 117, 56, 313, 920, 178, 50, 402]
    assert source.classes == ('mono 0', 'mono 1/3', 'mono 2/3', 'mono 1', 'poly 0', 'poly 1/3', 'poly 2/3', 'poly 1')
    # a quarter of each, halves to even: 147, 29, 14, 78, 230, 44, 12, 100
    assert np.bincount(source.test.labels).tolist() == [147, 29, 14, 78, 230, 44, 12, 100]
    assert all(os.path.isfile(path) for path in source.train.paths + source.test.paths)


@needs_package
def test_the_split_is_the_one_of_earlier_experiments():
    test = elpv.read(elpv.Options()).test
    assert [number(path) for path in test.paths[:8]] == FIRST_TEST_CELLS
    assert hashlib.sha256(','.join(str(number(path)) for path in test.paths).encode()).hexdigest() == TEST_CELLS_SHA256


@needs_package
def test_the_three_questions_agree():
    binary, grade, both = (elpv.read(elpv.Options(labels=name)) for name in ('binary', 'grade', 'grade_type'))
    assert binary.classes == ('functional', 'defective') and grade.classes == ('0', '1/3', '2/3', '1')
    assert binary.test.paths == grade.test.paths == both.test.paths
    np.testing.assert_array_equal(binary.test.labels, grade.test.labels >= 2)
    np.testing.assert_array_equal(grade.test.labels, both.test.labels % 4)
    assert binary.train.targets is None


@needs_package
def test_soft_labels_are_the_defect_probability():
    soft, grade = elpv.read(elpv.Options(soft_labels=True)).train, elpv.read(elpv.Options(labels='grade')).train
    np.testing.assert_allclose(soft.targets[:, 1], grade.labels / 3, atol=1e-6)
    np.testing.assert_allclose(soft.targets.sum(1), 1, atol=1e-6)
    assert soft.targets.dtype == np.float32 and soft.labels.dtype == np.int64


@needs_package
def test_validation_is_carved_by_grade_and_type_and_leaves_test_alone():
    tree = config.DataConfig(name='elpv', val_fraction=0.2, val_seed=1, options=elpv.Options())
    source, whole = data.build(tree), elpv.read(elpv.Options())
    assert source.test.paths == whole.test.paths
    assert sorted(source.train.paths + source.val.paths) == whole.train.paths
    rest, taken = data.stratified_split(whole.train.strata, 0.2, 1)
    assert source.val.paths == [whole.train.paths[i] for i in taken] and len(source.train) == len(rest)
    assert set(source.val.strata) == set(whole.train.strata)


@needs_package
def test_soft_labels_need_the_binary_question():
    tree = {'data': {'name': 'elpv', 'labels': 'grade', 'soft_labels': True}}
    with pytest.raises(ConfigError, match='soft_labels goes with labels: binary only'):
        config.from_tree(tree, data.options, None)


def test_a_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(DataError, match='pip install elpv-dataset'):
        elpv.read(elpv.Options())


@pytest.mark.parametrize('line', ['a.png 0.5 mono', 'a.png 1.0 amorphous', 'a.png 1.0', 'a.png x mono'])
def test_a_foreign_table_is_refused_with_its_line(tmp_path, monkeypatch, line):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data' / 'labels.csv').write_text(f'images/cell0001.png  1.0  mono\n{line}\n')
    spec = importlib.util.spec_from_file_location('elpv_dataset', tmp_path / '__init__.py',
                                                  submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: spec)
    with pytest.raises(DataError, match='labels.csv, line 2'):
        elpv.read(elpv.Options())

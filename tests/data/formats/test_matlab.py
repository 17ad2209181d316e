"""MATLAB files that SciPy wrote, read by our own reader."""
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from gluon_fgvc.data.formats import matlab
from gluon_fgvc.errors import DataError

TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=0xd7ff), min_size=1, max_size=12)


def cells(values):
    array = np.empty((1, len(values)), object)
    array[0, :] = values
    return array


@given(texts=st.lists(TEXTS, min_size=2, max_size=5), dtype=st.sampled_from(['u1', 'i2', 'u4', 'i8', 'f4', 'f8']),
       numbers=st.lists(st.integers(0, 127), min_size=1, max_size=5), packed=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_scipy_writes_is_read(tmp_path, texts, dtype, numbers, packed):
    structures = np.empty((1, len(texts)), dtype=[('name', object), ('n', object)])
    for i, text in enumerate(texts):
        structures[0, i] = (text, np.array(i, dtype))
    savemat(tmp_path / 'a.mat', {'other': np.eye(2), 'cells': cells(texts), 'numbers': np.array(numbers, dtype),
                                 'all': structures, 'nested': cells([cells(['x']), 1])}, do_compression=packed)
    found = matlab.load(tmp_path / 'a.mat', 'numbers', 'cells', 'all', 'nested')
    assert found == [numbers if len(numbers) > 1 else numbers[0], texts,
                     {'name': texts, 'n': list(range(len(texts)))}, [['x'], 1]]
    assert matlab.field('a.mat', found[2], 'n', 'number') == list(range(len(texts)))
    assert matlab.column('a.mat', found[0], 'number') == numbers


def test_order_is_column_by_column(tmp_path):
    savemat(tmp_path / 'a.mat', {'x': np.array([[1, 2], [3, 4]])})
    assert matlab.load(tmp_path / 'a.mat', 'x') == [[1, 3, 2, 4]]


def test_empty_elements_are_no_text_and_no_number(tmp_path):
    savemat(tmp_path / 'a.mat', {'x': cells(['', np.zeros((0, 0))])})
    values, = matlab.load(tmp_path / 'a.mat', 'x')
    assert values == ['', []]
    for kind in ('text', 'number'):
        with pytest.raises(DataError, match="element 1: '' is not a"):
            matlab.column('a.mat', values, kind)


def test_depth_and_kinds_have_limits(tmp_path):
    deep = cells(['x'])
    for _ in range(20):
        deep = cells([deep, 1])
    savemat(tmp_path / 'a.mat', {'deep': deep, 'text': np.array(['ab', 'cd'])})
    with pytest.raises(DataError, match='nested more than 8 deep'):
        matlab.load(tmp_path / 'a.mat', 'deep')
    with pytest.raises(DataError, match='a text is not one line'):
        matlab.load(tmp_path / 'a.mat', 'text')
    with pytest.raises(DataError, match="has no variable 'y'"):
        matlab.load(tmp_path / 'a.mat', 'y')

"""Safetensors files are read as torch wrote them, and damaged ones are refused.

``files/all.safetensors`` was written by safetensors 0.8 and torch 2.13 through ``files/make.py``.
"""
import json
import os
import struct

import numpy as np
import pytest

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights import dump_safetensors, load, load_safetensors
from tests.weights.test_torch_state import FILES, GOLDEN


def test_reads_what_torch_saved():
    path = os.path.join(FILES, 'all.safetensors')
    for read in (load, load_safetensors):
        arrays = read(path)
        assert set(arrays) == set(GOLDEN)
        for name, golden in GOLDEN.items():
            assert arrays[name].dtype == golden.dtype
            np.testing.assert_array_equal(arrays[name], golden)


def test_what_is_written_by_hand(tmp_path):
    """The layout as the format's description gives it: length, header, data."""
    header = json.dumps({'w': {'dtype': 'F32', 'shape': [2, 1], 'data_offsets': [0, 8]}}).encode()
    path = tmp_path / 'x.safetensors'
    path.write_bytes(struct.pack('<Q', len(header)) + header + struct.pack('<ff', 1.5, -2))
    np.testing.assert_array_equal(load(str(path))['w'], np.array([[1.5], [-2]], 'float32'))


def test_writes_what_it_reads(tmp_path):
    arrays = {'a.weight': np.arange(6, dtype='float32').reshape(2, 3).T, 'b': np.array([7], 'int64')}
    (tmp_path / 'x').write_bytes(dump_safetensors(arrays))
    for name, array in load(str(tmp_path / 'x')).items():
        np.testing.assert_array_equal(array, arrays[name])


def file_of(header, data=b''):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + data


def tensor(shape, start, end, dtype='F32'):
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [start, end]}


@pytest.mark.parametrize('data, words', [
    (b'', 'too small'),
    (file_of({'a': tensor([2], 0, 8)}, bytes(4)), 'not fully covered'),
    (file_of({'a': tensor([2], 0, 8)}, bytes(9)), 'not fully covered'),
    (file_of({}), 'no tensors'),
    (file_of({'a': tensor([1 << 40, 1 << 40], 0, 4)}, bytes(4)), 'overflow'),
    (file_of({'a': tensor([1 << 30], 0, 4)}, bytes(4)), 'invalid shape'),
    (file_of({'a': tensor([0, 1 << 62, 1 << 62], 0, 0)}), 'too big'),
    (file_of({'a': tensor([1], 0, 4), 'b': tensor([1], 0, 4)}, bytes(4)), 'offset'),
    (file_of({'a': tensor([1], 4, 8)}, bytes(8)), 'offset'),
    (file_of({'a': tensor([-1], 0, 4)}, bytes(4)), 'JSON'),
    (file_of({'a': tensor([4], 0, 4, 'F8_E4M3')}, bytes(4)), 'numpy does not have'),
    (file_of({'a': tensor([1], 0, 4)}, struct.pack('<f', np.nan)), "'a' that are not finite"),
    (file_of({'a\x1b[2J\n': tensor([1], 0, 4)}, bytes(4)), 'not text'),
    (file_of({'a' * 400: tensor([1], 0, 4)}, bytes(4)), 'not text'),
    (file_of(b'{"a":' * 100_000), 'recursion'),
    (file_of(b'{' + b' ' * (5 << 20) + b'}'), 'header of more than'),
    (struct.pack('<Q', 1 << 60) + b'{}', 'header of more than'),
    (struct.pack('<Q', 1 << 20) + b'{}', 'invalid header length'),
])
def test_damaged_files_are_refused(tmp_path, data, words):
    path = tmp_path / 'damaged.safetensors'
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        load_safetensors(str(path))
    assert str(path) in str(caught.value) and words in str(caught.value) and '\n' not in str(caught.value)


def test_every_truncation_is_refused(tmp_path):
    data = dump_safetensors({'a': np.ones((2, 3), 'float32'), 'b': np.zeros(1, 'float32')})
    for length in range(len(data)):
        (tmp_path / 'x').write_bytes(data[:length])
        with pytest.raises(WeightsError):
            load(str(tmp_path / 'x'))


def test_missing_file(tmp_path):
    for read in (load, load_safetensors):
        with pytest.raises(WeightsError, match='No such file'):
            read(str(tmp_path / 'absent.safetensors'))

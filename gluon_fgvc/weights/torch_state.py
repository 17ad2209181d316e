"""Read PyTorch state dicts without PyTorch and without executing what is pickled in them.

A torch file is a pickle whose tensors refer to *storages*: raw bytes kept beside it, in the same
file (legacy format, torch < 1.6) or as entries of a zip archive. A pickle is a program; this one
is interpreted (:mod:`gluon_fgvc.pickles`) and knows three functions and the kinds of storages;
whatever else is asked for is refused by name.
"""
import io
import os
import struct
import zipfile
from collections import OrderedDict

import numpy as np

from gluon_fgvc import pickles
from gluon_fgvc.errors import WeightsError
from gluon_fgvc.pickles import Refused

_LEGACY_MAGIC = 0x1950a86a20f9469cfc6c
_LEGACY_PROTOCOL = 1001
_COPIES = 3  # tensors may share a storage, but copies of all may not exceed this times the file

_STORAGES = {'torch.DoubleStorage': '<f8', 'torch.FloatStorage': '<f4', 'torch.HalfStorage': '<f2',
             'torch.BFloat16Storage': 'bfloat16', 'torch.LongStorage': '<i8', 'torch.IntStorage': '<i4',
             'torch.ShortStorage': '<i2', 'torch.CharStorage': 'i1', 'torch.ByteStorage': 'u1',
             'torch.BoolStorage': '?'}


def load_torch(path):
    """Return the tensors of the torch state dict at ``path``: dict of name → numpy array.

    The legacy and the zip format are read. A state dict inside ``{'state_dict': …}`` (or ``model``,
    ``model_state_dict``) is unwrapped, and the prefix ``module.`` that DataParallel puts before every
    name is removed. bfloat16 becomes float32; other types are kept. Memory stays below four times the
    size of the file (and at worst 60 MB for what describes the tensors).

    :raises WeightsError: if the file is missing, truncated, damaged, not a state dict, holds values that
        are not finite, or names a function other than those that build tensors.
    """
    try:
        size = os.path.getsize(path)
        with open(path, 'rb') as stream:
            archive = stream.read(4) == b'PK\x03\x04'
            stream.seek(0)
            content = _read_zip(stream, size) if archive else _read_legacy(pickles.Bounded(stream, size))
        return _arrays(_state_dict(content), _COPIES * size)
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror or error}") from None
    except Refused as error:
        remedy = '; save a plain state_dict()' if isinstance(error, pickles.UnknownName) else ''
        reason = ''.join(letter if letter.isprintable() else '?' for letter in f'{error}{remedy}')
        raise WeightsError(f"torch file '{path}': {reason[:300]}") from None


# --- the two containers ------------------------------------------------------------------------

def _read_legacy(stream):
    """Four pickles (magic, version, machine, content), one of storage keys, then the storages."""
    if _load(stream) != _LEGACY_MAGIC:
        raise Refused('is neither a legacy nor a zip torch file')
    if _load(stream) != _LEGACY_PROTOCOL:
        raise Refused(f'has a legacy protocol other than {_LEGACY_PROTOCOL}')
    machine = _load(stream)
    if not isinstance(machine, dict) or machine.get('little_endian') is not True:
        raise Refused('was written on a big-endian machine')
    storages = {}
    content = _load(stream, storages)
    keys = _load(stream)
    if not isinstance(keys, list) or set(map(str, keys)) != set(storages) or len(keys) != len(storages):
        raise Refused('is damaged: its list of storages does not fit its tensors')
    for key in keys:
        storage = storages[key]
        count, = struct.unpack('<q', stream.read(8))
        if count != storage.count:
            raise Refused(f"is damaged: storage '{key}' has {count} elements where {storage.count} are announced")
        storage.fill(stream.read(storage.nbytes))
    return content


def _read_zip(stream, size):
    """``<name>/data.pkl`` beside ``<name>/data/<key>``, all stored without compression."""
    try:
        with zipfile.ZipFile(stream) as archive:
            entries = {info.filename: info for info in archive.infolist()}
            packed = [info for info in entries.values() if info.compress_type != zipfile.ZIP_STORED]
            if packed or sum(info.file_size for info in entries.values()) > size:
                raise Refused('is damaged: its archive claims more bytes than the file has')
            found = [name for name in entries if name.split('/')[1:] == ['data.pkl']]
            if len(found) != 1:
                raise Refused('is a zip archive without data.pkl, not a torch file')
            folder = found[0][:-len('data.pkl')]
            if folder + 'byteorder' in entries and archive.read(folder + 'byteorder') != b'little':
                raise Refused('was written on a big-endian machine')
            pickled, storages = archive.read(found[0]), {}
            content = _load(pickles.Bounded(io.BytesIO(pickled), len(pickled)), storages)
            for key, storage in storages.items():
                entry = entries.get(f'{folder}data/{key}')
                if entry is None or entry.file_size != storage.nbytes:
                    raise Refused(f"is damaged: storage '{key}' is missing or of another size than announced")
                storage.fill(archive.read(entry))  # also checks the CRC
            return content
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError, struct.error) as error:
        raise Refused(f'is truncated or damaged: {error}') from None


# --- the pickle --------------------------------------------------------------------------------

class _Storage:
    """A flat run of ``count`` elements whose bytes are read after the pickle that mentions it."""

    def __init__(self, kind, count):
        self.kind, self.count = kind, count
        self.nbytes = count * (2 if kind == 'bfloat16' else np.dtype(kind).itemsize)

    def fill(self, data):
        if self.kind == 'bfloat16':  # the upper half of a float32
            self.values = (np.frombuffer(data, '<u2').astype('<u4') << 16).view('<f4')
        else:
            self.values = np.frombuffer(data, self.kind)


class _Tensor:
    """A strided view of a storage, checked against it before any array is made."""

    def __init__(self, storage, offset, shape, strides, requires_grad=False, hooks=None, metadata=None):
        numbers = (offset, *shape, *strides)
        if not isinstance(storage, _Storage) or not all(isinstance(n, int) and n >= 0 for n in numbers):
            raise TypeError('tensor of something else than a storage and sizes')
        if len(shape) != len(strides) or len(shape) > 32:
            raise TypeError('tensor whose shape and strides differ in length')
        self.storage, self.offset, self.shape, self.strides = storage, offset, shape, strides
        self.size = 1
        for n in shape:
            self.size *= n
        last = offset + sum((n - 1) * stride for n, stride in zip(shape, strides))
        if self.size and last >= storage.count:
            raise TypeError(f'tensor of shape {shape} that reaches beyond its storage')

    @property
    def nbytes(self):
        return self.size * (4 if self.storage.kind == 'bfloat16' else np.dtype(self.storage.kind).itemsize)

    def array(self):
        """A contiguous copy, so that no array keeps a larger storage alive."""
        values = self.storage.values
        if not self.size:
            return np.zeros(self.shape, values.dtype)
        strides = [stride * values.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values[self.offset:], self.shape, strides).copy(order='C')


def _rebuild_parameter(tensor, requires_grad=False, hooks=None):
    if not isinstance(tensor, _Tensor):
        raise TypeError('parameter of something else than a tensor')
    return tensor


class _Dictionary(OrderedDict):
    """What ``collections.OrderedDict`` is replaced by."""

    def __init__(self, items=()):
        super().__init__((pickles.check_key(key), value) for key, value in items)

    def build(self, state):
        """Attributes such as a state dict's _metadata, of no use here."""


_DIALECT = pickles.Dialect(
    contents='tensors',
    opcodes=pickles.COMMON | {'BINFLOAT', 'BINPERSID'},
    names={'collections.OrderedDict': _Dictionary, 'torch._utils._rebuild_tensor_v2': _Tensor,
           'torch._utils._rebuild_parameter': _rebuild_parameter, **dict.fromkeys(_STORAGES)},
    max_steps=500_000)  # a state dict takes about 40 a tensor


def _load(stream, storages=None):
    """Return the value of one pickle from ``stream``; ``storages`` collects key → _Storage."""
    storages = {} if storages is None else storages
    return pickles.load(stream, _DIALECT, lambda identifier: _storage(identifier, storages))


def _storage(identifier, storages):
    """Return the storage that ``('storage', kind, key, device, count[, view])`` stands for."""
    tag, kind, key, _, count, *view = identifier
    if tag != 'storage' or not isinstance(kind, pickles.Name) or kind.name not in _STORAGES or view not in ([], [None]):
        raise TypeError('reference to something else than a storage')
    if not isinstance(key, str) or not isinstance(count, int) or count < 0:
        raise TypeError('storage with a malformed key or size')
    storage = storages.setdefault(key, _Storage(_STORAGES[kind.name], count))
    if (storage.kind, storage.count) != (_STORAGES[kind.name], count):
        raise TypeError(f"storage '{key}' announced twice with different sizes")
    return storage


# --- the state dict ----------------------------------------------------------------------------

def _state_dict(content):
    """Return the mapping name → _Tensor inside what was saved."""
    for wrapper in ('state_dict', 'model_state_dict', 'model'):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
            break
    if not isinstance(content, dict) or not content:
        raise Refused('holds no state dict')
    for name, value in content.items():
        if not isinstance(name, str) or not name.isprintable() or not isinstance(value, _Tensor):
            raise Refused(f"holds no state dict: '{name}' is not a named tensor")
    if all(name.startswith('module.') for name in content):
        content = {name[len('module.'):]: tensor for name, tensor in content.items()}
    return content


def _arrays(tensors, limit):
    total = sum(tensor.nbytes for tensor in tensors.values())
    if total > limit:
        raise Refused(f'is damaged: {total} bytes of tensors are more than {_COPIES} times the file')
    try:
        arrays = {name: tensor.array() for name, tensor in tensors.items()}
    except (ValueError, OverflowError) as error:  # numpy's own limits on a shape
        raise Refused(f'is damaged: {error}') from None
    for name, array in arrays.items():
        if array.dtype.kind == 'f' and not np.isfinite(array).all():
            raise Refused(f"has values in '{name}' that are not finite")
    return arrays

"""Read and write MXNet ``.params`` files, checking every size before it is believed.

The format has no checksum, and MXNet's own reader trusts the lengths it finds. All files since
MXNet 0.8 are read: dense arrays of the current, the V1 and the nameless first layout.
"""
import struct

import numpy as np

from gluon_fgvc.errors import WeightsError

_MAGIC = 0x112
_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA
_DTYPES = {0: '<f4', 1: '<f8', 2: '<f2', 3: 'u1', 4: '<i4', 5: 'i1', 6: '<i8', 7: '?'}


class _Damaged(Exception):
    """What is wrong with the file; ``load_params`` adds the path."""


class _Cursor:
    """Takes numbers and slices off a bytes object, never beyond its end."""

    def __init__(self, data):
        self.data, self.at = data, 0

    @property
    def left(self):
        return len(self.data) - self.at

    def take(self, count):
        if count > self.left:
            raise _Damaged('is truncated')
        self.at += count
        return self.data[self.at - count:self.at]

    def numbers(self, layout):
        values = struct.unpack('<' + layout, self.take(struct.calcsize('<' + layout)))
        return values if len(values) > 1 else values[0]

    def count(self, least):
        """A count of things of at least ``least`` bytes each."""
        count = self.numbers('Q')
        if count * least > self.left:
            raise _Damaged(f'is damaged or truncated: {count} entries do not fit into it')
        return count


def is_params(head):
    """Whether a file that begins with the bytes ``head`` is a ``.params`` file."""
    return head[:8] == struct.pack('<Q', _MAGIC)


def load_params(path):
    """Return the arrays of the ``.params`` file at ``path``: dict of name → numpy array (read-only).

    The prefixes ``arg:`` and ``aux:`` of exported files are removed.

    :raises WeightsError: if the file is missing, truncated, damaged, or holds unnamed or sparse arrays.
    """
    try:
        with open(path, 'rb') as stream:
            cursor = _Cursor(memoryview(stream.read()))
        return _read(cursor)
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror}") from None
    except _Damaged as error:
        raise WeightsError(f"parameter file '{path}' {error}") from None


def _read(cursor):
    if not is_params(bytes(cursor.data[:8])):
        raise _Damaged('is not an MXNet parameter file')
    cursor.take(16)  # magic and a reserved word
    arrays = [_array(cursor) for _ in range(cursor.count(least=8))]
    names = [_name(cursor) for _ in range(cursor.count(least=8))]
    if len(names) != len(arrays):
        raise _Damaged(f'is damaged or a plain list: {len(arrays)} arrays with {len(names)} names')
    if len(set(names)) != len(names):
        raise _Damaged('is damaged: a name occurs twice')
    if cursor.left:
        raise _Damaged(f'is damaged: {cursor.left} bytes follow its end')
    return dict(zip(names, arrays))


def _array(cursor):
    magic = cursor.numbers('I')
    if magic in (_V2, _V3) and cursor.numbers('i') != 0:
        raise _Damaged('is damaged or holds sparse arrays')
    rank = cursor.numbers('i') if magic in (_V1, _V2, _V3) else magic  # the first layout has no magic
    if not 0 <= rank <= 32 or rank == 0 and magic != _V3:
        raise _Damaged(f'is damaged: an array has {rank} dimensions')
    width = 'q' if magic in (_V1, _V2, _V3) else 'I'
    shape = tuple(cursor.numbers(width) for _ in range(rank))
    cursor.take(8)  # the device it was saved from
    dtype = _DTYPES.get(cursor.numbers('i'))
    if dtype is None:
        raise _Damaged('is damaged: an array has an unknown type')
    size = 1
    for side in shape:
        size *= side
    if min(shape, default=1) <= 0:
        raise _Damaged(f'is damaged: an array has the shape {shape}')
    return np.frombuffer(cursor.take(size * np.dtype(dtype).itemsize), dtype).reshape(shape)


def _name(cursor):
    try:
        name = bytes(cursor.take(cursor.numbers('Q'))).decode()
    except UnicodeDecodeError:
        name = '\0'
    if not name.isprintable() or len(name) > 300:
        raise _Damaged('is damaged: a name is not text')
    return name[4:] if name.startswith(('arg:', 'aux:')) else name


def dump_params(arrays):
    """Return ``arrays``, dict of name → numpy array, as the bytes of a ``.params`` file of the current layout.

    Unlike ``mx.nd.save`` this leaves the writing, and so the care for full disks, to the caller.
    """
    codes = {np.dtype(layout): code for code, layout in _DTYPES.items()}
    parts = [struct.pack('<QQQ', _MAGIC, 0, len(arrays))]
    for array in arrays.values():
        # dense, rank, sides, saved from cpu(0), type
        parts.append(struct.pack(f'<Iii{array.ndim}qiii', _V2, 0, array.ndim, *array.shape, 1, 0, codes[array.dtype]))
        parts.append(array.tobytes())
    parts.append(struct.pack('<Q', len(arrays)))
    for name in map(str.encode, arrays):
        parts += [struct.pack('<Q', len(name)), name]
    return b''.join(parts)

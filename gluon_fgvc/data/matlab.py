"""MATLAB files (version 5 to 7) of annotations, read by SciPy after a look at what they unpack to."""
import os
import struct
import zlib

import numpy as np
from scipy import io

from gluon_fgvc.errors import DataError

MAX_FILE, MAX_UNPACKED, MAX_ELEMENTS = 64 * 2 ** 20, 512 * 2 ** 20, 2 ** 20
_HEADER, _COMPRESSED, _CHUNK = 128, 15, 2 ** 20


def load(path, *names):
    """Return the variables ``names`` of the file at ``path``, with dimensions of length 1 left out.

    Cells and structures become object arrays and structured arrays.

    :raises DataError: if the file is missing, damaged, too large, or lacks one of the variables.
    """
    try:
        _check_size(path)
        too_large = [name for name, shape, _ in io.whosmat(path) if np.prod(shape, dtype=float) > MAX_ELEMENTS]
        if too_large:
            raise ValueError(f"variable '{too_large[0]}' has more than {MAX_ELEMENTS:,} elements")
        variables = io.loadmat(path, variable_names=names, squeeze_me=True)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror or error}") from None
    except Exception as error:  # SciPy's own kinds are not all named: damage shows as whatever it stumbles over
        raise DataError(f"'{path}' is not a MATLAB file of version 5 to 7, or damaged: "
                        f"{' '.join(str(error).split()) or type(error).__name__}") from None
    for name in names:
        if name not in variables:
            raise DataError(f"'{path}' has no variable '{name}'")
    return [variables[name] for name in names]


def column(path, values, kind):
    """Return a cell array, a field of a structure array or a vector as a list of ``kind``, 'text' or 'number'.

    :raises DataError: at an element of another kind.
    """
    result = []
    for number, element in enumerate(np.atleast_1d(values).ravel().tolist(), 1):
        element = element.item() if isinstance(element, np.generic) else element
        if kind == 'text' and isinstance(element, str) and element:
            result.append(element)
        elif kind == 'number' and isinstance(element, (int, float)) and float(element).is_integer():
            result.append(int(element))
        else:
            raise DataError(f"'{path}', element {number}: {str(element)[:60]!r} is not "
                            f"{'a text' if kind == 'text' else 'a whole number'}")
    return result


def field(path, structures, name, kind):
    """Return field ``name`` of a structure array as :func:`column` does."""
    if structures.dtype.names is None or name not in structures.dtype.names:
        raise DataError(f"'{path}': its annotations have no field '{name}'")
    return column(path, structures[name], kind)


def _check_size(path):
    """Walk the elements of the file; what is compressed may not grow without limit."""
    if os.path.getsize(path) > MAX_FILE:
        raise ValueError(f'more than {MAX_FILE:,} bytes')
    with open(path, 'rb') as stream:
        content = stream.read()
    order = {b'IM': '<', b'MI': '>'}.get(content[_HEADER - 2:_HEADER])
    if order is None:
        raise ValueError('no header of version 5')
    position, unpacked = _HEADER, 0
    while position < len(content):
        kind, length = struct.unpack_from(f'{order}II', content, position)
        position += 8
        if length > len(content) - position:
            raise ValueError('truncated')
        unpacked += _unpacked_size(content[position:position + length], MAX_UNPACKED - unpacked) \
            if kind == _COMPRESSED else length
        if unpacked > MAX_UNPACKED:
            raise ValueError(f'unpacks to more than {MAX_UNPACKED:,} bytes')
        position += length


def _unpacked_size(data, limit):
    """Return how many bytes zlib ``data`` unpacks to, or something above ``limit``."""
    stream, size = zlib.decompressobj(), 0
    while data and not stream.eof and size <= limit:
        size += len(stream.decompress(data, _CHUNK))
        data = stream.unconsumed_tail
    return size

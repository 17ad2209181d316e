"""Read and write ``.safetensors`` files: a JSON header of names, types, shapes and offsets, then the bytes.

The package ``safetensors`` checks the header (offsets in order, without overlap or gap, sizes that fit
the shapes); here are the checks that depend on what the arrays are for.
"""
import struct

import numpy as np
import safetensors
import safetensors.numpy

from gluon_fgvc.errors import WeightsError

_DTYPES = {'F64': '<f8', 'F32': '<f4', 'F16': '<f2', 'BF16': '<u2', 'I64': '<i8', 'I32': '<i4', 'I16': '<i2',
           'I8': 'i1', 'U8': 'u1', 'BOOL': 'u1'}
_MAX_HEADER = 4 << 20  # bytes, some 40,000 tensors: what describes them takes several times this in memory


def is_safetensors(head):
    """Whether a file that begins with the bytes ``head`` (9 or more) may be a safetensors file."""
    return head[8:9] == b'{'


def load_safetensors(path):
    """Return the arrays of the safetensors file at ``path``: dict of name → numpy array.

    bfloat16 becomes float32; other types are kept.

    :raises WeightsError: if the file is missing, truncated, damaged, holds nothing, a type that numpy does
        not have, values that are not finite or names that are not text.
    """
    try:
        with open(path, 'rb') as stream:
            data = stream.read()
        if len(data) >= 8 and struct.unpack('<Q', data[:8])[0] > _MAX_HEADER:
            raise ValueError(f'has a header of more than {_MAX_HEADER} bytes, or is no safetensors file')
        arrays = {name: _array(name, tensor) for name, tensor in safetensors.deserialize(data)}
        if not arrays:
            raise ValueError('holds no tensors')
        return arrays
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror}") from None
    except (safetensors.SafetensorError, ValueError) as error:
        reason = ''.join(letter if letter.isprintable() else '?' for letter in str(error))
        raise WeightsError(f"safetensors file '{path}': {reason[:300]}") from None


def _array(name, tensor):
    if not name.isprintable() or len(name) > 300:
        raise ValueError('is damaged: a name is not text')
    kind = tensor['dtype']
    if kind not in _DTYPES:
        raise ValueError(f"holds '{name}' of type {kind}, which numpy does not have")
    values = np.frombuffer(tensor['data'], _DTYPES[kind]).reshape(tensor['shape'])
    if kind == 'BF16':  # the upper half of a float32
        values = (values.astype('<u4') << 16).view('<f4')
    elif kind == 'BOOL':
        values = values != 0
    if values.dtype.kind == 'f' and not np.isfinite(values).all():
        raise ValueError(f"has values in '{name}' that are not finite")
    return values


def dump_safetensors(arrays):
    """Return ``arrays``, dict of name → numpy array, as the bytes of a safetensors file that torch reads."""
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()},
                                  metadata={'format': 'pt'})  # transformers and timm ask for this word

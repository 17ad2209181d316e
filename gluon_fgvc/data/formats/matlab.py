"""Annotations in MATLAB files of version 5 to 7: cell arrays, structures, texts and numbers.

Not read by SciPy, whose reader ends the whole process with a segmentation fault at some damaged files. The format
is a sequence of elements, each a tag (type, length) with its content; an array is an element of elements.
"""
import math
import struct
import zlib

import numpy as np

from gluon_fgvc.errors import DataError

MAX_FILE, MAX_UNPACKED, MAX_DEPTH = 64 * 2 ** 20, 512 * 2 ** 20, 8
_HEADER = 128
_MATRIX, _COMPRESSED = 14, 15
_TYPES = {1: 'i1', 2: 'u1', 3: 'i2', 4: 'u2', 5: 'i4', 6: 'u4', 7: 'f4', 9: 'f8', 12: 'i8', 13: 'u8'}
_ENCODINGS = {1: 'latin-1', 2: 'latin-1', 4: 'utf-16', 16: 'utf-8', 17: 'utf-16', 18: 'utf-32'}
_CELL, _STRUCTURE, _TEXT, _NUMBERS = 1, 2, 4, range(6, 16)


class _Damaged(Exception):
    """Why the bytes are not what they should be."""


def load(path, *names):
    """Return the variables ``names`` of the file at ``path``.

    A cell array is a list, a structure array a dict of lists, one a field; numbers are a list of floats or integers,
    or one of them. Elements are in the order of MATLAB, column by column.

    :raises DataError: if the file is missing, damaged, too large, of another kind, or lacks one of the variables.
    """
    try:
        with open(path, 'rb') as stream:
            content = stream.read(MAX_FILE + 1)
        variables = dict(_variables(content, names))
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    except (_Damaged, UnicodeDecodeError, zlib.error, struct.error) as error:
        raise DataError(f"'{path}' is not a MATLAB file of version 5 to 7, or damaged: {error}") from None
    for name in names:
        if name not in variables:
            raise DataError(f"'{path}' has no variable '{name}'")
    return [variables[name] for name in names]


def column(path, values, kind):
    """Return the elements of a cell array, field or vector as a list of ``kind``, 'text' or 'number' (whole ones).

    :raises DataError: at an element of another kind.
    """
    result = []
    for number, element in enumerate(values if isinstance(values, list) else [values], 1):
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
    if not isinstance(structures, dict) or name not in structures:
        raise DataError(f"'{path}': its annotations have no field '{name}'")
    return column(path, structures[name], kind)


def _variables(content, names):
    if len(content) > MAX_FILE:
        raise _Damaged(f'more than {MAX_FILE:,} bytes')
    order = {b'IM': '<', b'MI': '>'}.get(content[_HEADER - 2:_HEADER])
    if order is None or not content[_HEADER:]:
        raise _Damaged('it has no header of version 5')
    left = MAX_UNPACKED
    for kind, data in _elements(memoryview(content)[_HEADER:], order):
        if kind == _COMPRESSED:
            stream = zlib.decompressobj()
            data = memoryview(stream.decompress(data, left))
            left -= len(data)
            if stream.unconsumed_tail or not left:
                raise _Damaged(f'it unpacks to more than {MAX_UNPACKED:,} bytes')
            kind, data = next(_elements(data, order), (None, None))
        if kind == _MATRIX:
            name, value = _array(data, order, 0, names)
            if name in names:
                yield name, value


def _elements(data, order):
    """Yield (type, content) of each element."""
    position = 0
    while position < len(data):
        kind, length = struct.unpack_from(f'{order}II', data, position)
        start = position + 8
        if kind >> 16:  # a short element has its content within the tag
            kind, length, start = kind & 0xffff, kind >> 16, position + 4
            if length > 4:
                raise _Damaged('a short element is too long')
        if length > len(data) - start:
            raise _Damaged('it is truncated')
        yield kind, data[start:start + length]
        position = start + length
        if kind != _COMPRESSED:
            position += -position % 8


def _array(data, order, depth, names=None):
    """Return (name, value) of an array; the value is None if ``names`` are given and its is not among them."""
    if not len(data):  # how MATLAB writes an empty element
        return '', []
    if depth > MAX_DEPTH:
        raise _Damaged(f'arrays are nested more than {MAX_DEPTH} deep')
    elements = _elements(data, order)

    def numbers(what):
        kind, content = next(elements, (None, b''))
        if kind not in _TYPES or len(content) % np.dtype(_TYPES[kind]).itemsize:
            raise _Damaged(f'an array has no {what}')
        return np.frombuffer(content, order + _TYPES[kind]).tolist()

    def letters(what):
        kind, content = next(elements, (None, b''))
        if kind not in (1, 2, 16):
            raise _Damaged(f'an array has no {what}')
        return bytes(content)

    flags, shape, name = numbers('flags'), numbers('shape'), letters('name').decode('latin-1')
    if not flags or not isinstance(flags[0], int) or not all(isinstance(n, int) and n >= 0 for n in shape):
        raise _Damaged('an array has no type or shape')
    kind, count = flags[0] & 0xff, math.prod(shape)
    if names is not None and name not in names:
        return name, None
    if kind == _CELL:
        return name, _arrays(elements, order, depth, count)
    if kind == _STRUCTURE:
        width, text = numbers('length of names'), letters('names of fields')
        if len(width) != 1 or not isinstance(width[0], int) or width[0] < 1:
            raise _Damaged('a structure has no names')
        fields = [text[i:i + width[0]].split(b'\0')[0].decode('latin-1') for i in range(0, len(text), width[0])]
        values = _arrays(elements, order, depth, count * len(fields))
        return name, {key: values[i::len(fields)] for i, key in enumerate(fields)}
    if kind == _TEXT:
        return name, _text(elements, order, shape)
    if kind in _NUMBERS:
        values = numbers('numbers')
        if len(values) != count:
            raise _Damaged(f'an array of {count} numbers has {len(values)}')
        return name, values[0] if count == 1 else values
    raise _Damaged(f'arrays of class {kind} are not read')


def _arrays(elements, order, depth, count):
    values = []
    for kind, data in elements:
        if kind != _MATRIX or len(values) == count:
            raise _Damaged('an array has another number of elements than it says')
        values.append(_array(data, order, depth + 1)[1])
    if len(values) != count:
        raise _Damaged('an array has another number of elements than it says')
    return values


def _text(elements, order, shape):
    if not math.prod(shape):
        return ''
    kind, content = next(elements, (None, b''))
    if kind not in _ENCODINGS or len(shape) != 2 or shape[0] != 1:
        raise _Damaged('a text is not one line')
    encoding = _ENCODINGS[kind]
    return bytes(content).decode(encoding + ('' if encoding in ('latin-1', 'utf-8') else
                                             '-le' if order == '<' else '-be'))

"""The files of CIFAR-10 and CIFAR-100, in their two kinds: Python pickles and binary rows.

A pickle is a program that Python's unpickler would run. These are arrays and lists, so of all that a pickle can
name only the three functions that make an array are known, and they are replaced by ones of our own that
remember and do nothing.
"""
import io
import pickle
import pickletools
from dataclasses import dataclass
from typing import Dict, List

import numpy as np

from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.data.formats import annotations
from gluon_fgvc.data.readers import Arrays, numbered
from gluon_fgvc.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
TRAIN, TEST = 50000, 10000
MAX_BYTES, MAX_STEPS, MAX_TUPLES = 2 ** 28, 2 ** 20, 20  # an array takes six tuples; the hash of a nest takes for ever


@dataclass
class Split:
    """The images (N,32,32,3) uint8 of one split, labels (N,) int64 by their name, and names of the images."""

    name: str
    images: np.ndarray
    labels: Dict[str, np.ndarray]
    paths: List[str]


def image_set(split, key):
    """Return a :class:`Split` as an image set with the labels called ``key``."""
    return ImageSet(split.name, split.paths, split.labels[key], reader=Arrays(split.images))


def check(root, complete, classes, num_classes, train, test):
    """Check the numbers against the published ones, unless ``complete`` is false.

    :raises DataError: if they differ.
    """
    annotations.check_counts(root, complete, classes=(len(classes), num_classes),
                             training_images=(len(train.images), TRAIN), test_images=(len(test.images), TEST))


def groups(root, train, fine, coarse):
    """Return the super-class of each fine class, as the training labels pair them.

    :raises DataError: if a class is without images or in two super-classes.
    """
    pairs = {(int(f), int(c)) for f, c in zip(train.labels['fine_labels'], train.labels['coarse_labels'])}
    group_of = dict(pairs)
    if len(pairs) != len(group_of) or group_of.keys() != set(range(len(fine))) or max(group_of.values()) >= len(coarse):
        raise DataError(f"'{root}': its coarse labels do not give each of {len(fine)} fine classes one of "
                        f'{len(coarse)} super-classes')
    return tuple(coarse[group_of[k]] for k in range(len(fine)))


def read_binary(name, paths, labels):
    """Read rows of one byte for each of ``labels``, then 3072 of pixels.

    :raises DataError: if a file cannot be read or is not made of such rows.
    """
    rows, names = [], []
    for path in paths:
        data, width = np.frombuffer(_bytes(path), np.uint8), len(labels) + PIXELS
        if not len(data) or len(data) % width:
            raise DataError(f"'{path}' has {len(data):,} bytes, not a multiple of {width:,}; it is cut short or no "
                            'binary file of CIFAR')
        rows.append(data.reshape(-1, width))
        names += numbered(path, len(rows[-1]))
    rows = np.concatenate(rows)
    return Split(name, _images(rows[:, len(labels):]), {label: rows[:, i].astype(np.int64)
                                                        for i, label in enumerate(labels)}, names)


def read_pickles(name, paths, labels):
    """Read pickled dicts of ``data`` (n,3072) uint8 and, for each of ``labels``, a list of n integers.

    :raises DataError: if a file cannot be read, is no such dict or asks for anything else.
    """
    parts = [_load(path) for path in paths]
    names = []
    for path, part in zip(paths, parts):
        data = part.get('data')
        if not isinstance(data, _Array) or data.values is None or data.values.shape[1:] != (PIXELS,):
            raise DataError(f"'{path}' has no 'data' of {PIXELS:,} bytes an image")
        count = len(data.values)
        for label in labels:
            values = part.get(label)
            if not isinstance(values, list) or len(values) != count or not all(
                    isinstance(value, int) and 0 <= value < 256 for value in values):
                raise DataError(f"'{path}' has no list '{label}' of {count:,} class indices")
        names += numbered(path, count)
    return Split(name, _images(np.concatenate([part['data'].values for part in parts])),
                 {label: np.array([value for part in parts for value in part[label]], np.int64) for label in labels},
                 names)


def read_names(path, key):
    """Return the list of names called ``key`` in a pickled dict as a tuple."""
    names = _load(path).get(key)
    if not isinstance(names, list) or not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"'{path}' has no list '{key}' of class names")
    return tuple(names)


def _images(rows):
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _bytes(path):
    try:
        with open(path, 'rb') as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise DataError(f"'{path}' has more than {MAX_BYTES:,} bytes; it is no file of CIFAR")
    return data


# --- the pickle ------------------------------------------------------------------------------

_TUPLES = {'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3'}
_OPCODES = _TUPLES | {
    'PROTO', 'FRAME', 'STOP', 'MARK', 'NONE', 'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1',
    'SHORT_BINSTRING', 'BINSTRING', 'SHORT_BINBYTES', 'BINBYTES', 'SHORT_BINUNICODE', 'BINUNICODE', 'EMPTY_TUPLE',
    'EMPTY_LIST', 'EMPTY_DICT', 'APPEND', 'APPENDS', 'SETITEM', 'SETITEMS', 'BINPUT', 'LONG_BINPUT', 'BINGET',
    'LONG_BINGET', 'MEMOIZE', 'GLOBAL', 'STACK_GLOBAL', 'REDUCE', 'BUILD'}


class _Array:
    """What ``numpy.core.multiarray._reconstruct`` is replaced by: an array of bytes, once its state is known."""

    values = None

    def __init__(self, *_):
        pass

    def __setstate__(self, state):
        _, shape, kind, by_columns, data = state
        data = data.encode('latin-1') if isinstance(data, str) else data  # a text is what Python 2 had for bytes
        if not isinstance(kind, _Kind) or by_columns or not isinstance(data, bytes):
            raise ValueError('array of another kind than bytes by rows')
        self.values = np.frombuffer(data, np.uint8).reshape(shape)


class _Kind:
    """What ``numpy.dtype`` is replaced by; only bytes will do."""

    def __init__(self, name, *_):
        if name not in ('u1', '|u1'):
            raise ValueError(f'array of type {name!r}, not of bytes')

    def __setstate__(self, state):
        pass


class _Unpickler(pickle.Unpickler):
    _KNOWN = {('numpy.core.multiarray', '_reconstruct'): _Array, ('numpy._core.multiarray', '_reconstruct'): _Array,
              ('numpy', 'dtype'): _Kind, ('numpy', 'ndarray'): None}

    def find_class(self, module, name):
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f'it asks for {module}.{name}, which is refused for safety')
        return self._KNOWN[module, name]


def _load(path):
    data = _bytes(path)
    try:
        tuples = 0
        for step, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            tuples += opcode.name in _TUPLES
            if opcode.name not in _OPCODES:
                raise pickle.UnpicklingError(f'it uses the instruction {opcode.name}, which arrays and lists do not '
                                             'need')
            if step > MAX_STEPS or tuples > MAX_TUPLES or 'PUT' in opcode.name and argument > MAX_STEPS:
                raise pickle.UnpicklingError('it is longer than any file of CIFAR')
        content = _Unpickler(io.BytesIO(data), encoding='latin-1').load()
    except Exception as error:  # damage shows as whatever the unpickler stumbles over
        raise DataError(f"'{path}' is not a pickle of CIFAR, or damaged: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise DataError(f"'{path}' is not a pickle of CIFAR: it holds no dict")
    return content

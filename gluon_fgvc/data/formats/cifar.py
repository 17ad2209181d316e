"""The files of CIFAR-10 and CIFAR-100, in their two kinds: Python pickles and binary rows.

The pickles are arrays and lists, so of all that they can name only what makes an array is known; nothing in them is
executed (:mod:`gluon_fgvc.pickles`).
"""
import io
from dataclasses import dataclass
from typing import Dict, List

import numpy as np

from gluon_fgvc import pickles
from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.data.formats import annotations
from gluon_fgvc.data.readers import Arrays, numbered
from gluon_fgvc.errors import DataError

SIDE = 32
PIXELS = 3 * SIDE * SIDE
TRAIN, TEST = 50000, 10000
MAX_BYTES = 2 ** 28


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

class _Array:
    """What ``numpy.core.multiarray._reconstruct`` is replaced by: an array of bytes, once its state is known."""

    values = None

    def __init__(self, *_):
        pass

    def build(self, state):
        _, shape, kind, by_columns, data = state
        data = data.encode('latin-1') if isinstance(data, str) else data  # a text is what Python 2 had for bytes
        if not isinstance(kind, _Kind) or by_columns or not isinstance(data, bytes):
            raise ValueError('array of another kind than bytes by rows')
        self.values = np.frombuffer(data, np.uint8).reshape(shape)


class _Kind:
    """What ``numpy.dtype`` is replaced by; only bytes will do."""

    def __init__(self, name, *_):
        if not isinstance(name, str):
            raise TypeError('array type that is no text')
        if name not in ('u1', '|u1'):
            raise ValueError(f'array of type {name!r}, not of bytes')

    def build(self, state):
        """Byte order and the like, of no use here."""


_DIALECT = pickles.Dialect(
    contents='arrays and lists',
    opcodes=pickles.COMMON | {'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES', 'SHORT_BINBYTES'},
    names={'numpy.core.multiarray._reconstruct': _Array, 'numpy._core.multiarray._reconstruct': _Array,
           'numpy.dtype': _Kind, 'numpy.ndarray': None},
    max_steps=2 ** 20)


def _load(path):
    data = _bytes(path)
    try:
        content = pickles.load(pickles.Bounded(io.BytesIO(data), len(data)), _DIALECT)
    except pickles.Refused as error:
        reason = ' '.join(str(error).split())[:300]
        raise DataError(f"'{path}' is not a pickle of CIFAR, or damaged: it {reason}") from None
    if not isinstance(content, dict):
        raise DataError(f"'{path}' is not a pickle of CIFAR: it holds no dict")
    return content

"""CIFAR's files that are damaged, of another kind, or mean harm: one clear error, nothing executed."""
import os
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.data.formats import cifar
from gluon_fgvc.errors import DataError
from tests.data import official
from tests.data.test_hostile import QUIET, reads


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_asks_for_more_is_refused_by_name(tmp_path):
    root = official.cifar10(tmp_path)
    for protocol in (0, 2, 4):
        (root / 'data_batch_2').write_bytes(pickle.dumps({'data': Harm(tmp_path / 'harm')}, protocol))
        reads('cifar10', tmp_path,
              "data_batch_2' is not a pickle of CIFAR, or damaged: it (asks for 'posix.mkdir'|uses)", complete=False)
    assert not (tmp_path / 'harm').exists()


def nested(depth):
    """A pickle whose one key is a nest of tuples whose hash takes 2^depth steps."""
    return b'\x80\x02}K\x01K\x01\x86' + b'q\x00h\x00\x86' * depth + b'K\x01s.'


@pytest.mark.parametrize('content, message', [
    (pickle.dumps([1]), 'holds no dict'), (pickle.dumps({'labels': [1]}, 2), "has no 'data' of 3,072 bytes an image"),
    (pickle.dumps({'data': np.zeros((2, 3072)), 'labels': [1, 1]}, 4), "array of type 'f8', not of bytes"),
    (pickle.dumps({'data': np.zeros((2, 9), np.uint8), 'labels': [1, 1]}, 4), "has no 'data'"),
    (nested(100), 'dictionary key of type tuple'), (b'\x80\x02]r\xff\xff\xff\x7f.', 'holds no dict'),
    (b'\x80\x02' + b'}' * (2 ** 20 + 1), 'more than 1048576 steps'),
    (b'', 'is not a pickle of CIFAR'), (b'hello, I am a web page', 'is not a pickle of CIFAR')])
def test_pickles_of_something_else(tmp_path, content, message):
    root = official.cifar10(tmp_path)
    (root / 'data_batch_1').write_bytes(content)
    reads('cifar10', tmp_path, message, complete=False)


@pytest.mark.parametrize('labels', [[1], [1, 'x'], [1, -1], [1, 300], None, 'ab'])
def test_labels_that_do_not_fit_the_images(tmp_path, labels):
    root = official.cifar10(tmp_path)
    official.python2_pickle(root / 'data_batch_1', {'labels': labels, 'data': official.cifar_rows(2, 0)[0]})
    reads('cifar10', tmp_path, "data_batch_1' has no list 'labels' of 2 class indices", complete=False)


def test_labels_beyond_the_classes(tmp_path):
    root = official.cifar10(tmp_path)
    official.python2_pickle(root / 'test_batch', {'labels': [1, 10], 'data': official.cifar_rows(2, 0)[0]})
    reads('cifar10', tmp_path, 'label 10 .* is not in 0..9', complete=False)


@given(st.integers(0, 10 ** 6), st.integers(1, 255))
@QUIET
def test_damaged_pickles(tmp_path, position, flip):
    path = tmp_path / 'meta'
    official.python2_pickle(path, {'label_names': ['a', 'b'], 'data': official.cifar_rows(1, 0)[0][:, :9]})
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= flip
    path.write_bytes(content)
    try:
        cifar.read_names(path, 'label_names')
    except DataError as error:
        assert '\n' not in str(error)


@pytest.mark.parametrize('cut', [1, 3000])
def test_a_binary_file_that_is_cut_short(tmp_path, cut):
    root = official.cifar10(tmp_path, 'binary')
    path = root / 'data_batch_3.bin'
    path.write_bytes(path.read_bytes()[:-cut])
    reads('cifar10', tmp_path, 'data_batch_3.bin. has .* bytes, not a multiple of 3,073', complete=False)

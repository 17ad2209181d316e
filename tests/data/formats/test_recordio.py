import io
import os
import pickle
import subprocess
import sys

import cv2
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.data.datasets.recordio import Options, read
from gluon_fgvc.data.formats import recordio
from gluon_fgvc.errors import DataError

MAGIC = bytes.fromhex('0a23d7ce')
PNG = cv2.imencode('.png', np.arange(48, dtype=np.uint8).reshape(4, 4, 3))[1].tobytes()


def written(*contents, label=lambda i: i % 3):
    stream = io.BytesIO()
    for i, content in enumerate(contents):
        recordio.write(stream, label(i), i, content)
    return stream.getvalue()


def by_mxnet(path, contents, label=lambda i: i % 3):
    writer = mx.recordio.MXRecordIO(str(path), 'w')
    for i, content in enumerate(contents):
        writer.write(mx.recordio.pack(mx.recordio.IRHeader(0, label(i), i, 0), content))
    writer.close()
    return path.read_bytes()


# Magic numbers where a reader looks for them (multiples of four after a header of 24 bytes) and elsewhere.
TRICKY = [b'', b'x', MAGIC, MAGIC * 3, b'abcd' + MAGIC, b'ab' + MAGIC + b'cd', MAGIC + b'1', b'abcd' + MAGIC * 2 + b'e']


def test_the_bytes_are_those_of_mxnet(tmp_path):
    assert written(*TRICKY) == by_mxnet(tmp_path / 'a.rec', TRICKY)


@given(st.lists(st.lists(st.sampled_from([MAGIC, b'a', b'bc', b'']), max_size=8).map(b''.join), max_size=6))
def test_every_record_is_found_and_read(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp('r') / 'a.rec'
    path.write_bytes(written(*contents))
    offsets, labels, end = recordio.scan(path)
    assert labels.tolist() == [i % 3 for i in range(len(contents))] and end == path.stat().st_size
    with open(path, 'rb') as stream:
        for offset, content in zip(offsets, contents):
            stream.seek(offset)
            assert recordio._read(stream)[24:] == content


def options(tmp_path, **changes):
    for split in ('train', 'test'):
        (tmp_path / f'{split}.rec').write_bytes(written(PNG, PNG, PNG))
    return Options(**{'train_record': str(tmp_path / 'train.rec'), 'test_record': str(tmp_path / 'test.rec'),
                               **changes})


def test_a_data_set_of_records(tmp_path):
    (tmp_path / 'classes.txt').write_text('ant\nbee\nwasp\n')
    source = read(options(tmp_path, class_list=str(tmp_path / 'classes.txt')))
    assert source.classes == ('ant', 'bee', 'wasp') and source.train.labels.tolist() == [0, 1, 2]
    assert source.test.paths[1] == str(tmp_path / 'test.rec#1')
    for images in (source.train, pickle.loads(pickle.dumps(source.test)).subset([2, 0])):
        np.testing.assert_array_equal(images.read(1), np.arange(48).reshape(4, 4, 3)[:, :, ::-1])
    assert read(options(tmp_path)).classes == ('0', '1', '2')


def test_records_of_im2rec(tmp_path):
    by_mxnet(tmp_path / 'other.rec', [PNG] * 4)
    source = read(options(tmp_path, train_record=str(tmp_path / 'other.rec')))
    assert source.train.labels.tolist() == [0, 1, 2, 0] and source.train.read(3).shape == (4, 4, 3)


@pytest.mark.slow
def test_records_of_the_tool_itself(tmp_path, write_image, picture):
    for i in range(3):
        write_image(tmp_path / 'x' / f'{i}.png', 9, 7, seed=i)
    (tmp_path / 'a.lst').write_text(''.join(f'{i}\t{i}.0\tx/{i}.png\n' for i in range(3)))
    tool = [sys.executable, os.path.join(os.path.dirname(mx.__file__), 'tools', 'im2rec.py')]
    subprocess.run([*tool, str(tmp_path / 'a'), str(tmp_path), '--encoding', '.png', '--quality', '3'], check=True)
    source = read(options(tmp_path, train_record=str(tmp_path / 'a.rec')))
    assert sorted(source.train.labels.tolist()) == [0, 1, 2]
    for i, label in enumerate(source.train.labels):
        np.testing.assert_array_equal(source.train.read(i), picture(9, 7, seed=label))


@pytest.mark.parametrize('cut', [1, 8, 20, 40, 60])
def test_a_truncated_file_is_one_clear_error(tmp_path, cut):
    content = written(PNG, PNG)
    (tmp_path / 'cut.rec').write_bytes(content[:-cut])
    with pytest.raises(DataError, match=r"cut.rec' is not a file of image records, or damaged: 1 records are whole, "):
        read(options(tmp_path, train_record=str(tmp_path / 'cut.rec')))


@pytest.mark.parametrize('content, message', [
    (b'', 'not a file of image records'), (b'hello, I am a web page', 'not a file of image records'),
    (written(PNG, label=lambda i: -1), 'record 0: its label -1 is not a class index'),
    (written(PNG, label=lambda i: 0.5), 'record 0: its label 0.5 is not'),
    (written(PNG, label=lambda i: float('nan')), 'record 0: its label nan is not'),
    (written(PNG, label=lambda i: 1e30), 'record 0: its label 1e[+]30 is not')])
def test_what_is_no_record_file(tmp_path, content, message):
    (tmp_path / 'x.rec').write_bytes(content)
    with pytest.raises(DataError, match=message):
        read(options(tmp_path, test_record=str(tmp_path / 'x.rec')))


def test_missing_files_and_broken_images(tmp_path):
    with pytest.raises(DataError, match="cannot read '.*none.rec': No such file"):
        read(options(tmp_path, test_record=str(tmp_path / 'none.rec')))
    (tmp_path / 'b.rec').write_bytes(written(PNG, PNG[:40]))
    source = read(options(tmp_path, test_record=str(tmp_path / 'b.rec')))
    with pytest.raises(DataError, match="cannot read image '.*b.rec#1': it is truncated"):
        source.test.read(1)


@given(st.binary(max_size=120))
def test_any_bytes_are_records_or_one_clear_error(tmp_path_factory, junk):
    folder = tmp_path_factory.mktemp('r')
    for content in (junk, MAGIC + junk, written(PNG)[:-4] + junk):
        (folder / 'j.rec').write_bytes(content)
        try:
            read(options(folder, train_record=str(folder / 'j.rec')))
        except DataError as error:
            assert '\n' not in str(error)

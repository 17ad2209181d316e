import fcntl
import os
import threading

import pytest

from gluon_fgvc import files


def test_several_writers_of_one_file_do_not_disturb_each_other(tmp_path):
    path, errors = tmp_path / 'shared.json', []

    def write(number):
        try:
            for _ in range(50):
                files.write_atomically(path, str(number) * 1000)
        except OSError as error:
            errors.append(error)
    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and os.listdir(tmp_path) == ['shared.json']
    assert len(set(path.read_text())) == 1 and len(path.read_text()) == 1000


def test_names_keep_their_bytes(tmp_path):
    name = os.fsdecode(b'caf\xe9.png')
    files.write_atomically(tmp_path / 'a', name)
    files.append(tmp_path / 'a', name)
    assert (tmp_path / 'a').read_bytes() == b'caf\xe9.png' * 2


def test_a_failed_write_leaves_the_old_file_and_names_it(tmp_path, monkeypatch):
    files.write_atomically(tmp_path / 'a', 'old')

    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(os, 'fsync', full)
    with pytest.raises(OSError) as caught:
        files.write_atomically(tmp_path / 'a', 'new')
    assert caught.value.filename == str(tmp_path / 'a') and os.listdir(tmp_path) == ['a']
    assert (tmp_path / 'a').read_text() == 'old'


def test_what_a_killed_writer_left_is_removed_and_a_living_one_kept(tmp_path):
    for name in ('a.json.0123abcd.tmp', 'b.json.4567cdef.tmp', 'my.tmp'):
        (tmp_path / name).write_text('x')
    with open(tmp_path / 'b.json.4567cdef.tmp') as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        files.remove_leftovers(tmp_path)
        assert sorted(os.listdir(tmp_path)) == ['b.json.4567cdef.tmp', 'my.tmp']
    files.remove_leftovers(tmp_path)
    assert os.listdir(tmp_path) == ['my.tmp']

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

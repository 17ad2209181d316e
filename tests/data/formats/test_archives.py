import os
import shutil
import socket
import stat
import zipfile
from collections import namedtuple

import pytest

from gluon_fgvc.data.formats import archives
from gluon_fgvc.errors import DataError


def make_zip(path, members, **options):
    with zipfile.ZipFile(path, 'w', **options) as bundle:
        for name, content in members:
            bundle.writestr(name, content)
    return path


def test_files_arrive_and_nothing_else(tmp_path):
    archive = make_zip(tmp_path / 'a.zip', [('a/', ''), ('a/b.txt', 'hello'), ('c.txt', '')])
    archives.extract(archive, tmp_path / 'out')
    assert (tmp_path / 'out' / 'a' / 'b.txt').read_text() == 'hello'
    assert sorted(os.listdir(tmp_path)) == ['a.zip', 'out']


def link(name):
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize('name', ['../x', 'a/../../x', '/x', '\\x', 'a\\..\\..\\x', 'C:/x', link('x')],
                         ids=['up', 'deep up', 'absolute', 'backslash', 'backslash up', 'drive', 'link'])
def test_what_could_lead_out_is_refused_and_nothing_stays(tmp_path, name):
    archive = make_zip(tmp_path / 'a.zip', [('good.txt', 'x'), (name, '/etc/passwd')])
    with pytest.raises(DataError, match='is refused'):
        archives.extract(archive, tmp_path / 'out')
    assert os.listdir(tmp_path) == ['a.zip']


def test_bombs_are_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'MAX_BYTES', 10 ** 6)
    archive = make_zip(tmp_path / 'a.zip', [('x', b'\0' * 2 * 10 ** 6)], compression=zipfile.ZIP_DEFLATED)
    with pytest.raises(DataError, match='2,000,000 bytes'):
        archives.extract(archive, tmp_path / 'out')
    assert os.listdir(tmp_path) == ['a.zip']


def test_a_bomb_that_lies_about_its_size_is_stopped(tmp_path):
    archive = make_zip(tmp_path / 'a.zip', [('x', b'\0' * 10 ** 6)], compression=zipfile.ZIP_DEFLATED)
    data = bytearray(archive.read_bytes())
    for offset in (22, data.index(b'PK\x01\x02') + 24):  # the size in the local header and in the directory
        data[offset:offset + 4] = (10).to_bytes(4, 'little')
    archive.write_bytes(data)
    with pytest.raises(DataError, match='cannot be unpacked'):
        archives.extract(archive, tmp_path / 'out')
    assert os.listdir(tmp_path) == ['a.zip']


def test_a_corrupt_member_leaves_nothing_behind(tmp_path):
    archive = make_zip(tmp_path / 'a.zip', [('good.txt', 'x'), ('bad.txt', 'some content')])
    archive.write_bytes(archive.read_bytes().replace(b'some content', b'some c0ntent'))
    with pytest.raises(DataError, match='cannot be unpacked: Bad CRC-32'):
        archives.extract(archive, tmp_path / 'out')
    assert os.listdir(tmp_path) == ['a.zip']


@pytest.mark.parametrize('content', [b'', b'hello, I am a web page', b'PK\x03\x04'])
def test_what_is_no_archive(tmp_path, content):
    (tmp_path / 'a.zip').write_bytes(content)
    with pytest.raises(DataError, match='a.zip.* cannot be unpacked: File is not a zip file'):
        archives.extract(tmp_path / 'a.zip', tmp_path / 'out')


def test_a_disk_without_room_is_said_before(tmp_path, monkeypatch):
    archive = make_zip(tmp_path / 'a.zip', [('x', 'y' * 1000)])
    monkeypatch.setattr(shutil, 'disk_usage', lambda path: namedtuple('Usage', 'total used free')(0, 0, 999))
    with pytest.raises(DataError, match='needs 1,000 bytes, .* has 999 free'):
        archives.extract(archive, tmp_path / 'out')


def test_what_a_killed_process_left_is_removed(tmp_path):
    archive = make_zip(tmp_path / 'a.zip', [('x', 'y')])
    gone = os.fork()
    if not gone:
        os._exit(0)
    os.waitpid(gone, 0)
    names = [f'.out-{socket.gethostname()}-{process}-abc' for process in (gone, os.getpid(), 'x')]
    names.append('.out-other-1-abc')
    for name in names:
        (tmp_path / name / 'deep').mkdir(parents=True)
    archives.extract(archive, tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == sorted([*names[1:], 'a.zip', 'out'])

import hashlib
import os
import shutil
import sys
import textwrap
import urllib.error
import urllib.request
import zipfile

import numpy as np
import pytest

from gluon_fgvc.data.datasets import hotdog
from gluon_fgvc.errors import DataError


@pytest.fixture
def archive(tmp_path, write_image):
    """A small archive in the official layout, outside the root that tests give."""
    folder = tmp_path / 'made'
    for split, count in (('train', 3), ('test', 2)):
        for name in hotdog.CLASSES:
            for i in range(count):
                write_image(folder / 'hotdog' / split / name / f'{i}.png', seed=i)
    path = tmp_path / 'made' / 'hotdog.zip'
    with zipfile.ZipFile(path, 'w') as bundle:
        for parent, _, files in os.walk(folder / 'hotdog'):
            for file in files:
                bundle.write(os.path.join(parent, file), os.path.relpath(os.path.join(parent, file), folder))
    shutil.rmtree(folder / 'hotdog')
    return path


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_, **__):
        raise urllib.error.URLError('no network in this test')
    monkeypatch.setattr(urllib.request, 'urlopen', refuse)


def check(source):
    assert source.classes == ('hotdog', 'not-hotdog') and source.val is None
    assert np.bincount(source.train.labels).tolist() == [3, 3] and np.bincount(source.test.labels).tolist() == [2, 2]
    assert all(f'/{source.classes[label]}/' in path for path, label in zip(source.train.paths, source.train.labels))


def test_archive_folder_of_the_archive_and_unpacked_folders(archive, offline):
    check(hotdog.read(hotdog.Options(root=str(archive))))
    assert sorted(os.listdir(archive.parent)) == ['hotdog', 'hotdog.zip']
    archive.unlink()  # from now on only what was unpacked
    check(hotdog.read(hotdog.Options(root=str(archive.parent))))
    check(hotdog.read(hotdog.Options(root=str(archive.parent / 'hotdog'))))


def test_folder_with_the_archive(archive, offline):
    check(hotdog.read(hotdog.Options(root=str(archive.parent))))
    check(hotdog.read(hotdog.Options(root=str(archive.parent))))


def test_offline_says_what_to_put_where(tmp_path, offline):
    with pytest.raises(DataError) as caught:
        hotdog.read(hotdog.Options(root=str(tmp_path / 'data')))
    message = str(caught.value)
    assert hotdog.URL in message and str(tmp_path / 'data' / 'hotdog.zip') in message and '\n' not in message
    assert 'no network in this test' in message and os.listdir(tmp_path / 'data') == []


@pytest.fixture
def fake_d2l(tmp_path, monkeypatch):
    """fake_d2l(body) puts a package d2l with this body of ``download(name, folder)`` before the real one."""
    def make(body):
        (tmp_path / 'fake' / 'd2l').mkdir(parents=True)
        (tmp_path / 'fake' / 'd2l' / '__init__.py').write_text('')
        (tmp_path / 'fake' / 'd2l' / 'mxnet.py').write_text(
            'DATA_HUB = {}\n\ndef download(name, folder):\n' + textwrap.indent(body, '    '))
        monkeypatch.setenv('PYTHONPATH', str(tmp_path / 'fake'))
        monkeypatch.setattr(urllib.request, 'urlopen', lambda *_, **__: open(os.devnull))
    return make


def test_d2l_downloads_in_a_process_of_its_own(tmp_path, archive, fake_d2l, monkeypatch):
    monkeypatch.setattr(hotdog, 'SHA1', hashlib.sha1(archive.read_bytes()).hexdigest())
    fake_d2l(f"import shutil; print(DATA_HUB['hotdog']); shutil.copy({str(archive)!r}, folder)")
    check(hotdog.read(hotdog.Options(root=str(tmp_path / 'data'))))
    assert sorted(os.listdir(tmp_path / 'data')) == ['hotdog', 'hotdog.zip'] and 'd2l.mxnet' not in sys.modules


@pytest.mark.parametrize('body, message', [
    ("open(folder + '/hotdog.zip', 'w').write('404')", 'does not have SHA-1'),
    ("raise OSError('connection reset')", 'OSError: connection reset'),
])
def test_a_failed_download_is_said_and_not_kept(tmp_path, fake_d2l, body, message):
    fake_d2l(body)
    with pytest.raises(DataError, match=message):
        hotdog.read(hotdog.Options(root=str(tmp_path / 'data')))
    assert os.listdir(tmp_path / 'data') == []


def test_missing_d2l_names_the_extra(tmp_path, fake_d2l):
    fake_d2l('pass')
    (tmp_path / 'fake' / 'd2l' / 'mxnet.py').unlink()
    with pytest.raises(DataError, match=r"'d2l'.*pip install gluon-fgvc\[tutorial\]"):
        hotdog.read(hotdog.Options(root=str(tmp_path / 'data')))


def test_a_foreign_archive_is_refused(tmp_path, offline):
    with zipfile.ZipFile(tmp_path / 'hotdog.zip', 'w') as bundle:
        bundle.writestr('cats/1.png', 'x')
    with pytest.raises(DataError, match='has no folder hotdog/train'):
        hotdog.read(hotdog.Options(root=str(tmp_path)))
    assert os.listdir(tmp_path) == ['hotdog.zip']


def test_other_classes_are_refused(tmp_path, write_image, offline):
    for split in ('train', 'test'):
        write_image(tmp_path / split / 'cat' / '1.png')
    with pytest.raises(DataError, match='has classes cat, expected hotdog, not-hotdog'):
        hotdog.read(hotdog.Options(root=str(tmp_path)))

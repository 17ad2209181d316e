"""fgvc prepare-data as one types it: archives in, lists and records out, and nothing else."""
import hashlib
import importlib
import os
import signal
import time

import cv2
import numpy as np
import pytest

from gluon_fgvc import data
from gluon_fgvc.commands import cli
from gluon_fgvc.commands.prepare_data import main
from gluon_fgvc.data import prepare
from gluon_fgvc.data.datasets import cub200, list_file, recordio
from gluon_fgvc.data.readers import Arrays, numbered
from gluon_fgvc.errors import DataError
from tests import small_run
from tests.data import official


@pytest.fixture
def call(capfd, tmp_path, monkeypatch):
    """Call the tool in tmp_path with words; returns (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        capfd.readouterr()
        code = cli.run(main, [str(word) for word in words])
        return (code, *capfd.readouterr())
    return call


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """CUB_200_2011.tgz with six images, whose sum passes for the published one."""
    official.cub(tmp_path / 'made')
    path = official.pack(tmp_path / 'made', tmp_path / 'CUB_200_2011.tgz', 'CUB_200_2011')
    monkeypatch.setitem(cub200.ARCHIVES, path.name, hashlib.md5(path.read_bytes()).hexdigest())
    return path


def everything(folder):
    return {os.path.join(parent, name): open(os.path.join(parent, name), 'rb').read()
            for parent, _, names in os.walk(folder) for name in names}


def test_from_the_archive_to_lists_and_records(call, archive, tmp_path):
    before = everything(tmp_path)
    words = ('cub200', 'complete=false', '--archive', archive, '--out', 'out', '--record', '--resize', 6)
    code, out, err = call(*words)
    assert code == 0, err
    assert 'as published' in out and 'cub200: 3 classes, 4 train, 2 test images' in out
    assert sorted(os.listdir('out')) == ['CUB_200_2011', 'classes.txt', *sorted(
        f'{split}.{ending}' for split in ('test', 'train') for ending in ('csv', 'idx', 'json', 'rec'))]
    after = everything(tmp_path)
    assert {path: after[path] for path in before} == before

    listed = list_file.read(list_file.Options(train_list='out/train.csv', test_list='out/test.csv',
                                              class_list='out/classes.txt'))
    direct = cub200.read(cub200.Options(root='out', complete=False))
    assert listed.classes == direct.classes and listed.train.paths == direct.train.paths
    np.testing.assert_array_equal(listed.test.boxes, direct.test.boxes)
    packed = recordio.read(recordio.Options(train_record='out/train.rec', test_record='out/test.rec',
                                            class_list='out/classes.txt'))
    assert packed.classes == direct.classes and packed.train.labels.tolist() == direct.train.labels.tolist()
    assert packed.train.read(0).shape == (6, 7, 3)  # of 8 x 10 (height x width)

    code, out, err = call(*words)  # again: all is there
    assert code == 0 and 'is there already' in out and everything(tmp_path) == after


def test_the_index_is_that_of_mxnet(call, archive):
    assert call('cub200', '--archive', archive, '--out', 'out', '--record', 'complete=false')[0] == 0
    from mxnet import recordio as theirs
    reader = theirs.MXIndexedRecordIO('out/train.idx', 'out/train.rec', 'r')
    header, image = theirs.unpack_img(reader.read_idx(3))
    assert (header.label, header.id) == (2, 3) and image.shape == (8, 10, 3)


def test_dishes_are_listed_with_their_boxes(call, tmp_path):
    official.uec(tmp_path / 'out')
    code, out, err = call('uec_food100', '--out', 'out', 'complete=false')
    assert code == 0, err
    options = dict(train_list='out/train.csv', test_list='out/test.csv', class_list='out/classes.txt')
    direct = data.build(importlib.import_module('tests.data.test_published').config_of(
        'uec_food100', root='out', complete=False, val_fraction=0))
    listed = list_file.read(list_file.Options(**options, crop=True))
    assert listed.train.paths == direct.train.paths
    for i in range(len(direct.test)):
        np.testing.assert_array_equal(listed.test.read(i), direct.test.read(i))


def test_images_that_are_no_files_are_only_packed(call, tmp_path):
    official.cifar10(tmp_path / 'out')
    code, out, err = call('cifar10', '--out', 'out', '--record', '--workers', 1, 'complete=false')
    assert code == 0, err
    assert not os.path.exists('out/train.csv') and os.path.exists('out/train.rec')
    assert len(recordio.read(recordio.Options(train_record='out/train.rec', test_record='out/test.rec')).train) == 10


@pytest.mark.parametrize('change, words, code, message', [
    (None, ['cubs'], 2, "unknown data set 'cubs'; did you mean"),
    (None, ['cub200', '--quality', '101'], 2, '--quality 101 is more than 100'),
    (None, ['cub200', 'root=CUB_200_2011.tgz'], 2, "root 'CUB_200_2011.tgz' is a file; give it as --archive"),
    (None, ['cub200', '--resize', 'x'], 2, "'x' is not a whole number"),
    (None, ['cub200', 'crp=true'], 2, "command line: data.crp: unknown key 'crp'; did you mean 'crop'"),
    (None, ['cub200', '--archive', 'none.tgz'], 1, "cannot read archive 'none.tgz': No such file"),
    (None, ['cub200', '--archive', 'CUB_200_2011.tgz'], 1, '3 classes, published are 200'),
    ('damage', ['cub200', '--archive', 'CUB_200_2011.tgz'], 1, 'is damaged or another one: its md5 is'),
])
def test_mistakes_are_one_line(call, archive, change, words, code, message):
    if change == 'damage':
        archive.write_bytes(archive.read_bytes()[:-1])
    found, _, err = call(*words, '--out', 'out')
    assert found == code and err.startswith('error: ') and err.count('\n') == 1 and message in err


def test_archives_without_a_published_sum_say_theirs(call, archive):
    os.rename(archive, 'mirror.tgz')
    code, out, _ = call('cub200', '--archive', 'mirror.tgz', '--out', 'out', 'complete=false')
    assert code == 0 and f'sha256 {hashlib.sha256(open("mirror.tgz", "rb").read()).hexdigest()}' in out


def test_annotations_that_come_alone_are_copied(call, tmp_path):
    root = official.cars(tmp_path / 'made')
    for name in ('cars_train', 'cars_test', 'devkit'):
        official.pack(root, tmp_path / f'{"car_devkit" if name == "devkit" else name}.tar.gz', name)
    code, out, err = call('stanford_cars', 'complete=false', '--out', 'out', '--archive', 'cars_train.tar.gz',
                          'cars_test.tar.gz', 'car_devkit.tar.gz', root / 'cars_test_annos_withlabels.mat')
    assert code == 1 and 'another one: its md5' in err  # this one has a published sum, which ours cannot have
    os.rename(root / 'cars_test_annos_withlabels.mat', 'labels.mat')
    code, _, err = call('stanford_cars', '--archive', 'labels.mat', '--out', 'out', 'complete=false')
    assert code == 1 and 'get cars_test_annos_withlabels.mat' in err
    os.rename('out/labels.mat', 'out/cars_test_annos_withlabels.mat')
    code, out, err = call('stanford_cars', '--out', 'out', 'complete=false')
    assert code == 0 and 'stanford_cars: 3 classes, 4 train, 3 test images' in out


def test_nothing_that_exists_is_replaced(call, archive):
    os.mkdir('out')
    with open('out/train.csv', 'w') as stream:
        stream.write('mine\n')
    code, _, err = call('cub200', '--archive', archive, '--out', 'out', 'complete=false')
    assert code == 1 and "'out/train.csv' exists with another content" in err
    assert open('out/train.csv').read() == 'mine\n'
    os.unlink('out/train.csv')
    assert call('cub200', '--out', 'out', '--record', '--resize', 6, 'complete=false')[0] == 0
    before = everything('out')
    code, _, err = call('cub200', '--out', 'out', '--record', '--resize', 7, 'complete=false')
    assert code == 1 and "'out/train.json' exists with another content" in err and everything('out') == before


# --- interruptions ---------------------------------------------------------------------------

class Breaks(Arrays):
    """An image that cannot be read as long as ``broken`` is true."""

    broken = True

    def __call__(self, row):
        if row == 40 and self.broken:
            raise DataError('image 40 is broken')
        return super().__call__(row)


@pytest.mark.parametrize('workers', [0, 2])
def test_what_was_interrupted_is_continued_to_the_same_bytes(tmp_path, workers):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 9, 9, 3), dtype=np.uint8)
    reader = Breaks(pixels)
    images = data.ImageSet('train', numbered('a', 70), np.arange(70) % 7, reader=reader)
    settings = dict(size=8, quality=90)
    (tmp_path / 'a').mkdir(), (tmp_path / 'b').mkdir()
    for _ in range(2):
        with pytest.raises(DataError, match='image 40 is broken'):
            prepare.write_records(images, str(tmp_path / 'a' / 't.rec'), workers=workers, **settings)
    partial = tmp_path / 'a' / 't.rec.partial'
    assert not (tmp_path / 'a' / 't.rec').exists() and partial.stat().st_size > 0
    partial.write_bytes(partial.read_bytes()[:-5])  # a record that was cut off
    reader.broken = False
    prepare.write_records(images, str(tmp_path / 'a' / 't.rec'), workers=workers, **settings)
    prepare.write_records(images, str(tmp_path / 'b' / 't.rec'), workers=2 - workers, **settings)
    for name in ('t.rec', 't.idx', 't.json'):
        assert (tmp_path / 'a' / name).read_bytes() == (tmp_path / 'b' / name).read_bytes()
    assert sorted(os.listdir(tmp_path / 'a')) == ['t.idx', 't.json', 't.rec']


def test_killed_and_called_again(call, tmp_path):
    rng = np.random.default_rng(0)
    for split in ('train', 'test'):
        for i in range(3):
            path = tmp_path / 'photos' / split / 'ab'[i % 2] / f'{i}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, 256, (400, 500, 3), dtype=np.uint8))
    for i in range(3, 200):
        os.link(tmp_path / 'photos' / 'train' / 'a' / '0.png', tmp_path / 'photos' / 'train' / 'a' / f'{i}.png')
    words = ('image_folder', f'root={tmp_path}/photos', '--record', '--resize', 300, '--workers', 2, '--out')

    killed = small_run.start('prepare_data', *words, tmp_path / 'killed')
    partial = tmp_path / 'killed' / 'train.rec.partial'
    while killed.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert partial.exists() and killed.returncode == -signal.SIGKILL
    deadline = time.time() + 30  # the workers notice within seconds
    while time.time() < deadline:
        try:
            os.killpg(killed.pid, 0)
        except ProcessLookupError:
            break
        time.sleep(0.2)
    else:
        os.killpg(killed.pid, signal.SIGKILL)
        pytest.fail('a worker outlived the tool')
    for folder in ('killed', 'whole'):
        code, _, err = call(*words, folder)
        assert code == 0, err
    assert sorted(os.listdir(tmp_path / 'killed')) == sorted(os.listdir(tmp_path / 'whole'))
    for name in ('train.rec', 'train.idx', 'train.csv', 'test.rec', 'classes.txt'):
        assert (tmp_path / 'killed' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()


def test_hot_dogs(call, tmp_path, monkeypatch):
    from gluon_fgvc.data.datasets import hotdog
    for split in ('train', 'test'):
        for name in hotdog.CLASSES:
            official.image(tmp_path / 'made' / 'hotdog' / split / name / '0.png')
    archive = official.pack(tmp_path / 'made', tmp_path / 'hotdog.tgz', 'hotdog')
    os.rename(archive, 'hotdog.zip')  # a web page or another archive under that name
    assert call('hotdog', '--archive', 'hotdog.zip', '--out', 'out')[0] == 1
    os.rename('hotdog.zip', 'hotdog.tgz')
    code, out, err = call('hotdog', '--archive', 'hotdog.tgz', '--out', 'out')
    assert code == 0 and 'hotdog: 2 classes, 2 train, 2 test images' in out, err

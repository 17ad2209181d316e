import os

import numpy as np
import pytest

from gluon_fgvc.data.datasets import image_folder
from gluon_fgvc.errors import ConfigError, DataError


@pytest.fixture
def folder(tmp_path, write_image):
    """folder('train/cat/1.png', …) writes these images and returns Options for their root."""
    def make(*names, **options):
        for name in names:
            write_image(tmp_path / 'photos' / name)
        return image_folder.Options(root=str(tmp_path / 'photos'), **options)
    return make


SPLIT = [f'{split}/{name}/{i}.png' for split in ('train', 'test') for name in ('dog', 'Cat') for i in (10, 2)]


def test_split_folders(folder, tmp_path):
    source = image_folder.read(folder(*SPLIT))
    assert source.classes == ('Cat', 'dog') and source.val is None
    assert [os.path.relpath(path, tmp_path / 'photos') for path in source.train.paths] == [
        'train/Cat/10.png', 'train/Cat/2.png', 'train/dog/10.png', 'train/dog/2.png']
    assert source.train.labels.tolist() == [0, 0, 1, 1] and source.train.labels.dtype == np.int64


def test_a_validation_folder_is_used(folder):
    source = image_folder.read(folder(*SPLIT, 'val/dog/1.png', 'val/Cat/1.png'))
    assert source.val.name == 'val' and source.val.labels.tolist() == [0, 1]


def test_flat_folders_are_split_by_class(folder):
    names = [f'{name}/{i}.png' for name, count in (('a', 8), ('b', 4)) for i in range(count)]
    source = image_folder.read(folder(*names, test_share=0.25))
    assert np.bincount(source.test.labels).tolist() == [2, 1] and np.bincount(source.train.labels).tolist() == [6, 3]
    assert not set(source.train.paths) & set(source.test.paths)


def test_hidden_files_other_files_and_files_beside_the_classes_are_left_out(folder, tmp_path, write_image):
    options = folder(*SPLIT)
    write_image(tmp_path / 'photos' / 'train' / 'dog' / '.hidden.png')
    write_image(tmp_path / 'photos' / 'train' / '.cache' / '1.png')
    (tmp_path / 'photos' / 'train' / 'dog' / 'notes.txt').write_text('x')
    (tmp_path / 'photos' / 'train' / 'README').write_text('x')
    source = image_folder.read(options)
    assert source.classes == ('Cat', 'dog') and len(source.train) == 4


@pytest.mark.parametrize('suffix', ['jpg', 'JPG', 'jpeg', 'webp', 'bmp', 'tif'])
def test_usual_suffixes_count_as_images(folder, suffix):
    assert len(image_folder.read(folder(*SPLIT, f'train/dog/x.{suffix}')).train) == 5


def test_missing_root(tmp_path):
    with pytest.raises(DataError, match=r"data.root '.*/nowhere' is not a folder; expected .*<class>"):
        image_folder.read(image_folder.Options(root=str(tmp_path / 'nowhere')))


def test_missing_test_folder(folder):
    with pytest.raises(DataError, match="has train but no folder 'test'"):
        image_folder.read(folder('train/a/1.png'))


def test_empty_class_is_named_with_its_split(folder, tmp_path):
    options = folder(*SPLIT)
    (tmp_path / 'photos' / 'test' / 'eel').mkdir()
    (tmp_path / 'photos' / 'train' / 'eel').mkdir()
    with pytest.raises(DataError, match="class 'eel' of split 'train' has no images"):
        image_folder.read(options)


def test_splits_with_different_classes(folder):
    with pytest.raises(DataError, match="class 'eel' has a folder in test but none in train"):
        image_folder.read(folder(*SPLIT, 'test/eel/1.png'))


def test_no_classes_at_all(folder, tmp_path):
    (tmp_path / 'photos').mkdir()
    with pytest.raises(DataError, match='has no class folders'):
        image_folder.read(folder(test_share=0.5))


def test_test_share_is_needed_without_and_refused_with_splits(folder):
    with pytest.raises(ConfigError, match='set data.test_share'):
        image_folder.read(folder('a/1.png', 'b/1.png'))
    with pytest.raises(ConfigError, match='remove the key'):
        image_folder.read(folder(*SPLIT, test_share=0.25))


def test_imagenet_is_tested_on_its_validation_split(folder, tmp_path):
    names = [name.replace('test/', 'val/') for name in SPLIT]
    (tmp_path / 'names.txt').write_text('Cat house cat, Felis catus\ndog hound\nelk moose\n')
    source = image_folder.read(folder(*names, test_folder='val', class_names=str(tmp_path / 'names.txt')))
    assert source.classes == ('house cat, Felis catus', 'hound')
    assert source.val is None and source.test.name == 'test' and len(source.test) == 4
    assert '/val/' in source.test.paths[0]
    with pytest.raises(DataError, match="has train, val but no folder 'test'"):
        image_folder.read(folder(*names))
    (tmp_path / 'names.txt').write_text('dog hound\n')
    with pytest.raises(DataError, match="names.txt' has no name for class folder 'Cat'"):
        image_folder.read(folder(*names, test_folder='val', class_names=str(tmp_path / 'names.txt')))

import os

import numpy as np
import pytest

from gluon_fgvc import data
from gluon_fgvc.config import DataConfig
from gluon_fgvc.data import doctor
from gluon_fgvc.data.datasets import image_folder
from gluon_fgvc.data.findings import Finding
from gluon_fgvc.data.search import find_images
from gluon_fgvc.errors import DataError


@pytest.fixture
def root(tmp_path, write_image):
    """A folder of two classes with four images each."""
    for name in ('cat', 'dog'):
        for number in range(4):
            write_image(tmp_path / 'photos' / name / f'{number}.png')
    return tmp_path / 'photos'


def config(root, **options):
    options = image_folder.Options(root=str(root), **{'test_share': 0.25, **options})
    return DataConfig(name='image_folder', val_fraction=0, options=options)


def text_file(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('x')


LEFT_OUT = {  # what lies about → how many files, in which words, with which example
    'other files': (lambda root, image: text_file(root / 'cat' / 'notes.txt'),
                    '1 file not named like images', 'notes.txt'),
    'nested': (lambda root, image: [image(root / 'dog' / 'day2' / f'{i}.png') for i in range(3)],
               '3 files in sub-folders of class folders', 'day2'),
    'beside': (lambda root, image: image(root / 'x.png'), '1 file beside the class folders', 'x.png'),
}


@pytest.mark.parametrize('kind', LEFT_OUT)
def test_what_is_left_out_is_told(root, write_image, kind):
    make, words, example = LEFT_OUT[kind]
    make(root, write_image)
    note, = data.build(config(root)).notes
    assert words in note and example in note
    source, findings = data.survey(config(root))
    assert [finding.kind for finding in findings] == ['left_out'] and findings[0].detail == note
    assert doctor.examine(source, findings).counts()['left_out'] == 1


def test_a_folder_beside_the_splits_is_told(tmp_path, write_image):
    for split in ('train', 'test', 'holdout'):
        for name in ('cat', 'dog'):
            write_image(tmp_path / 'photos' / split / name / '0.png')
    note, = data.build(config(tmp_path / 'photos', test_share=None)).notes
    assert "2 files in folder 'holdout', which is none of train, test" in note


def test_nothing_is_told_of_sound_folders(root):
    assert data.build(config(root)).notes == () and data.survey(config(root))[1] == []


@pytest.mark.parametrize('ending', ['jfif', 'jpe', 'ppm'])
def test_other_endings_of_images_count(root, write_image, ending):
    write_image(root / 'cat' / '0.png')
    (root / 'cat' / f'new.{ending}').write_bytes((root / 'cat' / '0.png').read_bytes())
    source = data.build(config(root))
    assert len(source.train) + len(source.test) == 9
    assert len(find_images([str(root)])) == 9


@pytest.mark.parametrize('name', ['cat/@eaDir/0.png/THUMB.jpg', '__MACOSX/cat/._0.png', '@eaDir/cat/0.png',
                                  'cat/Thumbs.db'])
def test_leftovers_are_no_part_of_it(root, name):
    text_file(root / name)
    source = data.build(config(root))
    assert source.classes == ('cat', 'dog') and len(source.train) + len(source.test) == 8 and not source.notes
    assert len(find_images([str(root)])) == 8


def test_a_link_that_leads_nowhere_is_an_image_that_cannot_be_read(root):
    os.symlink('/nowhere/9.png', root / 'cat' / '9.png')
    source, findings = data.survey(config(root))
    assert doctor.examine(source, findings).counts()['unreadable'] == 1
    with pytest.raises(DataError, match="9.png': it is a link to '/nowhere/9.png', which does not exist"):
        data.read_image(root / 'cat' / '9.png')


def test_a_class_that_is_a_link_that_leads_nowhere(root):
    os.symlink('/nowhere/bird', root / 'bird')
    with pytest.raises(DataError, match="class 'bird' .* is a link that leads nowhere: '.*bird' to '/nowhere/bird'"):
        data.build(config(root))
    assert data.survey(config(root))[1][0].kind == 'empty_class'


def test_a_class_whose_images_are_all_below(root, write_image):
    write_image(root / 'eel' / 'day1' / '0.png')
    with pytest.raises(DataError, match="class 'eel' .* its 1 are in sub-folders, e.g. '.*day1/0.png': move them up, "
                                        'or set data.coarse: true'):
        data.build(config(root))


def test_one_class_is_refused_and_found(tmp_path, write_image):
    for number in range(4):
        write_image(tmp_path / 'photos' / 'cat' / f'{number}.png')
    with pytest.raises(DataError, match="has one class only, 'cat'.* one too high or too low"):
        data.build(config(tmp_path / 'photos'))
    source, findings = data.survey(config(tmp_path / 'photos'))
    assert Finding('one_class', findings[0].detail, classes=('cat',)) == findings[0] and source is not None


def test_names_in_two_unicode_forms_are_one_class(tmp_path, write_image):
    for split, name in (('train', 'caf\u00e9'), ('test', 'cafe\u0301'), ('train', 'dog'), ('test', 'dog')):
        write_image(tmp_path / 'photos' / split / name / '0.png')
    source = data.build(config(tmp_path / 'photos', test_share=None))
    assert source.classes == ('caf\u00e9', 'dog') and np.array_equal(source.test.labels, [0, 1])


def test_two_folders_that_look_the_same_are_refused(root, write_image):
    write_image(root / 'caf\u00e9' / '0.png')
    write_image(root / 'cafe\u0301' / '0.png')
    with pytest.raises(DataError, match=r"'cafe\\u0301' and 'caf\\xe9' look the same"):
        data.build(config(root))


def test_two_classes_of_one_name_keep_their_folders(root, tmp_path):
    (tmp_path / 'names.txt').write_text('cat crane\ndog crane\n')
    assert data.build(config(root, class_names=str(tmp_path / 'names.txt'))).classes == ('crane (cat)', 'crane (dog)')


def test_linked_folders_are_searched_once(root, tmp_path, write_image):
    write_image(tmp_path / 'other' / '0.png')
    os.symlink(tmp_path / 'other', root / 'more')
    os.symlink(root, root / 'cat' / 'loop')
    assert len(find_images([str(root)])) == 9


def test_folders_that_cannot_be_listed_are_no_empty_ones(root, monkeypatch):
    scandir = os.scandir

    def denied(path):
        if str(path).endswith('dog'):
            raise PermissionError(13, 'Permission denied')
        return scandir(path)
    monkeypatch.setattr(os, 'scandir', denied)
    with pytest.raises(DataError, match="cannot list folder '.*dog': Permission denied"):
        find_images([str(root)])


def test_search_tells_what_it_leaves_out(root):
    text_file(root / 'cat' / 'notes.txt')
    with pytest.warns(UserWarning, match="left out: 1 file not named like images, e.g. '.*notes.txt'"):
        assert len(find_images([str(root)])) == 8


def splits_that_differ(tmp_path, write_image):
    for split, names in (('train', 'abcd'), ('val', 'ab'), ('test', 'abcd')):
        for name in names:
            write_image(tmp_path / 'photos' / split / name / '0.png')
    return tmp_path / 'photos'


def test_how_many_classes_a_split_lacks_is_said_with_the_ways_out(tmp_path, write_image):
    with pytest.raises(DataError, match=r"class 'c' has a folder in train, test but none in val \(and 1 more of 4 "
                                        r"likewise\); data.classes: union .*without the folder 'val', data.val_fr"):
        data.build(config(splits_that_differ(tmp_path, write_image), test_share=None))


def test_the_union_of_classes(tmp_path, write_image):
    root = splits_that_differ(tmp_path, write_image)
    source = data.build(config(root, test_share=None, classes='union'))
    assert source.classes == ('a', 'b', 'c', 'd')
    assert source.val.labels.tolist() == [0, 1] and source.test.labels.tolist() == [0, 1, 2, 3]
    write_image(root / 'test' / 'e' / '0.png')
    with pytest.raises(DataError, match="class 'e' has no image in split 'train'"):
        data.build(config(root, test_share=None, classes='union'))


@pytest.mark.parametrize('splits', [('train', 'test'), ('',)])
def test_folders_of_super_categories(tmp_path, write_image, splits):
    for split in splits:
        for coarse, names in (('fish', ('eel', 'cod')), ('bird', ('auk',))):
            for name in names:
                for number in range(4):
                    write_image(tmp_path / 'photos' / split / coarse / name / f'{number}.png')
    options = {} if '' in splits else {'test_share': None}
    source = data.build(config(tmp_path / 'photos', coarse=True, **options))
    assert source.classes == ('auk', 'cod', 'eel') and source.groups == ('bird', 'fish', 'fish')
    assert set(source.train.labels) == {0, 1, 2} and not source.notes
    write_image(tmp_path / 'photos' / splits[0] / 'bird' / 'eel' / '9.png')
    with pytest.raises(DataError, match="class 'eel' is in two super-categories"):
        data.build(config(tmp_path / 'photos', coarse=True, **options))

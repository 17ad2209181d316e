"""The doctor against planted defects, and each kind of finding by itself."""
import os
import signal

import numpy as np
import pytest
from PIL import Image

from gluon_fgvc import data
from gluon_fgvc.config import DataConfig
from gluon_fgvc.data import BrokenImage, ImageSet, Source, doctor
from gluon_fgvc.data.datasets import image_folder, list_file
from gluon_fgvc.data.doctor import examination
from gluon_fgvc.data.findings import KINDS, Finding
from gluon_fgvc.errors import DataError
from tests.data import plant_defects


def survey(root):
    return data.survey(DataConfig(name='image_folder', options=image_folder.Options(root=str(root))))


def judge(out, defects, report):
    """Return the defects that were missed and the findings that are none."""
    root = str(out / 'images')
    return plant_defects.compare(defects, [
        {'kind': finding.kind, 'files': [os.path.relpath(file, root) for file in finding.files],
         'classes': list(finding.classes), 'detail': finding.detail} for finding in report.findings])


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    out = tmp_path_factory.mktemp('planted')
    return out, plant_defects.plant(out, images=300, each=3)


def test_every_planted_defect_is_found_and_nothing_else(planted):
    out, defects = planted
    assert len(defects) == 30
    assert judge(out, defects, doctor.examine(*survey(out / 'images'))) == ([], [])


@pytest.mark.slow
def test_two_hundred_defects_in_ten_thousand_images(tmp_path):
    defects = plant_defects.plant(tmp_path)
    assert len(defects) == 200
    report = doctor.examine(*survey(tmp_path / 'images'), workers=2)
    assert report.statistics['images'] == 10_000
    assert judge(tmp_path, defects, report) == ([], [])


def test_worker_processes_find_the_same(planted):
    out, _ = planted
    chunks = []
    alone, helped = (doctor.examine(*survey(out / 'images'), workers=n, progress=chunks.append) for n in (0, 2))
    assert alone.tree() == helped.tree() and sum(chunks) == 600


def test_a_killed_worker_is_an_error_and_not_a_wait(planted, monkeypatch):
    monkeypatch.setattr(examination, 'inspect', lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(DataError, match=r'worker process \d+ died \(exit code -9.* use fewer --workers'):
        doctor.examine(*survey(planted[0] / 'images'), workers=1)


# --- sets ------------------------------------------------------------------------------------

@pytest.fixture
def source(tmp_path):
    """source(train=[(picture number, class)], test=…, …) → Source of PNG files with two classes."""
    def make(classes=('ant', 'bee'), change=lambda image, split, k: image, **splits):
        sets = {}
        for split, items in splits.items():
            paths = []
            for k, (number, _) in enumerate(items):
                paths.append(str(tmp_path / f'{split}{k}.png'))
                Image.fromarray(change(plant_defects.picture(5, number), split, k)).save(paths[-1])
            sets[split] = ImageSet(split, paths, np.array([label for _, label in items], np.int64))
        return Source(classes, sets['train'], sets['test'], sets.get('val'))
    return make


def kinds(report):
    return [(finding.kind, tuple(os.path.basename(file) for file in finding.files) or finding.classes)
            for finding in report.findings]


CLEAN = {'train': [(0, 0), (1, 0), (2, 1), (3, 1)], 'test': [(4, 0), (5, 1)]}


def test_a_clean_set_has_no_findings_but_statistics(source):
    report = doctor.examine(source(**CLEAN))
    assert report.findings == [] and report.counts() == {}
    s = report.statistics
    assert (s['images'], s['readable'], s['classes'], s['splits']) == (6, 6, 2, {'train': 4, 'test': 2})
    assert s['formats'] == {'PNG': 6} and s['gray'] == 0 and s['imbalance'] == 1
    sizes = [plant_defects.picture(5, k).shape for k in range(6)]
    assert s['width']['min'] == min(shape[1] for shape in sizes)
    assert s['height']['median'] == np.median([shape[0] for shape in sizes])
    assert s['aspect']['max'] == round(max(shape[1] / shape[0] for shape in sizes), 3)
    assert s['class_counts'] == {'ant': {'train': 2, 'test': 1}, 'bee': {'train': 2, 'test': 1}}
    assert doctor.table(report)[-1] == 'no problems found'


def test_three_copies_are_one_finding(source):
    report = doctor.examine(source(train=[(0, 0), (1, 0), (0, 0), (2, 1), (3, 1)], test=[(0, 0), (4, 1)]))
    assert kinds(report) == [('duplicate_across', ('train0.png', 'train2.png', 'test0.png'))]


def test_a_group_with_a_retouched_copy_is_a_near_duplicate(source):
    report = doctor.examine(source(train=[(0, 0), (0, 0), (0, 0), (2, 1), (3, 1)], test=[(4, 0), (5, 1)],
                                   change=lambda image, split, k: image[1:-1, 1:-1] if (split, k) == ('train', 2)
                                   else image))
    assert kinds(report) == [('near_duplicate_inside', ('train0.png', 'train1.png', 'train2.png'))]


def test_two_classes_of_one_photograph_are_a_conflict_whatever_else_it_is(source):
    report = doctor.examine(source(train=[(0, 0), (1, 0), (2, 1), (3, 1)], test=[(0, 1), (5, 0)]))
    assert kinds(report) == [('label_conflict', ('train0.png', 'test0.png'))]
    assert report.findings[0].detail == "identical in train and test, as 'ant', 'bee'"


def test_classes_without_enough_images(source):
    report = doctor.examine(source(('ant', 'bee', 'cat', 'dog'), train=[(0, 0), (1, 0), (2, 1)],
                                   test=[(3, 0), (4, 1), (5, 2)]))
    assert kinds(report) == [('empty_class', ('dog',)), ('class_mismatch', ('cat',)), ('one_image_class', ('bee',))]
    assert report.findings[1].detail == "class 'cat' has no image in train (1 in test)"
    assert report.statistics['imbalance'] == 2 and report.statistics['train_images_a_class']['min'] == 0


def test_the_fewer_of_gray_and_colour_are_found(source):
    def gray(numbers):
        return lambda image, split, k: image.mean(2, keepdims=True).astype(np.uint8).repeat(3, 2) \
            if split == 'train' and k in numbers else image
    assert kinds(doctor.examine(source(**CLEAN, change=gray([1])))) == [('gray', ('train1.png',))]
    report = doctor.examine(source(train=CLEAN['train'], test=[(4, 0)], change=gray([0, 1, 2, 3])))
    assert ('colour', ('test0.png',)) in kinds(report) and 'gray' not in report.counts()


def test_images_of_a_reader_are_looked_at_as_well(source, tmp_path):
    def read(row):
        if row == 2:
            raise BrokenImage('record 2 is broken')
        return plant_defects.picture(5, 4 if row in (0, 4) else row)
    train = ImageSet('train', [f'a.rec#{k}' for k in range(5)], np.array([0, 0, 0, 1, 1]), reader=read)
    report = doctor.examine(Source(('ant', 'bee'), train, source(**CLEAN).test))
    assert kinds(report)[:2] == [('unreadable', ('a.rec#2',)), ('label_conflict', ('a.rec#0', 'a.rec#4', 'test0.png'))]
    assert report.statistics['width']['max'] <= 160 and report.statistics['formats'] == {'PNG': 2}
    read = Source(('ant', 'bee'), train, source(**CLEAN).test).read
    np.testing.assert_array_equal(read('a.rec#1'), plant_defects.picture(5, 1))
    assert read('a.rec#2') is None and read('nowhere') is None and read(str(tmp_path / 'test0.png')) is not None


def test_what_cannot_be_read_at_all_is_one_finding(tmp_path):
    report = doctor.examine(*survey(tmp_path / ('no' * 60 + 'where')))
    assert report.counts() == {'structure': 1} and report.statistics == {}
    assert 'is not a folder' in doctor.table(report)[2]


def test_the_worst_comes_first_and_kinds_can_be_left_out(planted):
    report = doctor.examine(*survey(planted[0] / 'images'))
    order = [list(KINDS).index(finding.kind) for finding in report.findings]
    assert order == sorted(order)
    less = report.without(['gray', 'truncated'])
    assert not {'gray', 'truncated'} & set(less.counts())
    assert len(less.findings) == 30 - 3 - report.counts().get('gray', 0)
    assert less.tree()['problems'] == len(less.findings)


def test_readers_refuse_what_the_doctor_reads_past(planted):
    source, findings = survey(planted[0] / 'images')
    assert source is not None and {finding.kind for finding in findings} == {'empty_class', 'class_mismatch'}
    with pytest.raises(DataError, match="class '.*' of split '.*' has no images"):
        image_folder.read(image_folder.Options(root=str(planted[0] / 'images')))
    assert all(isinstance(finding, Finding) for finding in findings)


def test_lists_that_name_an_image_twice_or_a_class_in_test_only(tmp_path, source):
    source(**CLEAN)  # the files
    (tmp_path / 'train.csv').write_text('train0.png,ant\ntrain1.png,ant\ntrain2.png,bee\ntrain3.png,bee\n')
    (tmp_path / 'test.csv').write_text('test0.png,ant\ntest1.png,bee\ntrain0.png,bee\ntest0.png,cat\n')
    options = list_file.Options(train_list=str(tmp_path / 'train.csv'), test_list=str(tmp_path / 'test.csv'))
    with pytest.raises(DataError, match="is in split 'train' too"):
        list_file.read(options)
    report = doctor.examine(*data.survey(DataConfig(name='list_file', options=options)))
    assert kinds(report) == [('label_conflict', ('train0.png', 'train0.png')),
                             ('label_conflict', ('test0.png', 'test0.png')), ('class_mismatch', ('cat',))]

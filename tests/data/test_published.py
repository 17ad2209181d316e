"""Each reader on a small copy in the official layout; see official.py."""
import importlib
import os
import shutil

import numpy as np
import pytest

from gluon_fgvc import config, data
from gluon_fgvc.data.datasets import (
    adience,
    cifar10,
    cifar100,
    cub200,
    inaturalist,
    stanford_cars,
    stanford_dogs,
    uec_food100,
)
from gluon_fgvc.errors import ConfigError, DataError
from tests.data import official


def relative(images, root):
    return [os.path.relpath(path, root) for path in images.paths]


def test_cub(tmp_path):
    root = official.cub(tmp_path)
    for given in (root, tmp_path):
        source = cub200.read(cub200.Options(root=str(given), complete=False))
        assert source.classes == ('Black footed Albatross', 'Laysan Albatross', 'Sooty Albatross')
        assert relative(source.train, root / 'images') == [
            '001.Black_footed_Albatross/Black_footed_Albatross_0001.jpg',
            '001.Black_footed_Albatross/Black_footed_Albatross_0002.jpg',
            '002.Laysan_Albatross/Laysan_Albatross_0004.jpg', '003.Sooty_Albatross/Sooty_Albatross_0006.jpg']
        assert source.train.labels.tolist() == [0, 0, 1, 2] and source.test.labels.tolist() == [1, 2]
        assert source.test.boxes.tolist() == [[3, 2, 3, 4], [5, 2, 3, 4]]
        assert source.val is None and source.groups is None


def test_cub_cut_to_the_birds(tmp_path):
    root = official.cub(tmp_path)
    source = cub200.read(cub200.Options(root=str(root), crop=True, complete=False))
    pixels = official.image(tmp_path / 'again.png', 3)
    np.testing.assert_array_equal(source.test.read(0), pixels[2:6, 3:6])
    assert source.test.boxes is None and source.test.paths[0].endswith('_0003.jpg#xywh=3,2,3,4')


def test_cub_from_its_archive(tmp_path):
    official.cub(tmp_path / 'made')
    archive = official.pack(tmp_path / 'made', tmp_path / 'CUB_200_2011.tgz', 'attributes.txt', 'CUB_200_2011')
    shutil.rmtree(tmp_path / 'made')
    for _ in range(2):  # unpacked, then found unpacked
        source = cub200.read(cub200.Options(root=str(archive), complete=False))
        assert len(source.train) == 4 and source.train.read(0).shape == (8, 10, 3)
    assert sorted(os.listdir(tmp_path)) == ['CUB_200_2011', 'CUB_200_2011.tgz']


@pytest.mark.parametrize('layout', ['beside', 'inside', 'single', 'wrapped'])
@pytest.mark.parametrize('crop', [False, True])
def test_cars(tmp_path, layout, crop):
    root = official.cars(tmp_path / 'cars', layout)
    source = stanford_cars.read(stanford_cars.Options(root=str(root), crop=crop, complete=False))
    assert source.classes == official.CARS
    assert source.train.labels.tolist() == [0, 1, 2, 0] and source.test.labels.tolist() == [1, 2, 0]
    first = official.image(tmp_path / 'again.png', 1)  # its corners are 2, 1 and 10, 8, counted from 1, inclusive
    np.testing.assert_array_equal(source.train.read(0), first[0:8, 1:10] if crop else first)
    assert source.train.read(1).shape == ((1, 1, 3) if crop else (8, 10, 3))
    if not crop:
        assert source.train.boxes[:2].tolist() == [[1, 0, 9, 8], [2, 2, 1, 1]]
        assert os.path.basename(source.test.paths[0]) == ('000005.jpg' if layout == 'single' else '00001.jpg')


def test_cars_without_test_labels_says_what_to_get(tmp_path):
    root = official.cars(tmp_path / 'cars')
    (root / 'cars_test_annos_withlabels.mat').unlink()
    with pytest.raises(DataError, match='has cars_test_annos.mat, which lacks the classes .* get cars_test_annos_with'):
        stanford_cars.read(stanford_cars.Options(root=str(root)))


@pytest.mark.parametrize('crop', [False, True])
def test_dogs(tmp_path, crop):
    root = official.dogs(tmp_path / 'dogs')
    source = stanford_dogs.read(stanford_dogs.Options(root=str(root), crop=crop, complete=False))
    assert source.classes == ('Chihuahua', 'golden retriever')
    assert source.train.labels.tolist() == [0, 1, 1] and source.test.labels.tolist() == [0, 1]
    pixels = official.image(tmp_path / 'again.png', 50)
    np.testing.assert_array_equal(source.train.read(0), pixels[1:5, 2:9] if crop else pixels)
    assert relative(source.train, root)[0].startswith('Images/n02085620-Chihuahua/n02085620_train0.jpg')


def test_dogs_as_their_archives_unpack(tmp_path):
    root = official.dogs(tmp_path / 'dogs')
    for archive, names in (('images', ['Images']), ('lists', ['train_list.mat', 'test_list.mat']),
                           ('annotation', ['Annotation'])):
        (root / archive).mkdir()
        for name in names:
            shutil.move(root / name, root / archive / name)
    source = stanford_dogs.read(stanford_dogs.Options(root=str(root), crop=True, complete=False))
    assert source.train.read(0).shape == (4, 7, 3)


def test_uec_cuts_dishes_and_keeps_photographs_together(tmp_path):
    root = official.uec(tmp_path)
    options = uec_food100.Options(root=str(tmp_path), test_share=0.5, complete=False)
    source = uec_food100.read(options)
    assert source.classes == ('rice', 'eels on rice', 'miso soup')
    names = relative(source.train, root) + relative(source.test, root)
    assert len(names) == len(set(names)) == 11  # the line that comes twice is one dish
    assert {'1/3.jpg#xywh=0,0,5,8', '1/3.jpg#xywh=5,0,5,8'} <= set(names)  # two portions of rice on one photograph
    assert not set(source.train.units) & set(source.test.units) and len(source.test)
    at = names.index('3/2.jpg#xywh=6,0,4,3')
    images = source.train if at < len(source.train) else source.test
    np.testing.assert_array_equal(images.read(at if at < len(source.train) else at - len(source.train)),
                                  official.image(tmp_path / 'again.png', 2)[0:3, 6:10])


def test_validation_keeps_photographs_together(tmp_path):
    official.uec(tmp_path)
    for seed in range(5):
        source = data.build(config_of('uec_food100', root=str(tmp_path), complete=False, test_share=0.4,
                                      val_fraction=0.4, val_seed=seed, split_seed=seed))
        parts = [set(images.units) for images in (source.train, source.val, source.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 8


def config_of(name, **options):
    return config.data_from_tree({'name': name, **options}, data.options)


# Of nine ages, persons 8 and 9 wrap around. Odd ones: fold 0 '(38, 42)', 1 '35', 2 'None', 3 '(8, 23)', 4 '29'.
def test_adience_ages(tmp_path):
    root = official.adience(tmp_path / 'a')
    source = adience.read(adience.Options(root=str(root), fold=4))
    assert source.classes == adience.AGES
    assert source.test.labels.tolist() == [0, 0, 1, 1, 4]
    assert source.train.labels.tolist() == [0, 0, 1, 1, 5, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]
    assert relative(source.test, root)[0] == 'faces/8@N01/coarse_tilt_aligned_face.18.0_o.jpg'
    assert not set(source.train.units) & set(source.test.units)
    np.testing.assert_array_equal(source.test.read(4), official.image(tmp_path / 'again.png', 99))


def test_adience_folds_cover_everything_once(tmp_path):
    root = official.adience(tmp_path / 'a')
    tests = [adience.read(adience.Options(root=str(root), fold=k)).test.paths for k in range(5)]
    assert sum(map(len, tests)) == len({path for paths in tests for path in paths}) == 22


def test_adience_gender_alignment_and_frontal_faces(tmp_path):
    root = official.adience(tmp_path / 'a')
    source = adience.read(adience.Options(root=str(root), task='gender', faces='aligned', fold=0))
    assert source.classes == ('female', 'male') and source.test.labels.tolist() == [0, 0, 1, 1]  # u is left out
    assert relative(source.test, root)[2] == 'aligned/1@N01/landmark_aligned_face.11.0_o.jpg'
    assert len(adience.read(adience.Options(root=str(root), frontal=True, fold=0)).test) == 3


@pytest.mark.parametrize('age, group', [
    ('(25, 32)', '(25, 32)'), ('(25,32)', '(25, 32)'), ('(27, 32)', '(25, 32)'), ('(38, 42)', '(38, 43)'),
    ('(38, 48)', '(38, 43)'), ('(8, 23)', None), ('None', None), ('', None), ('2', '(0, 2)'), ('29', '(25, 32)'),
    ('60', '(60, 100)'), ('3', None), ('35', None), ('-1', None), ('1e1', None)])
def test_age_groups(age, group):
    assert adience.age_group(age, {}) == group


def test_age_map_goes_first():
    age_map = {'35': '(38, 43)', '(8,23)': '(15, 20)', '(25, 32)': 'none'}
    assert [adience.age_group(age, age_map) for age in ('35', '(8, 23)', '(25, 32)', '29')] == [
        '(38, 43)', '(15, 20)', None, '(25, 32)']
    options = config_of('adience', age_map=age_map).options
    assert options.age_map == age_map
    with pytest.raises(ConfigError, match=r"data.age_map: '\(38, 44\)' for '35' is no age group; did you mean"):
        config_of('adience', age_map={'35': '(38, 44)'})


@pytest.mark.parametrize('year, hidden', [(2017, False), (2018, True)])
def test_inaturalist(tmp_path, year, hidden):
    root = official.inaturalist(tmp_path / 'i', year, hidden)
    source = inaturalist.read(inaturalist.Options(year=year, root=str(root), complete=False))
    assert source.classes == ('Cyanistes caeruleus', 'Parus major', 'Rana temporaria', 'Bufo bufo')
    assert source.groups == ('Aves', 'Aves', 'Amphibia', 'Amphibia') and source.val is None
    assert np.bincount(source.train.labels).tolist() == [20, 20, 20, 10] and source.test.name == 'test'
    assert np.bincount(source.test.labels).tolist() == [2, 2, 2, 2]
    label = source.test.labels[5]
    assert f'/{label if hidden else source.classes[label]}/' in source.test.paths[5]
    np.testing.assert_array_equal(source.train.read(1), official.image(tmp_path / 'again.png', 2))


def test_inaturalist_super_category_is_split_70_15_15(tmp_path):
    root = official.inaturalist(tmp_path / 'i')
    source = inaturalist.read(inaturalist.Options(year=2018, root=str(root), supercategory='Amphibia', complete=False))
    assert source.classes == ('Rana temporaria', 'Bufo bufo') and source.groups is None
    # 20 and 10 of them; of 3 held out of the toads, half are 1.5, which rounds to the even 2.
    assert [np.bincount(images.labels).tolist() for images in (source.train, source.val, source.test)] == [
        [14, 7], [3, 1], [3, 2]]
    assert len({*source.train.paths, *source.val.paths, *source.test.paths}) == 30
    official_split = inaturalist.read(inaturalist.Options(year=2018, root=str(root), supercategory='Aves',
                                                          split='official', complete=False))
    assert len(official_split.train) == 40 and len(official_split.test) == 4 and official_split.val is None
    with pytest.raises(DataError, match="there is no 'Amphibian'; did you mean 'Amphibia'"):
        inaturalist.read(inaturalist.Options(year=2018, root=str(root), supercategory='Amphibian'))


def test_published_tables_of_inaturalist_add_up():
    totals = {year: tuple(map(sum, zip(*groups.values()))) for year, groups in inaturalist.COUNTS.items()}
    assert totals == {2017: (5089, 579184, 95986), 2018: (8142, 437513, 24426)}
    assert inaturalist.COUNTS[2018]['Amphibia'] == (144, 11156, 432)


@pytest.mark.parametrize('kind', ['python', 'binary'])
def test_cifar10(tmp_path, kind):
    root = official.cifar10(tmp_path, kind)
    source = cifar10.read(cifar10.Options(root=str(tmp_path), complete=False))
    assert source.classes == official.CIFAR10
    assert source.train.labels.tolist() == list(range(10)) and source.test.labels.tolist() == [0, 1, 2]
    rows, _ = official.cifar_rows(2, 4)  # the fifth batch; a row is red, green, blue, each line by line
    image = source.train.read(9)
    assert image[7, 5].tolist() == [rows[1, 1024 * channel + 32 * 7 + 5] for channel in range(3)]
    suffix = '.bin' if kind == 'binary' else ''
    assert source.train.paths[9] == f'{root}/data_batch_5{suffix}#1'


@pytest.mark.parametrize('kind', ['python', 'binary'])
def test_cifar100(tmp_path, kind):
    official.cifar100(tmp_path, kind)
    options = cifar100.Options(root=str(tmp_path), complete=False)
    source = cifar100.read(options)
    assert source.classes == ('apple', 'aquarium_fish', 'pear', 'trout', 'orange', 'ray')
    assert source.groups == ('fruit', 'fish') * 3
    assert source.train.labels.tolist() == [0, 1, 2, 3, 4, 5] and source.test.labels.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(source.test.read(2)[:, :, 1].ravel(), official.cifar_rows(3, 3)[0][2, 1024:2048])
    coarse = cifar100.read(cifar100.Options(root=str(tmp_path), labels='coarse', complete=False))
    assert coarse.classes == ('fruit', 'fish') and coarse.groups is None
    assert coarse.train.labels.tolist() == [0, 1] * 3


# What the official pages and the issue that asked for these readers give, and what the copies of official.py have.
PUBLISHED = {
    'cub200': (official.cub, {}, {'CLASSES': 200, 'TRAIN': 5994, 'TEST': 5794}, '3 classes, published are 200'),
    'stanford_cars': (official.cars, {}, {'CLASSES': 196, 'TRAIN': 8144, 'TEST': 8041}, '3 classes, .* are 196'),
    'stanford_dogs': (official.dogs, {}, {'CLASSES': 120, 'TRAIN': 12000, 'TEST': 8580}, '2 classes, .* are 120'),
    'uec_food100': (official.uec, {}, {'CLASSES': 100}, '11 dishes of 3 kinds, published are about 14,400 of 100'),
    'inaturalist': (official.inaturalist, {'year': 2018}, {}, '4 classes, published are 8,142'),
    'cifar10': (official.cifar10, {}, {}, '10 training images, published are 50,000'),
    'cifar100': (official.cifar100, {}, {}, '6 classes, published are 100'),
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_part_does_not_pass_for_the_whole(tmp_path, name):
    write, options, counts, message = PUBLISHED[name]
    root = str(write(tmp_path / 'x'))
    with pytest.raises(DataError, match=f'{message}; get the whole data set, or set data.complete: false'):
        data.build(config_of(name, root=root, **options))
    module = importlib.import_module(f'gluon_fgvc.data.datasets.{name}')
    assert {key: getattr(module, key) for key in counts} == counts


@pytest.mark.parametrize('missing', ['train', 'test'])
def test_truncated_copies_are_noticed(tmp_path, monkeypatch, missing):
    root = official.cub(tmp_path)
    monkeypatch.setattr(cub200, 'CLASSES', 3)
    monkeypatch.setattr(cub200, 'TRAIN', 4 + (missing == 'train'))
    monkeypatch.setattr(cub200, 'TEST', 2 + (missing == 'test'))
    with pytest.raises(DataError, match=f'{missing}.* images, published are {5 if missing == "train" else 3}'):
        cub200.read(cub200.Options(root=str(root)))

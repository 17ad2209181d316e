"""iNaturalist 2017 and 2018: photographs of plants and animals in the wild (Van Horn et al., CVPR 2018).

The labels of the official test images were never published; the official validation split is what is reported on, and
is the test split here. Classes belong to super-categories such as birds or fungi.
"""
import json
import os
from dataclasses import dataclass
from typing import NamedTuple, Optional

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives
from gluon_fgvc.data.splits import stratified_split
from gluon_fgvc.errors import DataError, did_you_mean

ARCHIVES = {  # MD5 sums of github.com/visipedia/inat_comp
    'train_val_images.tar.gz': '7c784ea5e424efaec655bd392f87301f', 'train_val2017.zip': None,
    'train_val2018.tar.gz': 'b1c6952ce38f31868cc50ea72d066cc3', 'train2018.json.tar.gz':
    'bfa29d89d629cbf04d826a720c0a68b0', 'val2018.json.tar.gz': 'f2ed8bfe3e9901cdefceb4e53cd3775d',
    'categories.json.tar.gz': None}
# Super-category → classes, training images, validation images; the tables of the same pages.
COUNTS = {
    2017: {'Plantae': (2101, 158407, 38206), 'Insecta': (1021, 100479, 18076), 'Aves': (964, 214295, 21226),
           'Reptilia': (289, 35201, 5680), 'Mammalia': (186, 29333, 3490), 'Fungi': (121, 5826, 1780),
           'Amphibia': (115, 15318, 2385), 'Mollusca': (93, 7536, 1841), 'Animalia': (77, 5228, 1362),
           'Arachnida': (56, 4873, 1086), 'Actinopterygii': (53, 1982, 637), 'Chromista': (9, 398, 144),
           'Protozoa': (4, 308, 73)},
    2018: {'Plantae': (2917, 118800, 8751), 'Insecta': (2031, 87192, 6093), 'Aves': (1258, 143950, 3774),
           'Actinopterygii': (369, 7835, 1107), 'Fungi': (321, 6864, 963), 'Reptilia': (284, 22754, 852),
           'Mollusca': (262, 8007, 786), 'Mammalia': (234, 20104, 702), 'Animalia': (178, 5966, 534),
           'Amphibia': (144, 11156, 432), 'Arachnida': (114, 4037, 342), 'Chromista': (25, 621, 75),
           'Protozoa': (4, 211, 12), 'Bacteria': (1, 16, 3)},
}
HELD_OUT = 0.3  # of the official training images, half each for validation and test


@dataclass(frozen=True)
class Options:
    """Which year, and which part of it."""

    year: int = option(doc='2017 or 2018', choices=(2017, 2018))
    root: str = option('data/inaturalist', 'folder with the images and the annotations')
    supercategory: Optional[str] = option(None, 'only the classes of one super-category, e.g. Amphibia; null takes all')
    split: Optional[str] = option(None, "'official': the official validation split is the test split; 'stratified': "
                                        'the official training images, 70 % to train, 15 % to validate, 15 % to '
                                        'test; null is stratified with a supercategory, else official',
                                  choices=(None, 'official', 'stratified'))
    split_seed: int = option(0, 'seed of the stratified split', minimum=0, maximum=2 ** 32 - 1)
    complete: bool = annotations.complete_option()


class _Category(NamedTuple):
    name: str
    group: str


def read(options):
    """Return the :class:`Source`, classes in the order of their ids, with their super-categories as groups.

    ``categories.json`` beside the annotations of 2018 gives the names that were hidden at first.

    :raises DataError: if a file is missing or malformed, ids are given twice or do not fit, there is no such
        super-category, or images are missing.
    """
    root, year = archives.opened(options.root), options.year
    content = f'train{year}.json, val{year}.json and their images'
    tables = {split: os.path.join(archives.base_of(root, f'{split}{year}.json', content), f'{split}{year}.json')
              for split in ('train', 'val')}
    loaded = _load(tables['train'])
    categories = _categories(_list(loaded, 'categories', tables['train']), tables['train'])
    base = archives.find(root, 'categories.json') if year == 2018 else None
    if base is not None:
        path = os.path.join(base, 'categories.json')
        named = _categories(_load(path), path)
        if named.keys() != categories.keys():
            raise DataError(f"'{path}' and '{tables['train']}' do not have the same ids of categories")
        categories = named
    chosen = _choose(categories, options.supercategory)
    train = _image_set('train', root, tables['train'], _annotated(loaded, tables['train'], categories), chosen)
    del loaded  # hundreds of megabytes
    val = _image_set('val', root, tables['val'],
                     _annotated(_load(tables['val']), tables['val'], categories), chosen)
    published = [COUNTS[year].get(group, (0, 0, 0)) for group in
                 ([options.supercategory] if options.supercategory else COUNTS[year])]
    annotations.check_counts(root, options.complete, **{
        name: (found, sum(counts[i] for counts in published))
        for i, (name, found) in enumerate((('classes', len(chosen)), ('official_training_images', len(train)),
                                           ('official_validation_images', len(val))))})
    classes, groups = tuple(categories[k].name for k in chosen), tuple(categories[k].group for k in chosen)
    groups = groups if len(set(groups)) > 1 else None
    if (options.split or ('stratified' if options.supercategory else 'official')) == 'official':
        return Source(classes, train, val.subset(np.arange(len(val)), 'test'), groups=groups)
    rest, held = stratified_split(train.labels, HELD_OUT, options.split_seed)
    to_val, to_test = stratified_split(train.labels[held], 0.5, options.split_seed)
    return Source(classes, train.subset(rest), train.subset(held[to_test], 'test'), train.subset(held[to_val], 'val'),
                  groups)


def _choose(categories, supercategory):
    groups = sorted({category.group for category in categories.values()})
    if supercategory is not None and supercategory not in groups:
        raise DataError(f"data.supercategory: there is no '{supercategory}'{did_you_mean(supercategory, groups)}")
    return [k for k in sorted(categories) if supercategory in (None, categories[k].group)]


def _annotated(loaded, path, categories):
    """Return the list of (file, category) of all images that have an annotation, in the order of the images."""
    files, labels = {}, {}
    for number, image in enumerate(_list(loaded, 'images', path), 1):
        place = f"'{path}', image {number}"
        key, name = _member(image, 'id', int, place), _member(image, 'file_name', str, place)
        if key in files:
            raise DataError(f'{place}: id {key} is given twice')
        files[key] = annotations.inside('', name, place)
    for number, annotation in enumerate(_list(loaded, 'annotations', path), 1):
        place = f"'{path}', annotation {number}"
        image, category = (_member(annotation, name, int, place) for name in ('image_id', 'category_id'))
        if image not in files or category not in categories:
            raise DataError(f'{place}: there is no ' + (f'image {image}' if image not in files else
                                                        f'category {category}'))
        if image in labels:
            raise DataError(f'{place}: image {image} has an annotation already')
        labels[image] = category
    return [(file, labels[key]) for key, file in files.items() if key in labels]


def _image_set(split, root, path, annotated, chosen):
    """Return the images of the ``chosen`` categories, which become classes 0, 1, …"""
    index = {category: k for k, category in enumerate(chosen)}
    rows = [(file, index[category]) for file, category in annotated if category in index]
    if not rows:
        raise DataError(f"'{path}' has no annotated image of these classes")
    files, labels = zip(*rows)
    base = archives.find(root, files[0]) or root
    paths = [os.path.join(base, file) for file in files]
    annotations.check_files(paths)
    return ImageSet(split, paths, np.array(labels, np.int64))


def _categories(rows, path):
    if not isinstance(rows, list) or not rows:
        raise DataError(f"'{path}' has no list of categories")
    found = {}
    for number, row in enumerate(rows, 1):
        place = f"'{path}', category {number}"
        key = _member(row, 'id', int, place)
        if key in found:
            raise DataError(f'{place}: id {key} is given twice')
        found[key] = _Category(_member(row, 'name', str, place), _member(row, 'supercategory', str, place))
    return found


def _load(path):
    def refuse(constant):
        raise ValueError(f'{constant} is not a number of JSON')
    try:
        with open(path, encoding='utf-8') as stream:
            return json.load(stream, parse_constant=refuse)
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"'{path}' is not JSON: {error}") from None


def _list(loaded, name, path):
    if not isinstance(loaded, dict) or not isinstance(loaded.get(name), list):
        raise DataError(f"'{path}' has no list '{name}'; expected the annotations of iNaturalist")
    return loaded[name]


def _member(row, name, kind, place):
    found = row.get(name) if isinstance(row, dict) else None
    if not isinstance(found, kind) or isinstance(found, bool) or found == '':
        raise DataError(f"{place}: '{name}' is {found!r:.60}, not {'a whole number' if kind is int else 'a text'}")
    return found

"""Adience: faces from photographs of everyday life with age group and gender (Eidinger et al., TIFS 2014).

Five folds of which no person is in two: one is the test split, the others train; report the mean of five runs
and its standard deviation. A validation split carved out of train keeps persons together as well.
"""
import os
import re
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives
from gluon_fgvc.errors import ConfigError, DataError, did_you_mean

ARCHIVES = {'faces.tar.gz': None, 'aligned.tar.gz': None, **{f'fold_{k}_data.txt': None for k in range(5)},
            **{f'fold_frontal_{k}_data.txt': None for k in range(5)}}  # no sums are published
FOLDS = 5
AGES = ('(0, 2)', '(4, 6)', '(8, 12)', '(15, 20)', '(25, 32)', '(38, 43)', '(48, 53)', '(60, 100)')
GENDERS = {'f': 'female', 'm': 'male'}
FACES = {'coarse': ('faces', 'coarse_tilt_aligned_face'), 'aligned': ('aligned', 'landmark_aligned_face')}
# Groups written differently, each within or next to exactly one of the eight. '(8, 23)' spans two and is left out,
# as are 'None' and ages that lie between two groups.
STRAYS = {'(38, 42)': '(38, 43)', '(38, 48)': '(38, 43)', '(27, 32)': '(25, 32)'}
COLUMNS = ('user_id', 'original_image', 'face_id', 'age', 'gender')


@dataclass(frozen=True)
class Options:
    """Which question is asked of which faces."""

    root: str = option('data/Adience', 'folder with faces or aligned, and the files fold_0_data.txt to fold_4_data.txt')
    task: str = option('age', "'age': eight groups; 'gender': female or male", choices=('age', 'gender'))
    fold: int = option(0, 'the fold that is the test split', minimum=0, maximum=FOLDS - 1)
    faces: str = option('coarse', "'coarse': turned upright only; 'aligned': by facial landmarks", choices=tuple(FACES))
    frontal: bool = option(False, 'only the nearly frontal faces, fold_frontal_*_data.txt')
    age_map: Mapping[str, str] = option(dict, "age as written → one of the eight groups, or 'none' to leave it out; "
                                              'goes before the rules for stray labels')

    def __post_init__(self):
        for age, group in self.age_map.items():
            if group != 'none' and group not in AGES:
                raise ConfigError(f"data.age_map: '{group}' for '{age}' is no age group"
                                  f"{did_you_mean(group, (*AGES, 'none'))}")


def read(options):
    """Return the :class:`Source` with fold ``options.fold`` as test split. A person is a unit.

    Faces without a usable label are left out: gender u or blank; ages by :func:`age_group`.

    :raises DataError: if a fold is missing or malformed, a person is in two folds, or faces are missing.
    """
    root, sets, fold_of = archives.opened(options.root), [], {}
    folder, prefix = FACES[options.faces]
    for fold in range(FOLDS):
        name = f"fold_{'frontal_' if options.frontal else ''}{fold}_data.txt"
        table = os.path.join(archives.base_of(root, name, 'the five folds of Adience'), name)
        files, labels, users, places = [], [], [], []
        for place, (user, image, face, age, gender) in _rows(table):
            if fold_of.setdefault(user, fold) != fold:
                raise DataError(f"{place}: person '{user}' is in fold {fold_of[user]} too")
            label = age_group(age, options.age_map) if options.task == 'age' else GENDERS.get(gender)
            if label is not None:
                files.append(annotations.inside(folder, f'{user}/{prefix}.{face}.{image}', place))
                labels.append(label)
                users.append(user)
                places.append(place)
        annotations.check_unique(files, places)
        sets.append((files, labels, users))
    classes = AGES if options.task == 'age' else tuple(GENDERS.values())
    parts = {'train': [s for fold, s in enumerate(sets) if fold != options.fold], 'test': [sets[options.fold]]}
    return Source(classes, *(_image_set(split, root, classes, part) for split, part in parts.items()))


def age_group(age, age_map):
    """Return the group of an age as written, or None.

    ``age_map`` decides first, then the eight groups themselves, then ``STRAYS``; a bare age belongs to the group
    that holds it. Spaces do not matter.
    """
    def plain(text):
        return text.replace(' ', '')
    for known in (age_map, {group: group for group in AGES}, STRAYS):
        for written, group in known.items():
            if plain(written) == plain(age):
                return None if group == 'none' else group
    if re.fullmatch('[0-9]{1,3}', age):
        for group in AGES:
            low, high = map(int, re.findall('[0-9]+', group))
            if low <= int(age) <= high:
                return group
    return None


def _rows(path):
    """Yield (place, values of COLUMNS) of a tab-separated file."""
    where = None
    for number, line in enumerate(annotations.read_lines(path), 1):
        cells = [cell.strip() for cell in line.split('\t')]
        if where is None:
            missing = [name for name in COLUMNS if name not in cells]
            if missing:
                raise DataError(f"{path}, line 1: no column '{missing[0]}'; expected tab-separated columns "
                                f"{', '.join(COLUMNS)}, …")
            where, width = [cells.index(name) for name in COLUMNS], len(cells)
        elif line.strip():
            if len(cells) != width:
                raise DataError(f'{path}, line {number}: {len(cells)} columns, expected {width}')
            row = [cells[i] for i in where]
            if not all(row[:3]):
                raise DataError(f'{path}, line {number}: {COLUMNS[row.index("")]} is empty')
            yield f'{path}, line {number}', row


def _image_set(split, root, classes, parts):
    files, labels, users = ([item for part in parts for item in part[i]] for i in range(3))
    if not files:
        raise DataError(f"split '{split}' has no face with a usable label")
    base = archives.find(root, files[0]) or root
    paths = [os.path.join(base, file) for file in files]
    annotations.check_files(paths)
    return ImageSet(split, paths, np.array([classes.index(label) for label in labels], np.int64), units=np.array(users))

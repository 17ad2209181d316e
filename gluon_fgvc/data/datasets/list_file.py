"""Images named in list files: CSV, tab-separated, or lines of ``path label``.

A first line may name the columns, in any order and with others between them: the image as ``path``, ``image``,
``file``, ``filename``, ``image_id`` …, its class as ``label``, ``class``, ``category``, ``species`` …, a super-category
as ``coarse``, ``superclass`` or ``group``, and ``x``, ``y``, ``width`` and ``height`` as a bounding box in pixels; all
names are in ``gluon_fgvc/data/formats/lists.py``. Without such a line there are two columns, path and label, or the
three of ``im2rec --list``: index, label, path. List files are looked for from the folder you are in, images from
``root``. If all labels of all lists are whole numbers they are class indices, else names.
"""
import os
import re
from dataclasses import dataclass
from typing import Optional

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats.annotations import read_names
from gluon_fgvc.data.formats.lists import BOX_COLUMNS, read_list
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.errors import DataError


@dataclass(frozen=True)
class Options:
    """The list files."""

    train_list: str = option(doc='list of the training images')
    test_list: str = option(doc='list of the test images')
    val_list: Optional[str] = option(None, 'list of the validation images; null carves them out of train')
    root: Optional[str] = option(None, 'folder the paths are relative to; null is the folder of each list')
    class_list: Optional[str] = option(None, 'file with one class name a line, in the order of the labels; null '
                                             'takes the sorted names of the training list')
    path_column: Optional[str] = option(None, 'column of the paths in the first line; null knows the usual names')
    label_column: Optional[str] = option(None, 'column of the labels in the first line; null as for path_column')
    unit_column: Optional[str] = option(None, 'column that says what an image belongs to, e.g. an animal or a camera; '
                                              'units are not torn apart by data.val_fraction and data.folds')
    first_label: int = option(0, 'the number of the first class, where labels are numbers', choices=(0, 1))
    crop: bool = option(False, 'cut the images to their bounding boxes, which all lists must give')


def read(options):
    """Return the :class:`Source` of the lists.

    :raises DataError: with file and line, if a list cannot be read, a row is malformed, a label is not a
        class, or an image is listed in two splits or with two labels.
    """
    rows = _read_lists(options)
    _check_repeats(rows, options.crop)
    return _source(rows, options, rows['train'])


def survey(options, _):
    """Like :func:`read`, but images may be listed repeatedly, as their comparison tells, and classes in any list."""
    rows = _read_lists(options)
    return _source(rows, options, [row for part in rows.values() for row in part])


def _read_lists(options):
    lists = {'train': options.train_list, 'val': options.val_list, 'test': options.test_list}
    rows = {}
    for split, path in lists.items():
        if path:
            folder = os.path.expanduser(os.path.dirname(path) if options.root is None else options.root)
            rows[split] = [row._replace(path=os.path.join(folder, row.path))
                           for row in read_list(path, options.path_column, options.label_column,
                                               options.unit_column)]
    return rows


def _source(rows, options, name_rows):
    """Return the :class:`Source` of ``rows``; without a class list, ``name_rows`` tell which classes there are."""
    every = [row for part in rows.values() for row in part]
    numeric = _are_numbers(every)
    if numeric:
        _check_numbers(every, name_rows, options)
    if options.class_list:
        classes = read_names(options.class_list)
    elif numeric:
        last = max(int(float(row.label)) for row in name_rows)
        classes = tuple(str(number) for number in range(options.first_label, last + 1))
    else:
        classes = tuple(sorted({row.label for row in name_rows}))
    index = {str(i + options.first_label) if numeric else name: i for i, name in enumerate(classes)}
    sets = {split: _image_set(split, part, index, numeric, options.crop) for split, part in rows.items()}
    return Source(classes, sets['train'], sets['test'], sets.get('val'),
                  groups=_groups(every, classes, index, numeric))


def _are_numbers(rows):
    """Return whether all labels are class indices; refuse a few that are other numbers, or missing, among them."""
    if all(re.fullmatch(r'\d{1,9}(\.0*)?', row.label) for row in rows):
        return True
    odd = [row for row in rows if not re.fullmatch(r'\d+(\.0*)?', row.label)]
    number_or_none = r'[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?|nan|null|none|n/a|\?'
    if all(re.fullmatch(number_or_none, row.label, re.IGNORECASE) for row in odd):
        row = odd[0] if odd else max(rows, key=lambda row: len(row.label))
        raise DataError(f"{row.place}: label '{row.label}' is no class index (0, 1, 2, …), though the labels are "
                        'numbers; mend the line, or name all classes in words')
    return False


def _check_numbers(rows, name_rows, options):
    numbers = {int(float(row.label)) for row in rows}
    if options.first_label == 0 and min(numbers) == 1 and max(numbers) == len(numbers):
        raise DataError(f"{rows[0].place}: labels run from 1 to {max(numbers)}, indices from 0; set "
                        'data.first_label: 1 if 1 is the first class')
    largest = max(name_rows, key=lambda row: int(float(row.label)))
    count = int(float(largest.label)) + 1 - options.first_label
    if not options.class_list and count > len(name_rows) + options.first_label:
        raise DataError(f"{largest.place}: label '{largest.label}' as an index would make {count:,} classes of "
                        f'{len(name_rows):,} images; mend it, or name the classes in data.class_list')


def _key(label, numeric):
    return str(int(float(label))) if numeric else label


def _image_set(split, rows, index, numeric, crop):
    labels = []
    for row in rows:
        key = _key(row.label, numeric)
        if key not in index:
            first = int(next(iter(index))) if numeric else 0
            raise DataError(f"{row.place}: label '{row.label}' is " + (
                f'not in {first}..{first + len(index) - 1}' if numeric else f'none of the {len(index)} classes'))
        labels.append(index[key])
    boxes = None if any(row.box is None for row in rows) else np.array([row.box for row in rows])
    units = None if any(row.unit is None for row in rows) else np.array([row.unit for row in rows])
    images = ImageSet(split, [row.path for row in rows], np.array(labels, dtype=np.int64), units=units, boxes=boxes)
    if not crop:
        return images
    if boxes is None:
        raise DataError(f"{rows[0].place}: data.crop needs columns {', '.join(BOX_COLUMNS)}, named in the first line")
    return Crops.of(images)


def _groups(rows, classes, index, numeric):
    """Return the super-category of each class, None unless all lists give them."""
    if any(not row.coarse for row in rows):
        return None
    groups = {}
    for row in rows:
        label = index[_key(row.label, numeric)]
        other = groups.setdefault(label, row)
        if other.coarse != row.coarse:
            raise DataError(f"{row.place}: class '{row.label}' is in super-category '{row.coarse}' here, "
                            f"'{other.coarse}' before ({other.place})")
    return tuple(groups[label].coarse if label in groups else '' for label in range(len(classes)))


def _check_repeats(rows, crop):
    seen = {}
    for split, part in rows.items():
        for row in part:
            key = os.path.normpath(row.path)
            other_split, other = seen.setdefault(key, (split, row))
            if crop:  # what is cut out of one image may differ, but not its split
                _, other = seen.setdefault((key, row.box), (split, row))
            if other_split != split:
                raise DataError(f"{row.place}: '{row.path}' is in split '{other_split}' too ({other.place})")
            if other.label != row.label:
                raise DataError(f"{row.place}: '{row.path}' has label '{row.label}' here, '{other.label}' before "
                                f'({other.place})')

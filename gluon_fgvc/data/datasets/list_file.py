"""Images named in list files: CSV, tab-separated, or lines of ``path label``.

A file named ``.csv`` is comma-separated; in others columns are separated by tabs, or, without tabs, the
last word of a line is the label. A first line that names its columns (``path`` or ``image`` or ``file``
or ``filename``, and ``label`` or ``class``) may order them freely and have more of them; ``x``, ``y``, ``width``
and ``height`` are a bounding box in pixels. Paths are relative to ``root``. If all labels of all lists are
whole numbers they are class indices from 0, else names.
"""
import csv
import os
import re
from dataclasses import dataclass
from typing import NamedTuple, Optional, Tuple

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats.annotations import finite, read_lines, read_names, value
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.errors import DataError

PATH_COLUMNS, LABEL_COLUMNS = ('path', 'image', 'file', 'filename'), ('label', 'class')
BOX_COLUMNS = ('x', 'y', 'width', 'height')


@dataclass(frozen=True)
class Options:
    """The list files."""

    train_list: str = option(doc='list of the training images')
    test_list: str = option(doc='list of the test images')
    val_list: Optional[str] = option(None, 'list of the validation images; null carves them out of train')
    root: Optional[str] = option(None, 'folder the paths are relative to; null is the folder of each list')
    class_list: Optional[str] = option(None, 'file with one class name a line, in the order of the labels; null '
                                             'takes the sorted names of the training list')
    crop: bool = option(False, 'cut the images to their bounding boxes, which all lists must give')


class _Row(NamedTuple):
    path: str
    label: str
    box: Optional[Tuple[float, float, float, float]]  # x, y, width, height
    place: str                                        # file and line, for messages


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
    return {split: _read_list(path, options.root) for split, path in lists.items() if path}


def _source(rows, options, name_rows):
    """Return the :class:`Source` of ``rows``; without a class list, ``name_rows`` tell which classes there are."""
    numeric = all(re.fullmatch(r'\d{1,9}', row.label) for part in rows.values() for row in part)
    if options.class_list:
        classes = read_names(options.class_list)
    elif numeric:
        classes = tuple(str(index) for index in range(1 + max(int(row.label) for row in name_rows)))
    else:
        classes = tuple(sorted({row.label for row in name_rows}))
    sets = {split: _image_set(split, part, classes, numeric, options.crop) for split, part in rows.items()}
    return Source(classes, sets['train'], sets['test'], sets.get('val'))


def _image_set(split, rows, classes, numeric, crop):
    index = {str(i) if numeric else name: i for i, name in enumerate(classes)}
    labels = []
    for row in rows:
        key = str(int(row.label)) if numeric else row.label
        if key not in index:
            raise DataError(f"{row.place}: label '{row.label}' is " + (
                f'not in 0..{len(classes) - 1}' if numeric else f'none of the {len(classes)} classes'))
        labels.append(index[key])
    boxes = None if any(row.box is None for row in rows) else np.array([row.box for row in rows])
    images = ImageSet(split, [row.path for row in rows], np.array(labels, dtype=np.int64), boxes=boxes)
    if not crop:
        return images
    if boxes is None:
        raise DataError(f"{rows[0].place}: data.crop needs columns {', '.join(BOX_COLUMNS)}, named in the first line")
    return Crops.of(images)


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


def _read_list(path, root):
    folder = os.path.expanduser(os.path.dirname(path) if root is None else root)
    columns, rows = None, []
    for number, line in enumerate(read_lines(path), 1):
        if not line.strip():
            continue
        place = f'{path}, line {number}'
        try:
            cells = _cells(line, path)
        except csv.Error as error:
            raise DataError(f'{place}: not comma-separated values: {error}') from None
        if columns is None:
            columns = _header(cells)
            if columns:
                continue
            columns = (0, 1, None, 2)
        where_path, where_label, where_box, width = columns
        if len(cells) != width:
            raise DataError(f'{place}: {line!r} has {len(cells)} columns, expected {width} (path, label)')
        if not cells[where_path] or not cells[where_label]:
            raise DataError(f'{place}: {line!r} lacks a path or a label')
        box = where_box and tuple(value(place, name, finite, cells[i]) for name, i in zip(BOX_COLUMNS, where_box))
        rows.append(_Row(os.path.join(folder, cells[where_path]), cells[where_label], box, place))
    if not rows:
        raise DataError(f"list '{path}' names no images; expected lines of path and label")
    return rows


def _cells(line, path):
    if path.lower().endswith('.csv'):
        cells = next(csv.reader([line]))
    elif '\t' in line:
        cells = line.split('\t')
    else:
        cells = line.strip().rsplit(None, 1)
    return [cell.strip() for cell in cells]


def _header(cells):
    """Return the columns of path, label and, or None, box and their number if ``cells`` name columns, else None."""
    names = [cell.lower() for cell in cells]
    found = [next((names.index(name) for name in wanted if name in names), None)
             for wanted in (PATH_COLUMNS, LABEL_COLUMNS)]
    box = [names.index(name) for name in BOX_COLUMNS] if set(BOX_COLUMNS) <= set(names) else None
    return None if None in found else (*found, box, len(cells))

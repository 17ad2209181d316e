"""Lists of images as people write them: what divides the columns, which is which, and what cannot be known.

Whatever can be read in one way only is read; the rest is refused with the line, what was understood, and the remedy.
A first line that names columns must never become an image.
"""
import csv
import os
import re
from functools import partial
from typing import NamedTuple, Optional, Tuple

from gluon_fgvc.data.formats.annotations import finite, read_lines, value
from gluon_fgvc.data.images import EXTENSIONS
from gluon_fgvc.errors import DataError

# Names that a first line may give its columns, in any case; the first of each that is there counts.
PATH_COLUMNS = ('path', 'image', 'file', 'filename', 'image_path', 'file_path', 'filepath', 'file_name', 'image_name',
                'img', 'img_path', 'image_id', 'id')
LABEL_COLUMNS = ('label', 'class', 'fine', 'fine_label', 'category', 'target', 'breed', 'species', 'class_name',
                 'classname', 'class_id', 'label_id', 'category_id')
COARSE_COLUMNS = ('coarse', 'coarse_label', 'superclass', 'super_class', 'supercategory', 'super_category', 'group')
BOX_COLUMNS = ('x', 'y', 'width', 'height')
SEPARATORS = (',', ';', '\t')


class Row(NamedTuple):
    """One line of a list."""

    path: str
    label: str
    coarse: Optional[str]
    box: Optional[Tuple[float, float, float, float]]  # x, y, width, height
    place: str                                        # file and line, for messages
    unit: Optional[str] = None                        # what it belongs to


class _Columns(NamedTuple):
    """Where in a line each value stands, and how many cells a line has."""

    path: int
    label: int
    count: int
    coarse: Optional[int] = None
    box: Optional[Tuple[int, ...]] = None
    unit: Optional[int] = None


def read_list(path, path_column=None, label_column=None, unit_column=None):
    """Return the :class:`Row` s of the list file ``path``.

    :param path_column, label_column: names of columns as the first line has them, where they are none of the known.
    :param unit_column: name of the column that says what an image belongs to; None for lists without.
    :raises DataError: with file and line, if the list cannot be read or is not to be understood.
    """
    lines = [(number, line) for number, line in enumerate(_lines(path), 1)
             if line.strip() and not (number > 1 and line.startswith('# '))]
    split = _splitter(path, [line for _, line in lines])
    table = []
    for number, line in lines:
        place = f'{path}, line {number}'
        try:
            table.append((place, line, split(line)))
        except csv.Error as error:
            raise DataError(f'{place}: not comma-separated values: {error}') from None
    if not table:
        raise DataError(f"list '{path}' names no images; expected lines of path and label")
    columns = _named_columns(table[0], path_column, label_column, unit_column)
    if columns:
        table = table[1:]
    elif unit_column:
        raise DataError(f"{table[0][0]}: data.unit_column '{unit_column}' needs a first line that names the columns, "
                        f'e.g. path,label,{unit_column}')
    else:
        columns = _known_shape(table) or _Columns(0, 1, 2)
        _refuse_header(table)
    if not table:
        raise DataError(f"list '{path}' names no images; expected lines of path and label")
    return [_row(place, line, cells, columns) for place, line, cells in table]


def _lines(path):
    if not os.path.isabs(os.path.expanduser(path)) and not os.path.exists(path):
        raise DataError(f"cannot read '{path}': No such file or directory; list files are looked for from the folder "
                        f"you are in, '{os.getcwd()}', the images in them from data.root")
    return read_lines(path)


def _row(place, line, cells, columns):
    cells = list(cells)
    while len(cells) > columns.count and not cells[-1]:  # a comma at the end
        cells.pop()
    if len(cells) != columns.count:
        hint = '' if columns.count != 2 else '; a first line may name the columns, e.g. path,label,coarse'
        raise DataError(f'{place}: {line!r} has {len(cells)} columns, expected {columns.count} (path, label){hint}')
    if not cells[columns.path] or not cells[columns.label]:
        raise DataError(f'{place}: {line!r} lacks a path or a label')
    if columns.unit is not None and not cells[columns.unit]:
        raise DataError(f'{place}: {line!r} lacks what the image belongs to (data.unit_column)')
    box = columns.box and tuple(value(place, name, finite, cells[i]) for name, i in zip(BOX_COLUMNS, columns.box))
    return Row(cells[columns.path], cells[columns.label], None if columns.coarse is None else cells[columns.coarse],
               box, place, None if columns.unit is None else cells[columns.unit])


# --- what divides the columns ----------------------------------------------------------------

def _splitter(path, lines):
    """Return the function that divides a line into cells."""
    if path.lower().endswith('.csv'):
        return partial(_cells, separator=_separator(path, lines))
    if any('\t' in line for line in lines):
        return lambda line: [cell.strip() for cell in line.split('\t')] if '\t' in line else _words(line)
    for separator in ',;':
        first = _cells(lines[0], separator) if lines else []
        if len(first) > 1 and (_is_image(first[0]) or _find(_names(first), PATH_COLUMNS) is not None):
            return lambda line: _cells(line, separator)
    return _words


def _separator(path, lines):
    """Return what divides all lines into the same number of cells, more than one; a comma where nothing does."""
    possible = []
    for separator in SEPARATORS:
        try:
            counts = {len(_cells(line, separator)) for line in lines}
        except csv.Error:
            continue
        if len(counts) == 1 and counts.pop() > 1:
            possible.append(separator)
    if len(possible) > 1:
        named = [separator for separator in possible
                 if _find(_names(_cells(lines[0], separator)), PATH_COLUMNS) is not None]
        if len(named) != 1:
            raise DataError(f"{path}, line 1: {lines[0]!r} can be divided by {' and by '.join(map(repr, possible))}; "
                            'name the columns in a first line, e.g. path,label, or put paths in quotes')
        possible = named
    return possible[0] if possible else ','


def _cells(line, separator):
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def _words(line):
    """Divide ``path label``: the path may hold spaces, the label may not, unless the path is in quotes."""
    line = line.strip()
    quoted = re.fullmatch(r'"([^"]+)"\s+(.+)', line)
    if quoted:
        return list(quoted.groups())
    words = line.split()
    if len(words) > 2 and _is_image(words[0]) and not _is_image(' '.join(words[:-1])):
        return words  # path, fine, coarse: too many columns, which is said
    return [cell.strip() for cell in line.rsplit(None, 1)]


# --- which column is which -------------------------------------------------------------------

def _named_columns(first, path_column, label_column, unit_column):
    """Return the :class:`_Columns` that the first line names, None if it names none."""
    place, line, cells = first
    while cells and not cells[-1]:
        cells = cells[:-1]
    names = _names(cells)
    wanted = [(given.lower(),) if given else known for given, known in ((path_column, PATH_COLUMNS),
                                                                         (label_column, LABEL_COLUMNS))]
    path, label = (_find(names, known) for known in wanted)
    unit = _find(names, (unit_column.lower(),)) if unit_column else None
    for key, given, found in (('path_column', path_column, path), ('label_column', label_column, label),
                              ('unit_column', path is not None and label is not None and unit_column, unit)):
        if given and found is None:
            raise DataError(f"{place}: data.{key} '{given}' is none of the columns: {', '.join(names)}")
    if path is None or label is None:
        return None
    box = tuple(names.index(name) for name in BOX_COLUMNS) if set(BOX_COLUMNS) <= set(names) else None
    return _Columns(path, label, len(cells), _find(names, COARSE_COLUMNS), box, unit)


def _known_shape(table):
    """Return the columns of lists without a first line of names that can be one thing only, else None."""
    rows = [cells for _, _, cells in table]
    if all(len(cells) == 3 and cells[0].isdecimal() and re.fullmatch(r'[-+]?[\d.]+', cells[1]) and _is_image(cells[2])
           for cells in rows):
        return _Columns(2, 1, 3)  # index, label, path: `im2rec --list`
    if all(len(cells) == 2 and _is_image(cells[1]) and not _is_image(cells[0]) for cells in rows):
        return _Columns(1, 0, 2)
    return None


def _refuse_header(table):
    """Refuse a first line that seems to name columns, in words that are not known."""
    place, line, cells = table[0]
    names = _names(cells)
    known = any(name in (*PATH_COLUMNS, *LABEL_COLUMNS) for name in names)
    odd = len(table) > 1 and all(any(map(_is_image, row)) for _, _, row in table[1:])
    if not any(map(_is_image, cells)) and (known or odd):
        raise DataError(f'{place}: {line!r} seems to name columns, but not those of path and label (known are '
                        f"{', '.join(PATH_COLUMNS)}; {', '.join(LABEL_COLUMNS)}); rename them, or set data.path_column "
                        'and data.label_column')


def _names(cells):
    return [cell.lstrip('#').strip().strip('"\'').lower() for cell in cells]


def _find(names, wanted):
    return next((names.index(name) for name in wanted if name in names), None)


def _is_image(cell):
    return cell.lower().endswith(EXTENSIONS)

"""The tables that come with published data sets: read strictly, since copies are cut short and edited by hand."""
import math
import os
import re

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.formats.archives import leads_out
from gluon_fgvc.errors import DataError


def complete_option():
    """Return the option ``complete`` of readers that know the published numbers; see :func:`check_counts`."""
    return option(True, 'refuse a copy whose numbers of classes and images are not the published ones; false for a '
                        'part of the data set')


def read_lines(path):
    """Return the lines of a text file in UTF-8; a byte order mark is left out.

    :raises DataError: if it cannot be read or is no text.
    """
    try:
        with open(os.path.expanduser(path), encoding='utf-8-sig') as stream:
            text = stream.read()
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        text = '\0'
    if '\0' in text:
        raise DataError(f"'{path}' is not a text file in UTF-8")
    return text.split('\n')


def read_names(path):
    """Return the class names of a file with one a line.

    :raises DataError: if a name is empty or comes twice, or there is none.
    """
    names = [line.strip() for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    seen = set()
    for number, name in enumerate(names, 1):
        if not name or name in seen:
            raise DataError(f"{path}, line {number}: class name '{name}' is {'given twice' if name else 'empty'}")
        seen.add(name)
    if not names:
        raise DataError(f"class list '{path}' is empty")
    return tuple(names)


def readable(name):
    """Return a class name as one would write it: without a number before it, with spaces for underscores."""
    return re.sub(r'^\d+\.', '', name).replace('_', ' ')


def whole(text):
    """Read a whole number of at most nine digits."""
    if not re.fullmatch('[0-9]{1,9}', text):
        raise ValueError('is not a whole number')
    return int(text)


def finite(text):
    """Read a number, which may not be infinite or NaN."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError('is not a finite number')
    return value


def read_table(path, /, *, header=False, **columns):
    """Read lines of words, one row each: yield (place, values).

    The last column may hold spaces if it is text. ``place``, the file and line, is for messages.

    :param header: leave out the first line.
    :param columns: name → function that reads its text or raises ValueError with the reason.
    :raises DataError: naming file and line, at a row of another number of columns or a value that cannot be read.
    """
    lines = [(number, line) for number, line in enumerate(read_lines(path), 1) if line.strip()]
    for number, line in lines[header:]:
        place, cells = f'{path}, line {number}', line.split(None, len(columns) - 1)
        if len(cells) != len(columns):
            raise DataError(f"{place}: {line!r} has {len(cells)} columns, expected {len(columns)}: "
                            f"{' '.join(columns)}")
        yield place, tuple(value(place, name, read, cell.strip()) for (name, read), cell in zip(columns.items(), cells))


def value(place, name, read, text):
    """Return ``read(text)``, turning its ValueError into a DataError of ``place`` and ``name``."""
    try:
        return read(text)
    except ValueError as error:
        raise DataError(f'{place}: {name} {text!r} {error}') from None


def keyed(rows):
    """Turn rows of :func:`read_table` into a dict: first value → the only other, or a tuple of the others.

    :raises DataError: if a key comes twice.
    """
    result = {}
    for place, (key, *rest) in rows:
        if key in result:
            raise DataError(f"{place}: '{key}' is given twice")
        result[key] = rest[0] if len(rest) == 1 else tuple(rest)
    return result


def inside(folder, name, place):
    """Return ``folder/name``, refusing a ``name`` that leads out of ``folder``."""
    if leads_out(name):
        raise DataError(f"{place}: path {name!r} leads out of the data set's folder")
    return os.path.join(folder, name)


def check_files(paths):
    """Check that all of ``paths`` exist, listing each folder once.

    :raises DataError: naming how many are missing and the first of them.
    """
    listed, missing = {}, []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in listed:
            try:
                listed[folder] = set(os.listdir(folder))
            except OSError:
                listed[folder] = frozenset()
        if name not in listed[folder]:
            missing.append(path)
    if missing:
        raise DataError(f'{len(missing):,} of {len(paths):,} images are missing, the first: {missing[0]!r}; unpack the '
                        'archive again')


def check_counts(root, complete, /, **counts):
    """Check numbers found against published ones; ``counts`` are name=(found, published).

    :raises DataError: at the first that differs, unless ``complete`` is false.
    """
    for name, (found, published) in counts.items():
        if complete and found != published:
            raise DataError(f"'{root}' has {found:,} {name.replace('_', ' ')}, published are {published:,}; get the "
                            'whole data set, or set data.complete: false to use this part of it')


def check_unique(names, places):
    """Check that no image is listed twice; ``places`` tell where each was.

    :raises DataError: at the first that is.
    """
    seen = {}
    for name, place in zip(names, places):
        if name in seen:
            raise DataError(f'{place}: {name!r} is listed before ({seen[name]})')
        seen[name] = place


def class_indices(labels, count, places):
    """Turn labels from 1 into class indices (N,) int64 from 0.

    :param places: where each label was read, for messages.
    :raises DataError: at a label outside 1..count.
    """
    labels = np.asarray(labels, np.int64)
    wrong = np.flatnonzero((labels < 1) | (labels > count))
    if len(wrong):
        raise DataError(f'{places[wrong[0]]}: class {labels[wrong[0]]} is not in 1..{count}')
    return labels - 1

"""Images that belong together by a list: one photograph twice, one animal, one part from all sides.

Whatever is split keeps the images of a unit on one side (``data.folds``, ``data.val_fraction``). A list is a CSV file
with the columns ``path`` and ``unit``; ``fgvc doctor data --units`` writes one of the images that look alike.
"""
import csv
from collections import defaultdict
from dataclasses import replace
from pathlib import PurePath

import numpy as np

from gluon_fgvc.errors import DataError, did_you_mean

COLUMNS = ('path', 'unit')


def with_units(source, path):
    """Return ``source`` with the units that the list ``path`` gives; an image that it does not name is one of its own.

    A path of the list names the image whose path ends with it, so that a list goes with a data set to another place.

    :raises DataError: naming the line, if no image or several are meant; for a list that cannot be read; where the data
        set has units of its own.
    """
    splits = source.splits()
    if any(images.units is not None for images in splits):
        raise DataError(f"data.units '{path}': the data set has units of its own; leave it out")
    places = defaultdict(list)  # last part of a path → (split, index, all parts)
    for split, images in enumerate(splits):
        for index, name in enumerate(images.paths):
            parts = PurePath(name).parts
            places[parts[-1]].append((split, index, parts))
    named = {}  # (split, index) → unit, and the line that says so
    for place, name, unit in _rows(path):
        parts = PurePath(name).parts
        found = [(split, index) for split, index, whole in places.get(parts[-1], ()) if whole[-len(parts):] == parts]
        if len(found) != 1:
            several = [splits[split].paths[index] for split, index in found]
            raise DataError(f"{place}: " + (
                f"'{name}' may be '{several[0]}' or '{several[1]}'; write more of the path" if several else
                f"no image is called '{name}'{did_you_mean(parts[-1], list(places))}"))
        other, before = named.setdefault(found[0], (unit, place))
        if other != unit:
            raise DataError(f"{place}: '{name}' is in unit '{unit}' here, '{other}' before ({before})")
    return replace(source, **{
        images.name: replace(images, units=np.array([named.get((split, index), (f'image {name}',))[0]
                                                     for index, name in enumerate(images.paths)]))
        for split, images in enumerate(splits)})


def of_groups(groups, source):
    """Return rows of ``COLUMNS`` for ``groups``, lists of paths of ``source``, numbered from 1.

    Paths begin below the folder that all images of the data set have in common.
    """
    folders = [PurePath(path).parts[:-1] for images in source.splits() for path in images.paths]
    lowest, highest = min(folders), max(folders)
    common = next((depth for depth, (one, other) in enumerate(zip(lowest, highest)) if one != other),
                  min(len(lowest), len(highest)))
    return [(PurePath(*PurePath(path).parts[common:]).as_posix(), number)
            for number, group in enumerate(groups, 1) for path in group]


def _rows(path):
    """Yield (file and line, path, unit) of a list."""
    try:
        with open(path, encoding='utf-8-sig', newline='') as stream:
            reader = csv.DictReader(stream)
            if not set(COLUMNS) <= set(reader.fieldnames or ()):
                raise DataError(f"'{path}' has the columns {', '.join(reader.fieldnames or ()) or '(none)'}; a list of "
                                f"units has {' and '.join(COLUMNS)}")
            for row in reader:
                place = f'{path}, line {reader.line_num}'
                name, unit = (row[column] or '' for column in COLUMNS)
                if not name.strip() or not unit.strip():
                    raise DataError(f'{place}: path and unit must not be empty')
                yield place, name, unit
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read data.units '{path}': {getattr(error, 'strerror', None) or error}") from None

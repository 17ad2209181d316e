"""UEC Food-100: about 14,400 dishes of 100 kinds in photographs of meals (Matsuda et al., ICME 2012).

The images are the dishes, cut out of their photographs. A photograph of several dishes is in the folder of each, so
all dishes of a photograph go to the same split. There is no official split: ours is stratified, published
figures on others are not strictly comparable.
"""
import os
from dataclasses import dataclass

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.data.splits import stratified_split
from gluon_fgvc.errors import DataError

ARCHIVES = {'dataset100.zip': None}  # no sum is published
CLASSES, DISHES = 100, range(14000, 15000)


@dataclass(frozen=True)
class Options:
    """Where the meals are, and how they are split."""

    root: str = option('data/UECFOOD100', 'dataset100.zip, or a folder with what was in it')
    test_share: float = option(0.2, 'stratified share of the photographs for the test split', above=0, below=1)
    split_seed: int = option(0, 'seed of the test split', minimum=0, maximum=2 ** 32 - 1)
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source`; a photograph is a unit, which no split tears apart.

    :raises DataError: if a table is missing or malformed, or photographs are missing.
    """
    root = archives.base_of(archives.opened(options.root), 'category.txt', 'the folder UECFOOD100')
    finite = annotations.finite
    names = annotations.keyed(annotations.read_table(f'{root}/category.txt', header=True, id=annotations.whole,
                                                     name=str))
    files, boxes, labels, photographs, seen = [], [], [], [], set()
    for label, category in enumerate(sorted(names)):
        folder = os.path.join(root, str(category))
        for place, (image, x1, y1, x2, y2) in annotations.read_table(
                os.path.join(folder, 'bb_info.txt'), header=True, img=str, x1=finite, y1=finite, x2=finite, y2=finite):
            dish = annotations.inside(folder, f'{image}.jpg', place), (x1, y1, x2 - x1, y2 - y1)
            if dish not in seen:  # a line that was copied does not make two dishes
                seen.add(dish)
                files.append(dish[0])
                boxes.append(dish[1])
                labels.append(label)
                photographs.append(image)
    if not files:
        raise DataError(f"'{root}' lists no dishes")
    if options.complete and (len(names) != CLASSES or len(files) not in DISHES):
        raise DataError(f"'{root}' has {len(files):,} dishes of {len(names)} kinds, published are about 14,400 of "
                        f'{CLASSES}; get the whole data set, or set data.complete: false to use this part of it')
    annotations.check_files(files)
    dishes = Crops.of(ImageSet('all', files, np.array(labels, np.int64), units=np.array(photographs)), np.array(boxes))
    train, test = stratified_split(dishes.labels, options.test_share, options.split_seed, dishes.units)
    return Source(tuple(annotations.readable(names[k]) for k in sorted(names)), dishes.subset(train, 'train'),
                  dishes.subset(test, 'test'))

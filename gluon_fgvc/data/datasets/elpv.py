"""ELPV: 2,624 electroluminescence photographs of solar cells, 300 x 300, from the package ``elpv-dataset``.

Buerhop-Lutz et al. 2018, Deitsch et al., Solar Energy 2019. Each cell carries a defect probability of
0, 1/3, 2/3 or 1 and a type, mono- or polycrystalline. There is no official split; ours is stratified by
probability and type, so published figures on other splits are not strictly comparable.
"""
import importlib.util
import os
from dataclasses import dataclass

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.splits import stratified_split
from gluon_fgvc.errors import DataError

GRADES = {'0.00': '0', '0.33': '1/3', '0.67': '2/3', '1.00': '1'}
TYPES = ('mono', 'poly')


@dataclass(frozen=True)
class Options:
    """Which question is asked of the cells."""

    labels: str = option('binary', "'binary': functional, or defective from probability 1/2 on; 'grade': the four "
                                   "probabilities; 'grade_type': the four for either cell type",
                         choices=('binary', 'grade', 'grade_type'))
    soft_labels: bool = option(False, 'train on the defect probability p as [1 - p, p]; binary only')
    test_share: float = option(0.25, 'stratified share of the cells for the test split', above=0, below=1)
    split_seed: int = option(0, 'seed of the test split', minimum=0, maximum=2 ** 32 - 1)

    def __post_init__(self):
        if self.soft_labels and self.labels != 'binary':
            raise ValueError(f"soft_labels goes with labels: binary only, not '{self.labels}'")


def read(options):
    """Return the :class:`Source` of ELPV.

    :raises DataError: where the package is missing or its table is not as published.
    """
    spec = importlib.util.find_spec('elpv_dataset')
    if spec is None:
        raise DataError("data set 'elpv' needs the package elpv-dataset; install it with: pip install elpv-dataset")
    root = os.path.join(spec.submodule_search_locations[0], 'data')
    paths, probabilities, types = _table(os.path.join(root, 'labels.csv'))
    grades = np.array([list(GRADES).index(f'{p:.2f}') for p in probabilities])
    kinds = np.array([TYPES.index(kind) for kind in types])
    if options.labels == 'binary':
        classes, labels = ('functional', 'defective'), probabilities >= 0.5
    elif options.labels == 'grade':
        classes, labels = tuple(GRADES.values()), grades
    else:
        classes = tuple(f'{kind} {grade}' for kind in TYPES for grade in GRADES.values())
        labels = kinds * len(GRADES) + grades
    targets = np.stack([1 - probabilities, probabilities], 1).astype(np.float32) if options.soft_labels else None
    cells = ImageSet('all', [os.path.join(root, path) for path in paths], labels.astype(np.int64), targets,
                     np.array([f'{kind}{p:.2f}' for kind, p in zip(types, probabilities)]))
    train, test = stratified_split(cells.strata, options.test_share, options.split_seed)
    return Source(classes, cells.subset(train, 'train'), cells.subset(test, 'test'))


def _table(path):
    try:
        with open(path, encoding='utf-8') as stream:
            rows = [line.split() for line in stream if line.strip()]
    except OSError as error:
        raise DataError(f"cannot read '{path}': {error.strerror}; reinstall with: "
                        'pip install --force-reinstall elpv-dataset') from None
    for number, row in enumerate(rows, 1):
        if len(row) != 3 or row[2] not in TYPES or not _is_grade(row[1]):
            raise DataError(f"{path}, line {number}: {' '.join(row)!r} is not 'path probability type' with a "
                            f"probability of {', '.join(GRADES.values())} and a type of {', '.join(TYPES)}")
    names, probabilities, types = zip(*rows)
    return names, np.array([float(p) for p in probabilities]), types


def _is_grade(text):
    try:
        return f'{float(text):.2f}' in GRADES
    except ValueError:
        return False

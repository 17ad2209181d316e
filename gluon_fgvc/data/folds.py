"""Cross-validation: the images of all splits, pooled and dealt into folds, of which one is the test split.

A data set that publishes folds of its own, such as Adience, reads them itself; these are for all others.
"""
from dataclasses import replace

import numpy as np

from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.errors import DataError


def with_fold(source, folds, fold, seed):
    """Return ``source`` with fold ``fold`` of all its images as the test split and the others as train; no validation.

    :param folds: how many, at least 2; ``fold`` counts from 0.
    :raises DataError: for a class whose images are all one unit, or one: they cannot be in train and in test.
    """
    images = pooled(source.splits())
    strata = images.labels if images.strata is None else images.strata
    _check_spread(images, source.classes)
    of_fold = deal(strata, folds, seed, images.units) == fold
    if not of_fold.any():
        raise DataError(f'data.folds {folds} is more than there are images or units of them; fold {fold} is empty')
    units = '' if images.units is None else f', {len(set(images.units.tolist())):,} units of them kept together'
    note = (f'the test split is fold {fold} of 0 to {folds - 1} of all {len(images):,} images{units}; the splits of '
            'the data set itself are not used (data.folds)')
    return replace(source, train=images.subset(np.flatnonzero(~of_fold), 'train'), val=None,
                   test=images.subset(np.flatnonzero(of_fold), 'test'), notes=(*source.notes, note))


def deal(strata, folds, seed, units=None):
    """Return the fold of each of N items, (N,) int64 in 0..folds-1: every stratum is spread as evenly as can be.

    A unit is never in two folds; it belongs to the rarest stratum among its items. Within a stratum units are dealt
    in random order, the largest first, each to the fold that has the fewest items of the stratum, or of all where
    several have. The result depends on nothing but the arguments.

    :param strata: (N,) sortable values.
    :param units: (N,) sortable values, or None: every item is its own.
    """
    _, stratum_of, frequency = np.unique(np.asarray(strata), return_inverse=True, return_counts=True)
    unit_of = np.arange(len(stratum_of)) if units is None else np.unique(units, return_inverse=True)[1]
    by_unit = np.lexsort((stratum_of, frequency[stratum_of], unit_of))  # the rarest of each unit first
    _, first, size = np.unique(unit_of[by_unit], return_index=True, return_counts=True)
    stratum_of_unit = stratum_of[by_unit][first]
    generator, fold_of, in_all = np.random.RandomState(seed), np.empty(len(size), np.int64), np.zeros(folds, np.int64)
    for stratum in range(len(frequency)):
        members = generator.permutation(np.flatnonzero(stratum_of_unit == stratum))
        in_stratum = np.zeros(folds, np.int64)
        for unit in members[np.argsort(-size[members], kind='stable')]:
            fold = np.lexsort((in_all, in_stratum))[0]
            fold_of[unit] = fold
            in_stratum[fold] += size[unit]
            in_all[fold] += size[unit]
    return fold_of[unit_of]


def pooled(sets):
    """Return one :class:`ImageSet` of all images of ``sets``, in their order."""
    readers = None if all(images.reader is None for images in sets) else _Pool(sets)
    return ImageSet('all', [path for images in sets for path in images.paths],
                    np.concatenate([images.labels for images in sets]), targets=_joined(sets, 'targets'),
                    strata=_joined(sets, 'strata'), units=_joined(sets, 'units'), boxes=_joined(sets, 'boxes'),
                    reader=readers)


class _Pool:
    """The reader of a pool: a row is a place in the sets, one after another."""

    def __init__(self, sets):
        self.sets, self.ends = sets, np.cumsum([len(images) for images in sets])

    def __call__(self, row):
        part = int(np.searchsorted(self.ends, row, side='right'))
        return self.sets[part].open(row - (int(self.ends[part - 1]) if part else 0))


def _joined(sets, name):
    """Return the values ``name`` of all sets, None unless each of them has some."""
    values = [getattr(images, name) for images in sets]
    return None if any(value is None for value in values) else np.concatenate(values)


def _check_spread(images, classes):
    units = np.arange(len(images)) if images.units is None else np.unique(images.units, return_inverse=True)[1]
    for label, name in enumerate(classes):
        count = len(set(units[images.labels == label].tolist()))
        if count < 2:
            what = 'image' if images.units is None else 'unit of images'
            raise DataError(f"class '{name}' has {count} {what}, which cannot be in train and test (data.folds)")

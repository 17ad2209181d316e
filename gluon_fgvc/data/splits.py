"""Stratified splitting, and the record of a split."""
import hashlib
import os

import numpy as np


def stratified_split(strata, share, seed, units=None):
    """Split N items in two so that every stratum gives ``share`` of its items to the second part.

    Strata are visited in sorted order with one generator, so the result depends on nothing but the
    arguments. A stratum of n items gives ``round(n * share)`` of them (halves round to even).

    With ``units``, it is units that are split, and their items follow: no unit is in both parts. A unit
    belongs to the rarest stratum among its items.

    :param strata: (N,) sortable values.
    :param units: (N,) sortable values, or None: every item is its own.
    :returns: two ascending int64 index arrays: the rest and the share.
    """
    strata = np.asarray(strata)
    if units is not None:
        return _split_units(strata, share, seed, units)
    generator = np.random.RandomState(seed)
    rest, taken = [], []
    for stratum in sorted(set(strata.tolist())):
        group = generator.permutation(np.flatnonzero(strata == stratum))
        count = int(round(len(group) * share))
        taken.extend(group[:count])
        rest.extend(group[count:])
    return np.sort(np.array(rest, dtype=np.int64)), np.sort(np.array(taken, dtype=np.int64))


def stratified_subset(strata, most, seed):
    """Return an ascending int64 index array of at most ``most`` items of each stratum, drawn with ``seed``.

    A larger ``most`` keeps all that a smaller one does. A stratum that has no more is kept whole.

    :param strata: (N,) sortable values.
    """
    strata = np.asarray(strata)
    generator = np.random.RandomState(seed)
    return np.sort(np.concatenate([generator.permutation(np.flatnonzero(strata == stratum))[:most]
                                   for stratum in np.unique(strata)]))


def _split_units(strata, share, seed, units):
    _, stratum_of, frequency = np.unique(strata, return_inverse=True, return_counts=True)
    _, unit_of = np.unique(units, return_inverse=True)
    by_unit = np.lexsort((stratum_of, frequency[stratum_of], unit_of))  # the rarest of each unit first
    _, first = np.unique(unit_of[by_unit], return_index=True)
    _, taken = stratified_split(stratum_of[by_unit][first], share, seed)
    taken = np.isin(unit_of, taken)
    return np.flatnonzero(~taken), np.flatnonzero(taken)


def torn_units(source):
    """Return the units that have images in several splits of a :class:`~gluon_fgvc.data.base.Source`.

    :returns: a sorted list of (unit, names of the splits); empty where the data set has no units.
    """
    places = {}
    for images in source.splits():
        for unit in set(() if images.units is None else images.units.tolist()):
            places.setdefault(unit, []).append(images.name)
    return [(unit, splits) for unit, splits in sorted(places.items()) if len(splits) > 1]


def relative_names(source):
    """Return the names of the images of each split of a :class:`~gluon_fgvc.data.base.Source`, dict of lists in order.

    Names are relative to the folder that all share, so that they hold wherever the data set lies.
    """
    sets = source.splits()
    folder = os.path.commonprefix([os.path.dirname(path) for images in sets for path in images.paths])
    start = folder.rfind(os.sep) + 1 if folder and not folder.endswith(os.sep) else len(folder)
    return {images.name: [path[start:] for path in images.paths] for images in sets}


def split_record(source):
    """Return which images of a :class:`~gluon_fgvc.data.base.Source` are in which split, as a tree for JSON.

    For each split the number of its images and the SHA-256 of their :func:`relative_names` and labels, in order; the
    names of the validation images, which chance may have chosen, in full.
    """
    names, record = relative_names(source), {}
    for images in source.splits():
        digest = hashlib.sha256()
        for name, label in zip(names[images.name], images.labels):
            digest.update(f'{name}\t{label}\n'.encode('utf-8', 'surrogateescape'))
        record[images.name] = {'images': len(images), 'sha256': digest.hexdigest()}
    return {'splits': record, 'val': names.get('val', [])}

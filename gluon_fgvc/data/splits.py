"""Stratified splitting."""
import numpy as np


def stratified_split(strata, share, seed):
    """Split N items in two so that every stratum gives ``share`` of its items to the second part.

    Strata are visited in sorted order with one generator, so the result depends on nothing but the
    arguments. A stratum of n items gives ``round(n * share)`` of them (halves round to even).

    :param strata: (N,) sortable values.
    :returns: two ascending int64 index arrays: the rest and the share.
    """
    strata = np.asarray(strata)
    generator = np.random.RandomState(seed)
    rest, taken = [], []
    for stratum in sorted(set(strata.tolist())):
        group = generator.permutation(np.flatnonzero(strata == stratum))
        count = int(round(len(group) * share))
        taken.extend(group[:count])
        rest.extend(group[count:])
    return np.sort(np.array(rest, dtype=np.int64)), np.sort(np.array(taken, dtype=np.int64))

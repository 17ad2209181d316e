"""Which images an epoch visits, and in which order: callables from the epoch to indices."""
import numpy as np

SHUFFLE, AUGMENT, WEIGHTED = 1, 2, 3  # what a generator is for, so that no two uses share their numbers


def generator(purpose, *key):
    """Return a numpy Generator that depends on nothing but ``purpose`` and the integers ``key``."""
    return np.random.default_rng((purpose, *key))


class Sequential:
    """All indices in order."""

    def __init__(self, length):
        self._indices = np.arange(length)

    def __len__(self):
        return len(self._indices)

    def __call__(self, epoch):
        return self._indices


class Shuffled:
    """All indices in an order drawn from (seed, epoch)."""

    def __init__(self, length, seed):
        self._length, self._seed = length, seed

    def __len__(self):
        return self._length

    def __call__(self, epoch):
        return generator(SHUFFLE, self._seed, epoch).permutation(self._length)


class Weighted:
    """As many indices as there are labels, drawn with replacement from (seed, epoch), each class as often as any other.

    An image's weight is 1 / (images of its class), so that all classes of an epoch weigh the same in expectation;
    images of a small class come several times, some of a large one not at all.

    :param labels: (N,) int, at least one.
    """

    def __init__(self, labels, seed):
        _, of_image, counts = np.unique(labels, return_inverse=True, return_counts=True)
        self._shares = 1 / (len(counts) * counts[of_image])
        self._seed = seed

    def __len__(self):
        return len(self._shares)

    def __call__(self, epoch):
        return generator(WEIGHTED, self._seed, epoch).choice(len(self), len(self), p=self._shares)


def part(indices, rank, size):
    """Return the part of a batch that process ``rank`` of ``size`` gets: neighbours, the last one also the rest."""
    each = len(indices) // size
    return indices[rank * each:(rank + 1) * each if rank + 1 < size else len(indices)]


def batches(indices, batch_size, last, kinds=None):
    """Cut ``indices`` into arrays of ``batch_size``; ``last`` says whether a shorter rest is kept or discarded.

    :param kinds: the kind of each image, a hashable; images of different kinds share no batch. The kind that comes
        first in ``indices`` is first, and within a kind their order is kept.
    """
    if kinds is not None:
        groups = {}
        for index in indices:
            groups.setdefault(kinds[index], []).append(index)
        return [batch for group in groups.values() for batch in batches(np.array(group), batch_size, last)]
    end = len(indices) if last == 'keep' else len(indices) - len(indices) % batch_size
    return [indices[start:start + batch_size] for start in range(0, end, batch_size)]

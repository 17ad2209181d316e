"""One number that makes a network as sure as it is right: probabilities softmax(z / T), T fitted on validation.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, Sec. 4.2. The order of the classes stays.
"""
import math

import numpy as np

VALUES = 20_000_000  # scores that a fit keeps, 80 MB; of a larger split every second, third, … image counts
LOW, HIGH = 0.05, 20.0


class Scores:
    """Scores of a split, for :meth:`fit`.

    :param images: how many there will be; ``num_classes`` K.
    """

    def __init__(self, images, num_classes):
        self._every = max(1, math.ceil(images * num_classes / VALUES))
        self._seen, self._scores, self._labels = 0, [], []

    def add(self, scores, labels):
        """Take in scores (n,K) numpy of images of class ``labels`` (n,)."""
        kept = np.arange(-self._seen % self._every, len(labels), self._every)
        self._seen += len(labels)
        self._scores.append(scores[kept].astype('float32'))
        self._labels.append(labels[kept])

    def gather(self, team):
        """Take in the scores of all processes of ``team``."""
        for name in ('_scores', '_labels'):
            setattr(self, name, [team.gather(np.concatenate(getattr(self, name)))])

    def fit(self):
        """Return T, between 0.05 and 20; a split without errors has no other minimum than the lower end."""
        return fit(np.concatenate(self._scores), np.concatenate(self._labels))


def usable(value):
    """Return a fitted temperature, or None for one at an end of its range, where the split has no minimum to show.

    That is so where validation makes no error (all the sureness in the world would then be right) or knows nothing.
    """
    return value if value is not None and LOW * 1.001 < value < HIGH / 1.001 else None


def fit(scores, labels):
    """Return the temperature of least mean negative log-likelihood of ``labels`` (N,) under ``scores`` (N,K).

    In 1 / T that is convex, so that halving an interval of log T by its slope finds the only minimum.
    """
    scores = scores.astype('float64')
    scores -= scores.max(axis=1, keepdims=True)
    own = scores[np.arange(len(labels)), labels].mean()

    def falls(inverse):
        """Whether the loss falls with 1 / T: its slope is the mean of E[z] − z_label under softmax(z / T)."""
        weights = np.exp(scores * inverse)
        return ((weights * scores).sum(axis=1) / weights.sum(axis=1)).mean() < own

    low, high = math.log(LOW), math.log(HIGH)
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if falls(math.exp(-middle)) else (middle, high)
    return math.exp((low + high) / 2)

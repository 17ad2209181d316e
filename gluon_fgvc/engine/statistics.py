"""Intervals, spreads and calibration: the few formulas that turn counts into honest statements."""
import statistics
from typing import NamedTuple

import numpy as np


def wilson(correct, images):
    """Return the 95 % Wilson score interval (low, high) of a share, both in [0, 1].

    Unlike the textbook interval it stays inside [0, 1] and is right for few images and for 0 or 100 %
    (Wilson 1927; Brown, Cai and DasGupta 2001).

    :param correct: how many of ``images`` were right; rounded to a whole number, because a share times the number of
        images seldom is one.
    :param images: how many were looked at; 0 says nothing and gives (0, 1).
    """
    from scipy.stats import binomtest  # a second, when it is needed
    if images == 0:
        return 0.0, 1.0
    low, high = binomtest(round(correct), images).proportion_ci(method='wilson')
    return float(low), float(high)


def mean_and_sd(values):
    """Return the mean and the sample standard deviation (n - 1) of ``values``; None where undefined."""
    values = [float(value) for value in values]
    return statistics.fmean(values) if values else None, statistics.stdev(values) if len(values) > 1 else None


def t_interval(values):
    """Return the 95 % interval (low, high) of the mean of ``values``, by Student's t; None for fewer than two.

    Of differences between runs of the same seed it is the paired comparison. Of three it is 4.3 standard errors wide
    on either side, where many would have 2.
    """
    from scipy.stats import t  # a second, when it is needed
    mean, sd = mean_and_sd(values)
    if sd is None:
        return None
    reach = float(t.ppf(0.975, len(values) - 1)) * sd / len(values) ** 0.5
    return mean - reach, mean + reach


def mcnemar(only_first, only_second):
    """Return the two-sided p-value of McNemar's exact test of two classifiers on the same images.

    If both err equally often, each image on which only one of them is right is a toss of a fair coin
    (McNemar 1947; exact by the binomial distribution, as Dietterich 1998 recommends for few such images).

    :param only_first: images that only the first got right; ``only_second`` likewise.
    """
    from scipy.stats import binomtest
    if only_first + only_second == 0:
        return 1.0
    return float(binomtest(only_first, only_first + only_second).pvalue)


class Bin(NamedTuple):
    """Images whose highest probability lies in one interval."""

    images: int
    correct: int
    confidence: float  # mean probability of the predicted class


def calibration(probabilities, correct, bins=10):
    """Sort predictions into equal intervals of confidence and return (list of :class:`Bin`, ECE).

    The expected calibration error is the mean distance between confidence and accuracy over the bins,
    weighted by their images (Guo et al. 2017, eq. 3). Empty bins are left out.

    :param probabilities: (N,) probability of the predicted class, in [0, 1].
    :param correct: (N,) whether the prediction was right.
    """
    probabilities, correct = np.asarray(probabilities, 'float64'), np.asarray(correct, bool)
    index = np.clip(np.ceil(probabilities * bins).astype(int) - 1, 0, bins - 1)
    filled = [Bin(int(here.sum()), int(correct[here].sum()), float(probabilities[here].mean()))
              for here in (index == k for k in range(bins)) if here.any()]
    error = sum(abs(b.correct - b.confidence * b.images) for b in filled) / max(len(probabilities), 1)
    return filled, error

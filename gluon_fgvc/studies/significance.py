"""Whether one method is better than another over several runs: the mean of paired differences, and how sure it is."""
import math
from typing import NamedTuple, Optional

from gluon_fgvc.engine.statistics import mean_and_sd

SEEDS = 'paired t-test over runs'
RESAMPLED = 'corrected resampled t-test (Nadeau and Bengio 2003)'


class Paired(NamedTuple):
    """The mean difference of n pairs of runs, its 95 % interval and the p-value of a mean of 0.

    Interval and p are None for a single pair, and where all differences are equal: neither shows a spread.
    """

    runs: int
    mean: float
    sd: Optional[float]
    low: Optional[float]
    high: Optional[float]
    p: Optional[float]
    test: str


def paired(differences, test_share=0.0):
    """Return the :class:`Paired` of ``differences``, one for each pair of runs of one seed and fold.

    Seeds alone, with all else the same, give independent differences: the paired t-test. Folds do not, since their
    training images overlap: the variance of the mean is then sd² (1/n + test/train) instead of sd²/n (Nadeau and
    Bengio, Machine Learning 52, 2003; for repeated cross-validation, Bouckaert and Frank, PAKDD 2004).

    :param differences: n numbers.
    :param test_share: images tested on over images trained on, where pairs differ in their images; 0 where they are
        the same; None where they differ and it is not known, which leaves mean and spread alone.
    """
    from scipy.stats import t  # a second, when it is needed
    n, (mean, sd) = len(differences), mean_and_sd(differences)
    test = SEEDS if test_share == 0 else RESAMPLED
    if test_share is None or not sd or sd < 1e-12:  # of differences that are equal but for rounding
        return Paired(n, mean, sd, None, None, None, test)
    error = sd * math.sqrt(1 / n + test_share)
    reach = float(t.ppf(0.975, n - 1)) * error
    return Paired(n, mean, sd, mean - reach, mean + reach, float(2 * t.sf(abs(mean) / error, n - 1)), test)

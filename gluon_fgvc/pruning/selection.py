"""Which channels stay, by their scores."""
import numpy as np

from gluon_fgvc.errors import ConfigError


def check_amount(fraction, threshold):
    """Raise ConfigError unless one of both is given, and the fraction, if it is the one, lies in [0, 1)."""
    if (fraction is None) == (threshold is None):
        raise ConfigError('give a fraction of the channels or a threshold, not both')
    if fraction is not None and not 0 <= fraction < 1:
        raise ConfigError(f'fraction {fraction} must be at least 0 and below 1')


def select(groups, scores, fraction=None, threshold=None, multiple=1):
    """Return which channels stay: dict of group name → sorted indices.

    A group's score is the mean of its producers'.

    :param fraction: of the channels of each group that goes, those of the lowest scores; in [0, 1).
    :param threshold: instead, channels of a lower score go.
    :param multiple: so many channels, or a multiple of it, stay, where that can be; vector units like 8 or 16.
    :raises ConfigError: if not one of fraction and threshold is given, or the threshold removes a whole layer.
    """
    check_amount(fraction, threshold)
    kept = {}
    for group in groups:
        values = np.mean([scores[layer] for layer in group.producers], axis=0)
        order = np.argsort(-values, kind='stable')
        if threshold is None:
            count = group.channels - int(fraction * group.channels + 1e-9)
        else:
            count = int((values >= threshold).sum())
            if not count:
                raise ConfigError(f"threshold {threshold:g} removes all {group.channels} channels of '{group.name}', "
                                  f'whose scores are {values.min():.6g} to {values.max():.6g}; lower it, or give a '
                                  'fraction instead')
        count = min(group.channels, -(-count // multiple) * multiple)
        kept[group.name] = np.sort(order[:count])
    return kept

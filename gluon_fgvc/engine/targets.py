"""From labels to training targets: label smoothing, class weights."""
import numpy as np
from mxnet import nd

from gluon_fgvc.errors import ConfigError


def probabilities(labels, num_classes, smoothing):
    """Turn indices (N,) or probabilities (N,K) into probabilities (N,K) with ``smoothing`` spread evenly."""
    if labels.ndim == 1:
        labels = nd.one_hot(labels, num_classes)
    return labels * (1 - smoothing) + smoothing / num_classes


def class_weights(setting, labels, num_classes):
    """Return one factor per class (K,) float32, or None for ``'none'``.

    ``'balanced'`` is N / (K n_k), so that every class has the same total weight and the mean factor over
    the training images is 1.
    """
    if setting == 'none':
        return None
    if setting == 'balanced':
        counts = np.bincount(labels, minlength=num_classes)
        return (len(labels) / (num_classes * np.maximum(counts, 1))).astype('float32')
    if isinstance(setting, str):
        raise ConfigError(f"train.class_weights: '{setting}' is not 'none', 'balanced' or a list of {num_classes} "
                          'numbers')
    weights = np.asarray(setting, 'float32')
    if weights.shape != (num_classes,) or (weights < 0).any() or not weights.any():
        raise ConfigError(f'train.class_weights: needs {num_classes} factors, none negative and not all 0, '
                          f'got {list(setting)}')
    return weights


def image_weights(weights, labels):
    """Return the factor of each image (N,): its class's, or the mean under its class probabilities."""
    if labels.ndim == 1:
        return nd.take(weights, labels)
    return nd.dot(labels, weights)

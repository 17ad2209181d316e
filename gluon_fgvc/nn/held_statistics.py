"""BatchNorm layers whose running statistics stay what pretraining made them, whatever a phase says of the others."""
from mxnet.gluon import nn

from gluon_fgvc.nn.parameters import walk


def hold_statistics(block):
    """Let every BatchNorm of ``block`` use and keep its running statistics, in training too; return how many there are.

    γ and β learn as before; the gradient flows through a fixed affine map instead of the batch's statistics.
    """
    layers = [layer for _, layer in walk(block) if isinstance(layer, nn.BatchNorm)]
    for layer in layers:
        layer.statistics_held = True
        layer._kwargs['use_global_stats'] = True
    return len(layers)


def is_held(layer):
    """Return whether :func:`hold_statistics` was called for ``layer``."""
    return getattr(layer, 'statistics_held', False)

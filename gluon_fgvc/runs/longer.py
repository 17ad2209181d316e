"""A training that goes on for more epochs than it began with: whether those done are the first of the longer one."""
from dataclasses import replace

import mxnet as mx

from gluon_fgvc import config
from gluon_fgvc.engine.optim import learning_rate
from gluon_fgvc.engine.phases import timeline
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.build import build_method

PARTS = 8  # of an epoch at which the learning rate is compared


def begins_alike(before, after):
    """Return whether ``after`` has more epochs than ``before``, and the first of them are those of ``before``.

    Phases and learning rates tell: a constant rate and steps go on, a cosine would have had another rate from its first
    epoch. Other differences of the configurations are not looked at.
    """
    epochs = before.train.epochs
    if after.train.epochs <= epochs or after.train.schedule != before.train.schedule:
        return False
    method, _ = build_method(config.untrained(after), 2, [mx.cpu()])  # phases do not depend on parameters
    try:
        pair = [timeline(method.phases(cfg.train.epochs), cfg.train.epochs)[:epochs] for cfg in (before, after)]
    except ConfigError:  # a schedule of phases that is written for so many epochs
        return False
    return all(_but_length(a.phase) == _but_length(b.phase) and a.first == b.first
               and _rates(before, a, epoch) == _rates(after, b, epoch) for epoch, (a, b) in enumerate(zip(*pair)))


def _but_length(phase):
    return replace(phase, epochs=1)


def _rates(cfg, stretch, epoch):
    return [learning_rate(cfg.train.schedule, 1.0, epoch - stretch.first + part / PARTS, stretch.length)
            for part in range(PARTS)]

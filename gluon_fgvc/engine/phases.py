"""Entering a phase: which parameters learn, how fast, and whose statistics BatchNorm uses."""
from typing import Any, NamedTuple

from mxnet.gluon import Constant, nn

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.held_statistics import is_held
from gluon_fgvc.nn.parameters import compile_net, matching, structural


class Stretch(NamedTuple):
    """One epoch's place in the training."""

    phase: Any   # the Phase that runs
    first: int   # first epoch of the stretch over which the learning rate is scheduled: the whole training, or what
    length: int  # lies between two phases that ask for a fresh optimizer; and how many epochs that has


def timeline(phases, epochs):
    """Return the :class:`Stretch` of each epoch.

    :raises ConfigError: when the phases do not add up to ``epochs``.
    """
    per_epoch = [phase for phase in phases for _ in range(phase.epochs)]
    if len(per_epoch) != epochs:
        raise ConfigError(f'train.epochs is {epochs}, but the phases of the method last {len(per_epoch)}')
    starts, epoch = [0], 0
    for phase in phases:
        if phase.fresh_optimizer and 0 < epoch < epochs:
            starts.append(epoch)
        epoch += phase.epochs
    ends = starts[1:] + [epochs]
    stretches = [(first, end - first) for first, end in zip(starts, ends) for _ in range(end - first)]
    return [Stretch(phase, *stretch) for phase, stretch in zip(per_epoch, stretches)]


def enter(phase, net, hybridize):
    """Apply ``phase`` to ``net`` and return the names of the parameters that learn.

    Sets ``grad_req``, ``lr_mult`` and BatchNorm's ``use_global_stats``, then compiles anew: a compiled
    graph keeps the switches it was traced with.

    :raises ConfigError: when a pattern matches no parameter, or only ones that cannot learn.
    """
    if phase.batch_norm not in ('moving', 'fixed'):
        raise ConfigError(f"phase '{phase.name}': batch_norm '{phase.batch_norm}' is not 'moving' or 'fixed'")
    parameters = structural(net)
    place = f"phase '{phase.name}'"
    wanted = set(matching(phase.trainable, parameters, f'{place}, trainable'))
    for name, parameter in parameters.items():
        if not isinstance(parameter, Constant):  # which warns of a new value
            parameter.grad_req = 'write' if name in wanted else 'null'
        parameter.lr_mult = 1.0
    for pattern, factor in phase.lr_mult.items():
        for name in matching(pattern, parameters, f'{place}, lr_mult'):
            parameters[name].lr_mult = factor
    # Running statistics refuse 'write', too, and stay 'null', whatever the pattern says.
    learning = [name for name, parameter in parameters.items() if parameter.grad_req != 'null']
    if not learning:
        raise ConfigError(f"{place}: '{phase.trainable}' matches only parameters that have no gradient")
    net.apply(lambda block: _set_statistics(block, phase.batch_norm == 'fixed', phase.batch_norm_momentum))
    compile_net(net, hybridize)
    return learning


def _set_statistics(block, fixed, momentum):
    # grad_req does not hold statistics still and record(train_mode=False) gives wrong gradients on
    # MXNet 1.9.1; this switch is the one that is exact in forward and backward.
    if isinstance(block, nn.BatchNorm):
        block._kwargs['use_global_stats'] = fixed or is_held(block)
        if not hasattr(block, 'own_momentum'):
            block.own_momentum = block._kwargs['momentum']
        block._kwargs['momentum'] = block.own_momentum if momentum is None else momentum

"""Optimizers, the learning-rate schedule as a function of the epoch, and states as named arrays."""
import math

from mxnet import gluon, nd

from gluon_fgvc.engine.adamw import AdamW
from gluon_fgvc.engine.team import Alone
from gluon_fgvc.errors import CheckpointError

NOT_DECAYED = ('gamma', 'beta', 'bias')  # how the names end of what ``decay_norms: false`` spares


def learning_rate(schedule, base, position, length):
    """Return the learning rate at ``position`` epochs (a float) into a stretch of ``length`` epochs.

    The warm-up rises linearly from 0; step counts whole epochs; cosine and poly run from the end of the
    warm-up to the end of the stretch.
    """
    if position < schedule.warmup:
        return base * position / schedule.warmup
    if schedule.name == 'step':
        epoch = int(position)
        steps = sum(epoch >= at for at in schedule.at) if schedule.at else epoch // schedule.every
        return base * schedule.factor ** steps
    if schedule.name == 'constant' or length <= schedule.warmup:
        return base
    progress = min(1.0, (position - schedule.warmup) / (length - schedule.warmup))
    if schedule.name == 'cosine':
        shape = (1 + math.cos(math.pi * progress)) / 2
    else:
        shape = (1 - progress) ** schedule.power
    return base * (schedule.final + (1 - schedule.final) * shape)


class TeamTrainer(gluon.Trainer):
    """A gluon.Trainer whose gradients are summed over the processes of ``team``.

    All processes then make the same update of the same parameters, bit for bit; what they divide by is
    :func:`images_of`.
    """

    team = Alone()

    def _allreduce_grads(self):
        super()._allreduce_grads()
        self.team.add_gradients(self._params)


def images_of(trainer, count):
    """Return of how many images an update of ``trainer`` is, ``count`` of which are this process's."""
    return trainer.team.images(count) if isinstance(trainer, TeamTrainer) else count


# What run.kvstore says of several processes → how each sums over its own devices.
_WITHIN = {'dist_sync': 'local', 'dist_device_sync': 'device'}


def make_trainer(parameters, optimizer, kvstore, team=None):
    """Return a gluon.Trainer over ``parameters`` (structural name → Parameter), in their order.

    Updates always run on the devices: a kvstore that updates ignores later learning rates and multipliers.

    :param team: :class:`~.team.Team` with which gradients are summed; None, or one of one, is this process alone.
    """
    options = {'learning_rate': optimizer.lr, 'wd': optimizer.wd}
    if not optimizer.decay_norms:
        for name, parameter in parameters.items():
            if name.endswith(NOT_DECAYED):
                parameter.wd_mult = 0.0
    if optimizer.name in ('adam', 'adamw'):
        options.update(beta1=optimizer.beta1, beta2=optimizer.beta2, epsilon=optimizer.epsilon)
    else:
        options['momentum'] = optimizer.momentum
    if optimizer.clip_gradient is not None:
        options['clip_gradient'] = optimizer.clip_gradient
    name, options = (AdamW(**options), None) if optimizer.name == 'adamw' else (optimizer.name, options)
    several = team is not None and team.size > 1
    trainer = (TeamTrainer if several else gluon.Trainer)(list(parameters.values()), name, options,
                                                          kvstore=_WITHIN.get(kvstore, kvstore),
                                                          update_on_kvstore=False)
    if several:
        trainer.team = team
    # Of itself the Trainer does this in its first step, and thereby gives all devices the running statistics that the
    # first one had before that step's forward and backward passes.
    trainer._init_kvstore()
    trainer._init_params()
    nd.waitall()
    return trainer


def states(trainer, parameters):
    """Return the optimizer's states as (arrays, counts).

    ``arrays`` maps ``<parameter>/<slot>`` to numpy; ``counts`` maps a parameter to its number of updates
    (Adam's bias correction needs it). The devices hold equal states, so the first one's are taken.
    """
    names, arrays = list(parameters), {}
    for index, state in trainer._updaters[0].states.items():
        for slot, array in enumerate(_slots(state)):
            arrays[f'{names[index]}/{slot}'] = array.asnumpy()
    counts = trainer._optimizer._all_index_update_counts[0]
    return arrays, {names[index]: count for index, count in counts.items()}


def restore_states(trainer, parameters, arrays, counts):
    """Give ``trainer`` the states that :func:`states` returned.

    :raises CheckpointError: when a state belongs to no parameter or has another shape.
    """
    named = list(parameters.items())
    known = {name: index for index, (name, _) in enumerate(named)}
    foreign = sorted({key.rsplit('/', 1)[0] for key in arrays} | set(counts) - set(known))
    foreign = [name for name in foreign if name not in known]
    if foreign:
        raise CheckpointError(f"optimizer states are of another network: no parameter '{foreign[0]}'")
    optimizer = trainer._optimizer
    indices = {known[name]: count for name, count in counts.items()}
    for device, (updater, context) in enumerate(zip(trainer._updaters, trainer._contexts)):
        optimizer._all_index_update_counts[device] = dict(indices)
        for index in indices:
            name, parameter = named[index]
            state = optimizer.create_state_multi_precision(index, parameter.data(context))
            for slot, target in enumerate(_slots(state)):
                source = arrays.get(f'{name}/{slot}')
                if source is None or source.shape != target.shape:
                    raise CheckpointError(f"optimizer state {slot} of '{name}' is missing or has another shape")
                target[:] = nd.array(source, ctx=context, dtype=source.dtype)
            updater.states[index] = state
            updater.states_synced[index] = True
    optimizer._index_update_count = optimizer._all_index_update_counts[0]
    optimizer.num_update = max(indices.values(), default=optimizer.begin_num_update)


def _slots(state):
    if state is None:
        return []
    return list(state) if isinstance(state, (list, tuple)) else [state]

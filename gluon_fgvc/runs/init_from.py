"""Starting a training from the weights of another run: of another class count, learning rate or length, too."""
from gluon_fgvc.engine import checkpoint
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.nn.parameters import structural
from gluon_fgvc.runs.folder import existing_folder


def load_from(folder, net, which='best'):
    """Give ``net``, whose shapes are known, the parameters of run folder ``folder`` that fit it.

    Parameters of another shape, such as those of a head for other classes, stay as they were initialised.

    :returns: one line on what was taken.
    :raises CheckpointError: if it is no run folder, has no checkpoint, or is of another network.
    """
    folder, own = existing_folder(folder), structural(net)
    record, stored = checkpoint.follow(folder, which, lambda record: checkpoint.read_parameters(folder, record))
    if record is None:
        raise CheckpointError(f"'{folder}' has no '{which}' checkpoint yet to start from")
    if set(stored) != set(own):
        name = sorted(set(stored) ^ set(own))[0]
        raise CheckpointError(f"cannot start from '{folder}': it is of another backbone or method; '{name}' is in only "
                              'one of both networks')
    fitting = [name for name in own if stored[name].shape == own[name].shape]
    for name in fitting:
        own[name].set_data(stored[name])
    others = [name for name in own if name not in set(fitting)]
    return (f"starting from '{folder}', epoch {record['epoch']}: {len(fitting)} of {len(own)} parameters"
            + (f'; of another shape, and new: {", ".join(others)}' if others else ''))

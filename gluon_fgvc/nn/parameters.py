"""Blocks and parameters of a network: walk through them, name them, find their devices, compile them.

Parameters go by structural name (``body.stage4.0.conv1.weight``), which does not depend on Gluon's global counters.
"""
import hashlib
import re

from mxnet import nd

from gluon_fgvc.errors import ConfigError, did_you_mean

STATISTICS = ('running_mean', 'running_var')  # how the names of what BatchNorm moves by itself end


def walk(block):
    """Yield (path, block) for all blocks below ``block``, each once, parents first; a path is ``stage1.0.conv1``."""
    seen = set()

    def below(parent, prefix):
        for name, child in parent._children.items():
            if id(child) not in seen:
                seen.add(id(child))
                yield f'{prefix}{name}', child
                yield from below(child, f'{prefix}{name}.')

    yield from below(block, '')


def contexts_of(block):
    """Return the list of devices on which the parameters of ``block``, an initialised network, lie."""
    return next(iter(block.collect_params().values())).list_ctx()


def compile_net(block, on=True):
    """Let ``block`` run as one compiled graph with static memory, or ``on=False``, operator by operator.

    What was compiled before is forgotten: a graph keeps the switches (``use_global_stats``) it was traced with.
    """
    block.hybridize(on, static_alloc=on, static_shape=on)


def structural(block):
    """Return an ordered dict of structural name → Parameter; a shared Parameter keeps its first name.

    The order is that of construction and does not depend on Gluon's global name counters, so optimizer
    states and hashes keyed by it survive a restart.
    """
    named, seen = {}, set()
    for name, parameter in block._collect_params_with_prefix().items():
        if id(parameter) not in seen:
            seen.add(id(parameter))
            named[name] = parameter
    return named


def matching(pattern, names, place):
    """Return the ``names`` that regular expression ``pattern`` matches in full; none is an error."""
    try:
        found = [name for name in names if re.fullmatch(pattern, name)]
    except re.error as error:
        raise ConfigError(f"{place}: '{pattern}' is not a regular expression: {error}") from None
    if not found:
        raise ConfigError(f"{place}: '{pattern}' matches no parameter{did_you_mean(pattern, list(names)[-8:])}")
    return found


def sha256_of(arrays):
    """Return the hash of a dict of name → numpy array: names, types, shapes and every bit."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f'{name}|{array.dtype}|{array.shape}|'.encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def unite_statistics(parameters, team):
    """Give BatchNorm's running statistics on all devices their mean over the devices; call it when nothing runs.

    Each device moves those of its own part of every batch. Until they are one again, validation would look at another
    network than the one that a checkpoint keeps.

    :param parameters: dict of structural name → Parameter.
    :param team: of processes, whose devices all count; it has ``size`` and ``mean(arrays)``.
    """
    moving = {name: parameter for name, parameter in parameters.items() if name.endswith(STATISTICS)
              and len(parameter.list_ctx()) * team.size > 1}
    for parameter, mean in zip(moving.values(), team.mean([parameter._reduce() for parameter in moving.values()])):
        parameter.set_data(mean)


def to_numpy(block):
    """Return structural name → numpy copy, of the first device: between epochs all devices hold the same."""
    return copies(structural(block))


def copies(parameters):
    """Return dict of name → numpy copy, of the first device, of a dict of name → Parameter.

    Waits for everything that runs: MKLDNN reorders weights in place during an inference pass, and a read
    beside it was seen to give permuted ones.
    """
    nd.waitall()
    return {name: parameter.list_data()[0].asnumpy() for name, parameter in parameters.items()}

"""Parameters by structural name (``body.stage4.0.conv1.weight``), the only names the engine uses."""
import hashlib
import re

from mxnet import nd

from gluon_fgvc.errors import ConfigError, did_you_mean


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


def to_numpy(block):
    """Return structural name → numpy copy; over several devices, statistics are averaged as Gluon does.

    Waits for everything that runs: MKLDNN reorders weights in place during an inference pass, and a read
    beside it was seen to give permuted ones.
    """
    nd.waitall()
    return {name: parameter._reduce().asnumpy() for name, parameter in structural(block).items()}

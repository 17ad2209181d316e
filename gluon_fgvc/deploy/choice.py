"""Which engine runs a model here: the fastest of those that compute what the network does.

What is fastest depends on the network and on the processor, so it is measured, once. The result is kept in the user's
cache, for this model, these versions, this processor and this number of threads.
"""
import hashlib
import json
import os
import time
import warnings
from importlib import metadata as distributions

import numpy as np

from gluon_fgvc.deploy.engines import ENGINES, Absent, NotUsable, open_engine, possible, proof_images, threads
from gluon_fgvc.errors import CheckpointError, ConfigError, did_you_mean
from gluon_fgvc.files import write_atomically
from gluon_fgvc.machine.processor import instruction_sets, onednn_choice

SECONDS = 2.0  # a measurement takes no longer, however slow the network
ROUNDS = 5     # of taking turns
IMAGES = 8     # at once, fewer where the network is slow
WORTH_KEEPING = 0.2  # seconds; what takes less is measured again


def choose(folder, metadata, engine='auto', ctx=None):
    """Return an engine for the exported model in ``folder``, and in words why it is this one.

    :param engine: a name of ``ENGINES``, or 'auto' for the fastest.
    :param ctx: an MXNet context; None is the CPU.
    :raises ConfigError: for an unknown name.
    :raises CheckpointError: if the engine, or with 'auto' none of them, can run the model.
    """
    if engine != 'auto':
        if engine not in ENGINES:
            raise ConfigError(f"unknown engine '{engine}'{did_you_mean(engine, ('auto', *ENGINES))}")
        try:
            return open_engine(engine, folder, metadata, ctx), f'{engine}, as asked'
        except NotUsable as reason:
            raise CheckpointError(f"exported model '{folder}': engine {engine} cannot be used: {reason}; "
                                  'engine auto takes one that can') from None
    names = possible(metadata, ctx)
    remembered = _recall(_place(metadata, names, ctx), names)
    if remembered:
        try:
            return open_engine(remembered['engine'], folder, metadata, ctx), remembered['why'] + ' (measured before)'
        except NotUsable:
            pass  # this machine has changed in a way that the key does not tell
    return _fastest(folder, metadata, names, ctx)


def _fastest(folder, metadata, names, ctx):
    opened, failed, expected = {}, {}, metadata.proof
    # The plain graph first: where the export wrote down no outputs, the others are compared with its.
    for name in sorted(names, key=lambda name: name != 'mxnet'):
        try:
            opened[name] = open_engine(name, folder, metadata, ctx, expected)
        except NotUsable as reason:
            failed[name] = str(reason)
            if not isinstance(reason, Absent):
                warnings.warn(f'engine {name} is not used: {reason}', stacklevel=4)
            continue
        if expected is None:
            expected = opened[name](proof_images(metadata.size))
    if not opened:
        raise CheckpointError(f"exported model '{folder}': no engine can be used: "
                              + '; '.join(f'{name}: {reason}' for name, reason in failed.items()))
    start = time.perf_counter()
    milliseconds, count = measure(opened, metadata.size) if len(opened) > 1 else ({}, 0)
    best = min(milliseconds, key=milliseconds.get, default=next(iter(opened)))
    why = best
    if milliseconds:
        others = ', '.join(f'{name} {value:.3g}' for name, value in milliseconds.items() if name != best)
        why += f' took {milliseconds[best]:.3g} ms for {count} image{"s" * (count > 1)}, {others}'
    for name, reason in failed.items():
        why += f'; not {name}: {reason}'
    if time.perf_counter() - start >= WORTH_KEEPING:
        _keep(_place(metadata, names, ctx), {'engine': best, 'why': why, 'milliseconds': milliseconds})
    return opened[best], why


def measure(engines, size):
    """Return dict of name → milliseconds, the median of several rounds in which they take turns, and for how many
    images.

    :param engines: dict of name → engine; ``size`` is (height, width) of the images.
    """
    end = time.perf_counter() + SECONDS
    pair = proof_images(size)
    slowest = max(_seconds(engine, pair) for engine in engines.values()) / len(pair)
    count = int(np.clip(SECONDS / 20 / slowest, 1, IMAGES))
    pixels = np.resize(pair, (count, *pair.shape[1:]))
    if count != len(pair):
        for engine in engines.values():  # graphs are prepared for each number of images
            engine(pixels)
    found = {name: [] for name in engines}
    for _ in range(ROUNDS):
        for name, engine in engines.items():
            found[name].append(1000 * _seconds(engine, pixels))
        if time.perf_counter() > end - sum(values[-1] for values in found.values()) / 1000:
            break
    return {name: float(np.median(values)) for name, values in found.items()}, count


def _seconds(engine, pixels):
    start = time.perf_counter()
    engine(pixels)
    return time.perf_counter() - start


# --- what is remembered ----------------------------------------------------------------------

def _place(metadata, names, ctx):
    """Return the file that keeps the choice, whose name is a hash of all that it depends on."""
    key = {'files': {name: about['sha256'] for name, about in sorted(metadata.files.items())}, 'engines': names,
           'processor': [_model(), onednn_choice(), *instruction_sets()], 'threads': threads(), 'ctx': str(ctx),
           'versions': {name: _version(name) for name in ('mxnet', 'onnxruntime', 'numpy')}}
    cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return os.path.join(cache, 'gluon_fgvc', 'engines', digest[:32] + '.json')


def _recall(path, names):
    try:
        with open(path, encoding='utf-8') as stream:
            kept = json.load(stream)
        return kept if kept['engine'] in names and isinstance(kept['why'], str) else None
    except (OSError, ValueError, KeyError, TypeError):  # none, or not ours: it is measured again
        return None


def _keep(path, choice):
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(path, json.dumps(choice, indent=1) + '\n')
    except OSError:
        pass  # a home that cannot be written to: it is measured the next time as well


def _version(name):
    try:
        return distributions.version(name)
    except distributions.PackageNotFoundError:
        return None


def _model(path='/proc/cpuinfo'):
    """Return the processor's name, where Linux tells it."""
    try:
        with open(path, encoding='utf-8', errors='replace') as stream:
            return next((line.split(':', 1)[1].strip() for line in stream if line.startswith('model name')), '')
    except OSError:
        return ''

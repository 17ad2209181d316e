"""Checkpoints that a crash, a kill or a full disk cannot spoil.

What makes the files of one count is its manifest, see :mod:`gluon_fgvc.run_folder.manifests`. Optimizer states are
named arrays in an ``.npz`` read with ``allow_pickle=False``: nothing is ever unpickled.
"""
import io
import os
import shutil
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc.errors import CheckpointError, WeightsError
from gluon_fgvc.files import remove, write_atomically
from gluon_fgvc.nn.parameters import sha256_of, structural, to_numpy
from gluon_fgvc.run_folder import manifests
from gluon_fgvc.run_folder.manifests import KINDS, follow, read, recover, remove_unnamed
from gluon_fgvc.weights.mxnet_params import load_params

__all__ = ['KINDS', 'follow', 'load_arrays', 'load_parameters', 'pack', 'read', 'read_parameters', 'recover',
           'remove_unnamed', 'save', 'unpack']


def save(folder, kind, net, record, arrays=None):
    """Write checkpoint ``kind`` ('last' or 'best') of ``net`` and return the hash of its parameters.

    :param record: JSON-able facts; the key ``epoch`` (completed epochs) is required; ``progress`` may say how many
        batches of the next one, ``batch``, there were.
    :param arrays: optional named numpy arrays to keep beside the parameters.
    :raises CheckpointError: when what was written does not read back bit for bit (a full disk can go
        unnoticed otherwise); the earlier checkpoint stays as it was.
    """
    folder, parameters = Path(folder), to_numpy(net)
    stem = manifests.stem_of(folder, kind, record['epoch'], record.get('progress', {}).get('batch', 0))
    paths = [Path(f'{stem}.params')]
    try:
        digest = _save_parameters(paths[0], parameters)
        if arrays is not None:
            paths.append(Path(f'{stem}.npz'))
            write_atomically(paths[1], pack(arrays))
        manifests.write(folder, kind, {**record, 'parameters_sha256': digest}, paths)
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint '{stem.relative_to(folder)}' in '{folder}': {error.strerror}; "
                              f'the earlier checkpoint is intact') from None
    remove_unnamed(folder)
    return digest


def pack(arrays):
    """Return named numpy arrays as the bytes of an ``.npz``."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack(content):
    """Return the arrays that :func:`pack` has packed."""
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return dict(arrays)


def _save_parameters(path, parameters):
    temporary = f'{path}.tmp'
    digest = sha256_of(parameters)
    try:
        mx.nd.save(temporary, {name: mx.nd.array(array, dtype=array.dtype) for name, array in parameters.items()})
        back = {name: array.asnumpy() for name, array in mx.nd.load(temporary).items()}
        if sha256_of(back) != digest:
            raise mx.MXNetError('the file does not read back')
        with open(temporary, 'rb+') as stream:
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except mx.MXNetError:
        free = shutil.disk_usage(os.path.dirname(path)).free >> 20
        raise CheckpointError(f"cannot write '{path}': what was written does not read back ({free} MiB free on the "
                              f'disk); the earlier checkpoint is intact') from None
    finally:
        remove(temporary)
    return digest


def read_parameters(folder, record):
    """Return the parameters, name → NDArray, of a ``record`` that :func:`read` returned; MXNet sees no file of it.

    :raises CheckpointError: if the file is no whole one.
    """
    try:
        arrays = load_params(manifests.file_of(folder, record, '.params'))
    except WeightsError as error:
        raise CheckpointError(str(error)) from None
    return {name: mx.nd.array(array, dtype=array.dtype) for name, array in arrays.items()}


def load_parameters(folder, record, net):
    """Load the parameters of a ``record`` that :func:`read` returned into ``net``, names and shapes checked.

    Shapes that ``net`` leaves open until it sees an image are those of the file.
    """
    path = manifests.file_of(folder, record, '.params')
    stored, own = read_parameters(folder, record), structural(net)
    if set(stored) != set(own):
        name = sorted(set(stored) ^ set(own))[0]
        raise CheckpointError(f"'{path}' is of another network: '{name}' is in only one of them")
    for name, parameter in own.items():
        if not _fits(stored[name].shape, parameter.shape):
            raise CheckpointError(f"'{path}': '{name}' has shape {stored[name].shape}, the network {parameter.shape}")
        parameter.set_data(stored[name])


def _fits(shape, wanted):
    return len(shape) == len(wanted) and all(size in (side, 0) for side, size in zip(shape, wanted))


def load_arrays(folder, record):
    """Return the named arrays kept beside the parameters.

    :raises CheckpointError: if the file is no whole one.
    """
    path = manifests.file_of(folder, record, '.npz')
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except Exception as error:  # a damaged file makes zipfile and numpy raise nearly everything
        raise CheckpointError(f"'{path}' is damaged: {error}") from None

"""Checkpoints that a crash, a kill or a full disk cannot spoil.

``last.json`` and ``best.json`` in the run folder are the checkpoints: each names its files under
``checkpoints/`` with their SHA-256. New files get new names, and the manifest, replaced in one step,
is what makes them count; only then, and when training resumes, are files removed that no manifest
names. Optimizer states are named arrays in an ``.npz`` read with ``allow_pickle=False``: nothing is
ever unpickled.
"""
import io
import json
import os
import shutil
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import hash_of_file, remove, write_atomically
from gluon_fgvc.nn.parameters import sha256_of, structural, to_numpy

FORMAT = 1
KINDS = ('last', 'best')


def save(folder, kind, net, record, arrays=None):
    """Write checkpoint ``kind`` ('last' or 'best') of ``net`` and return the hash of its parameters.

    :param record: JSON-able facts; the key ``epoch`` (completed epochs) is required.
    :param arrays: optional named numpy arrays to keep beside the parameters.
    :raises CheckpointError: when what was written does not read back bit for bit (a full disk can go
        unnoticed otherwise); the earlier checkpoint stays as it was.
    """
    folder = Path(folder)
    (folder / 'checkpoints').mkdir(exist_ok=True)
    stem = f"checkpoints/{kind}-{record['epoch']:04d}"
    parameters = to_numpy(net)
    try:
        digest = _save_parameters(folder / f'{stem}.params', parameters)
        files = [f'{stem}.params']
        if arrays is not None:
            buffer = io.BytesIO()
            np.savez(buffer, **arrays)
            write_atomically(folder / f'{stem}.npz', buffer.getvalue())
            files.append(f'{stem}.npz')
        manifest = {'format': FORMAT, **record, 'parameters_sha256': digest,
                    'files': {name: hash_of_file(folder / name) for name in files}}
        write_atomically(folder / f'{kind}.json', json.dumps(manifest, indent=1) + '\n')
    except OSError as error:
        raise CheckpointError(f"cannot write checkpoint '{stem}' in '{folder}': {error.strerror}; "
                              f'the earlier checkpoint is intact') from None
    remove_unnamed(folder)
    return digest


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


def remove_unnamed(folder):
    """Remove the files under ``checkpoints/`` that no manifest names: what a kill left half written or unremoved."""
    folder = Path(folder)
    try:
        paths = [folder / f'{kind}.json' for kind in KINDS]
        manifests = [json.loads(path.read_text(encoding='utf-8')) for path in paths if path.exists()]
        named = {name for manifest in manifests for name in manifest['files']}
    except (ValueError, KeyError, TypeError):
        return  # somebody edited a manifest: what it meant to keep cannot be known, so nothing is removed
    for path in (folder / 'checkpoints').iterdir():
        if f'checkpoints/{path.name}' not in named:
            remove(path)


def read(folder, kind):
    """Return the record of checkpoint ``kind``, its files verified by SHA-256, or None if there is none.

    :raises CheckpointError: when the manifest or a file of it is missing, changed or broken.
    """
    folder = Path(folder)
    path = folder / f'{kind}.json'
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
        files, version = record['files'], record['format']
    except (ValueError, KeyError, TypeError, UnicodeDecodeError):
        raise CheckpointError(f"'{path}' is not a checkpoint record") from None
    if version != FORMAT:
        raise CheckpointError(f"'{path}' has checkpoint format {version}, this version reads {FORMAT}")
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint file '{folder / name}' is missing")
        if hash_of_file(folder / name) != digest:
            raise CheckpointError(f"checkpoint file '{folder / name}' was changed or is damaged (SHA-256 differs)")
    return record


def load_parameters(folder, record, net):
    """Load the parameters of a ``record`` that :func:`read` returned into ``net``, names and shapes checked."""
    path = Path(folder) / next(name for name in record['files'] if name.endswith('.params'))
    stored, own = mx.nd.load(str(path)), structural(net)
    if set(stored) != set(own):
        name = sorted(set(stored) ^ set(own))[0]
        raise CheckpointError(f"'{path}' is of another network: '{name}' is in only one of them")
    for name, parameter in own.items():
        if stored[name].shape != parameter.shape:
            raise CheckpointError(f"'{path}': '{name}' has shape {stored[name].shape}, the network {parameter.shape}")
        parameter.set_data(stored[name])


def load_arrays(folder, record):
    """Return the named arrays kept beside the parameters."""
    path = Path(folder) / next(name for name in record['files'] if name.endswith('.npz'))
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)

"""Manifests: ``last.json`` and ``best.json`` name the files of a checkpoint with their SHA-256.

New files get new names, and the manifest, replaced in one step, is what makes them count; only then, and when training
resumes, are files removed that no manifest names.
"""
import json
from pathlib import Path

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import hash_of_file, remove, write_atomically
from gluon_fgvc.run_folder.folder import RunFolder

FORMAT = 1
KINDS = ('last', 'best')


def _manifest(folder, kind):
    return getattr(RunFolder(folder), kind)


def stem_of(folder, kind, epoch):
    """Return the path, but for its ending, of the files of a checkpoint after ``epoch`` epochs; its folder is made."""
    parent = RunFolder(folder).checkpoints
    parent.mkdir(exist_ok=True)
    return parent / f'{kind}-{epoch:04d}'


def write(folder, kind, record, paths):
    """Make ``paths``, files in ``folder``, the checkpoint ``kind``, with ``record`` as what is known of it."""
    files = {path.relative_to(folder).as_posix(): hash_of_file(path) for path in paths}
    write_atomically(_manifest(folder, kind), json.dumps({'format': FORMAT, **record, 'files': files}, indent=1) + '\n')


def read(folder, kind):
    """Return the record of checkpoint ``kind``, its files verified by SHA-256, or None if there is none.

    :raises CheckpointError: when the manifest or a file of it is missing, changed or broken.
    """
    folder, path = Path(folder), _manifest(folder, kind)
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


def file_of(folder, record, ending):
    """Return the path of the file of ``record``, which :func:`read` returned, whose name ends so."""
    return Path(folder) / next(name for name in record['files'] if name.endswith(ending))


def remove_unnamed(folder):
    """Remove checkpoint files that no manifest names: what a kill left half written or unremoved."""
    folder = RunFolder(folder)
    try:
        paths = [_manifest(folder, kind) for kind in KINDS]
        manifests = [json.loads(path.read_text(encoding='utf-8')) for path in paths if path.exists()]
        named = {name for manifest in manifests for name in manifest['files']}
    except (ValueError, KeyError, TypeError):
        return  # somebody edited a manifest: what it meant to keep cannot be known, so nothing is removed
    for path in folder.checkpoints.iterdir():
        if path.relative_to(folder.path).as_posix() not in named:
            remove(path)

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
_RULES = {'files': dict, 'format': int, 'epoch': int}  # of every manifest
_CHOICE = {'epoch': int, 'split': (str, type(None))}   # of what chose the best


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
    except ValueError:  # not UTF-8, or not JSON
        raise CheckpointError(f"'{path}' is not a checkpoint record: it is not valid JSON") from None
    _check(path, record, _RULES)
    if record['format'] != FORMAT:
        raise CheckpointError(f"'{path}' has checkpoint format {record['format']}, this version reads {FORMAT}")
    if kind == 'best':
        _check(path, record.get('chosen_by'), _CHOICE, 'chosen_by.')
    for name, digest in record['files'].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint file '{folder / name}' is missing")
        if hash_of_file(folder / name) != digest:
            raise CheckpointError(f"checkpoint file '{folder / name}' was changed or is damaged (SHA-256 differs)")
    return record


def _check(path, tree, rules, where=''):
    for key, kind in rules.items():
        if not isinstance(tree, dict) or key not in tree or not isinstance(tree[key], kind):
            raise CheckpointError(f"'{path}' is not a checkpoint record: '{where}{key}' is missing or of another type")


def follow(folder, kind, use):
    """Return the record of checkpoint ``kind`` and ``use(record)``, or (None, None) if there is none.

    A training that goes on meanwhile may replace the checkpoint, and its files, between the check and the use: then
    all is done once more with the new one. Whatever fails while the manifest stays as it is is an error.
    """
    path = _manifest(folder, kind)
    while True:
        before = _bytes_of(path)
        try:
            record = read(folder, kind)
            return record, None if record is None else use(record)
        except Exception:
            if _bytes_of(path) == before:
                raise


def _bytes_of(path):
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


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

"""Manifests: ``last.json`` and ``best.json`` name the files of a checkpoint with their SHA-256.

New files get new names, and the manifest, replaced in one step, is what makes them count; only then, and when training
resumes, are files removed that no manifest names. The last checkpoint but one stays, under ``previous.json``, in case
the last is damaged.
"""
import hashlib
import json
from pathlib import Path

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.files import hash_of_file, remove, write_atomically
from gluon_fgvc.run_folder.folder import RunFolder

FORMAT = 1
KINDS = ('last', 'best')
CHECKSUM = 'manifest_sha256'  # of all else in a manifest; those of earlier versions have none
_RULES = {'files': dict, 'format': int, 'epoch': int}  # of every manifest
_CHOICE = {'epoch': int, 'split': (str, type(None))}   # of what chose the best


def _manifest(folder, kind):
    return getattr(RunFolder(folder), kind)


def stem_of(folder, kind, epoch, batch=0):
    """Return the path, but for its ending, of the files of a checkpoint; its folder is made.

    :param epoch: completed epochs, and ``batch`` batches of the next.
    """
    parent = RunFolder(folder).checkpoints
    parent.mkdir(exist_ok=True)
    return parent / (f'{kind}-{epoch:04d}' + (f'-{batch:06d}' if batch else ''))


def write(folder, kind, record, paths):
    """Make ``paths``, files in ``folder``, the checkpoint ``kind``, with ``record`` as what is known of it."""
    files = {path.relative_to(folder).as_posix(): hash_of_file(path) for path in paths}
    record = {'format': FORMAT, **record, 'files': files}
    text = json.dumps({**record, CHECKSUM: _checksum(record)}, indent=1) + '\n'
    manifest = _manifest(folder, kind)
    if kind == 'last' and manifest.exists():
        write_atomically(_manifest(folder, 'previous'), manifest.read_bytes())
    write_atomically(manifest, text)


def read(folder, kind):
    """Return the record of checkpoint ``kind``, its files verified by SHA-256, or None if there is none.

    :raises CheckpointError: when the manifest or a file of it is missing, changed or broken.
    """
    folder, path = Path(folder), _manifest(folder, kind)
    if not path.exists():
        return None
    try:
        record = json.loads(path.read_text(encoding='utf-8'))
    except (ValueError, RecursionError):  # not UTF-8, or not JSON
        raise CheckpointError(f"'{path}' is not a checkpoint record: it is not valid JSON") from None
    _check(path, record, _RULES)
    if record['format'] != FORMAT:
        raise CheckpointError(f"'{path}' has checkpoint format {record['format']}, this version reads {FORMAT}")
    if kind == 'best':
        _check(path, record.get('chosen_by'), _CHOICE, 'chosen_by.')
    if record.pop(CHECKSUM, None) not in (None, _checksum(record)):
        raise CheckpointError(f"'{path}' was changed or is damaged (SHA-256 differs)")
    try:
        _check_types(record)
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"'{path}' is not a checkpoint record: a count or a name is of another type") from None
    for name, digest in record['files'].items():
        if not (folder / name).is_file():
            raise CheckpointError(f"checkpoint file '{folder / name}' is missing")
        if hash_of_file(folder / name) != digest:
            raise CheckpointError(f"checkpoint file '{folder / name}' was changed or is damaged (SHA-256 differs)")
    return record


def recover(folder, say):
    """Return the record of the last good checkpoint, or None if there is none: the last, or else the one before it.

    Where the last one is damaged, the one before becomes the last, which ``say`` is told in one line.

    :raises CheckpointError: when neither is good.
    """
    try:
        return _read_resumable(folder, 'last')
    except (CheckpointError, OSError) as error:
        damage = error
    try:
        record = _read_resumable(folder, 'previous')
    except (CheckpointError, OSError):
        record = None
    if record is None:
        raise damage
    write_atomically(_manifest(folder, 'last'), _manifest(folder, 'previous').read_bytes())
    say(f"the last checkpoint cannot be used: {damage}; the one before it takes its place")
    return record


def _read_resumable(folder, kind):
    record = read(folder, kind)
    if record is not None:
        _check(_manifest(folder, kind), record, {'progress': dict})
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
        paths = [_manifest(folder, kind) for kind in (*KINDS, 'previous')]
        manifests = [json.loads(path.read_text(encoding='utf-8')) for path in paths if path.exists()]
        named = {name for manifest in manifests for name in manifest['files']}
    except (ValueError, KeyError, TypeError):
        return  # somebody edited a manifest: what it meant to keep cannot be known, so nothing is removed
    for path in folder.checkpoints.iterdir():
        if path.relative_to(folder.path).as_posix() not in named:
            remove(path)


def _check_types(record):
    """Raise TypeError or KeyError where ``record`` cannot be that of a checkpoint."""
    numbers = [record['epoch'], record.get('average_steps', 0), *record.get('update_counts', {}).values(),
               *(record['progress'][key] for key in ('epoch', 'step') if 'progress' in record)]
    texts = [text for pair in record['files'].items() for text in pair]
    if not (all(type(number) is int and 0 <= number < 1 << 53 for number in numbers)
            and all(isinstance(text, str) for text in texts) and isinstance(record.get('progress', {}), dict)):
        raise TypeError


def _checksum(record):
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()

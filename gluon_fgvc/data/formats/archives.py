"""Unpacking archives that strangers made, and finding a data set in what was unpacked."""
import glob
import lzma
import os
import shutil
import socket
import stat
import tarfile
import tempfile
import zipfile
import zlib
from contextlib import contextmanager

from gluon_fgvc.errors import DataError

# Archives of photographs hardly shrink and their files are not small, so large ones may have more, in proportion.
MAX_BYTES, BYTES_GROWTH = 4 * 2 ** 30, 20
MAX_FILES, BYTES_A_FILE = 200_000, 10_000
MAX_HEADER = 2 ** 20  # bytes of one extended tar header
SUFFIXES = ('.tar.gz', '.tgz', '.tar.bz2', '.tar.xz', '.tar', '.zip')
DEPTH = 2  # folders around the official tree: one of the archive's name and one of a re-upload


def is_archive(path):
    """Tell by its name whether ``path`` is an archive that :func:`extract` reads."""
    return str(path).lower().endswith(SUFFIXES)


def stem(path):
    """Return the file name of an archive without its suffix; annotations packed alone lose theirs as well."""
    name = os.path.basename(path)
    for suffix in SUFFIXES:
        if name.lower().endswith(suffix):
            name = name[:-len(suffix)]
            break
    return name[:-len('.json')] if name.endswith('.json') else name


def opened(root):
    """Return ``root`` if it is a folder; unpack it, if it is an archive, into a folder of its name beside it.

    What an earlier call unpacked is used again.

    :raises DataError: if it is neither, or as :func:`extract`.
    """
    root = os.path.expanduser(root)
    if os.path.isdir(root):
        return root
    if not os.path.isfile(root):
        raise DataError(f"data.root '{root}' does not exist; give the archive or the folder with what was in it")
    if not is_archive(root):
        raise DataError(f"data.root '{root}' is neither a folder nor an archive ({', '.join(SUFFIXES)})")
    folder = os.path.join(os.path.dirname(root), stem(root))
    if not os.path.isdir(folder):
        extract(root, folder)
    return folder


def find(root, name):
    """Return the folder that has ``name`` (a relative path): ``root`` or one at most ``DEPTH`` below; None if none.

    Re-uploads often wrap the official folders once more. The nearest wins, then the first by name.
    """
    level = [root]
    for depth in range(DEPTH + 1):
        for folder in level:
            if os.path.exists(os.path.join(folder, name)):
                return folder
        if depth < DEPTH:
            level = [path for folder in level for path in _subfolders(folder)]
    return None


def base_of(root, name, content):
    """Return the folder that has ``name`` as :func:`find` does.

    :param content: what ``root`` should hold, for the message.
    :raises DataError: if there is none.
    """
    folder = find(root, name)
    if folder is None:
        raise DataError(f"'{root}' has no '{name}', nor do folders up to {DEPTH} below it; expected {content}")
    return folder


def leads_out(name):
    """Tell whether the relative path ``name`` leaves the folder it is meant to be in, on any system."""
    parts = name.replace('\\', '/').split('/')
    return name.startswith(('/', '\\')) or '..' in parts or ':' in parts[0] or '\0' in name


def extract(archive, folder):
    """Unpack ``archive``, zip or tar, into the new ``folder``, wholly or not at all.

    :raises DataError: if the archive is broken or encrypted, grows beyond ``MAX_BYTES`` and ``BYTES_GROWTH`` times
        its size or has more than ``MAX_FILES`` files and one for each ``BYTES_A_FILE``; if it has links, devices,
        a file twice, or paths that lead out of the folder; or if the disk is full.
    """
    with _new_folder(archive, folder) as partial:
        with open(archive, 'rb') as stream:
            is_zip = stream.read(2) == b'PK' or str(archive).lower().endswith('.zip')
        (_unpack_zip if is_zip else _unpack_tar)(archive, partial, _Limits(archive))


def _subfolders(folder):
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith('.'))
    except OSError:
        return []


@contextmanager
def _new_folder(archive, folder):
    """Give a temporary folder that becomes ``folder`` at the end; turn what goes wrong into one line."""
    parent, partial = os.path.dirname(os.path.abspath(folder)), None
    try:
        prefix = f'.{os.path.basename(folder)}-{socket.gethostname()}-'
        _remove_left_behind(os.path.join(parent, prefix))
        partial = tempfile.mkdtemp(prefix=f'{prefix}{os.getpid()}-', dir=parent)
        os.chmod(partial, 0o777 & ~_umask())
        yield partial
        os.rename(partial, folder)
    except DataError:
        raise
    except FileExistsError as error:
        raise DataError(f"cannot unpack '{archive}' to '{folder}': '{error.filename}' comes twice or exists") from None
    except OSError as error:
        if error.errno is None:  # the decompressors' own
            raise DataError(f"archive '{archive}' cannot be unpacked: {error}") from None
        raise DataError(f"cannot unpack '{archive}' to '{folder}': {error.strerror}") from None
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, RuntimeError, NotImplementedError,
            EOFError, ValueError) as error:
        raise DataError(f"archive '{archive}' cannot be unpacked: {error}") from None
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)


def _remove_left_behind(prefix):
    """Remove the temporary folders of processes of this machine that are no more; they can have 200 GB."""
    for path in glob.glob(f'{glob.escape(prefix)}*'):
        try:
            os.kill(int(path[len(prefix):].split('-')[0]), 0)
        except ProcessLookupError:
            shutil.rmtree(path, ignore_errors=True)
        except (ValueError, OSError):  # not one of ours, or of another user
            pass


class _Limits:
    """Counts what an archive unpacks to and refuses what is no data set of photographs."""

    def __init__(self, archive):
        size = os.path.getsize(archive)
        self._archive, self._bytes, self._files = archive, 0, 0
        self._max_bytes, self._max_files = max(MAX_BYTES, BYTES_GROWTH * size), max(MAX_FILES, size // BYTES_A_FILE)

    def add(self, name, size):
        if leads_out(name):
            raise DataError(f"archive '{self._archive}' is refused: {name!r} leads out of its folder")
        self._bytes += size
        self._files += 1
        if self._bytes > self._max_bytes or self._files > self._max_files:
            raise DataError(f"archive '{self._archive}' would unpack to at least {self._files:,} files and "
                            f'{self._bytes:,} bytes; more than {self._max_files:,} or {self._max_bytes:,} are refused')

    def refuse_kind(self, name):
        raise DataError(f"archive '{self._archive}' is refused: {name!r} is neither file nor folder")

    def check_room(self, folder):
        free = shutil.disk_usage(folder).free
        if self._bytes > free:
            raise DataError(f"unpacking '{self._archive}' needs {self._bytes:,} bytes, '{os.path.dirname(folder)}' has "
                            f'{free:,} free')


def _unpack_zip(archive, folder, limits):
    with zipfile.ZipFile(archive) as bundle:
        members = bundle.infolist()
        for member in members:
            limits.add(member.filename, member.file_size)
            if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                limits.refuse_kind(member.filename)
        limits.check_room(folder)
        for member in members:
            if member.is_dir():
                os.makedirs(os.path.join(folder, member.filename), exist_ok=True)
            else:
                with bundle.open(member) as content:  # gives no more than the size declared and checks the CRC
                    _write(content, folder, member.filename)


class _Member(tarfile.TarInfo):
    """A tar member whose extended headers, which are read into memory, have a limit."""

    _EXTENDED = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
                 tarfile.SOLARIS_XHDTYPE)

    def _proc_member(self, archive):
        if self.type in self._EXTENDED and self.size > MAX_HEADER:
            raise tarfile.ReadError(f'a header of {self.size:,} bytes')
        return super()._proc_member(archive)


def _unpack_tar(archive, folder, limits):
    # As a stream: members are met once and in order, so that nothing is unpacked twice to look ahead.
    with tarfile.open(archive, 'r|*', tarinfo=_Member) as bundle:
        for member in bundle:
            limits.add(member.name, member.size)
            if member.isdir():
                os.makedirs(os.path.join(folder, member.name), exist_ok=True)
            elif member.isreg() and not member.issparse():
                with bundle.extractfile(member) as content:
                    _write(content, folder, member.name)
            else:
                limits.refuse_kind(member.name)
            bundle.members.clear()  # or hundreds of thousands of them stay in memory


def _write(content, folder, name):
    path = os.path.join(folder, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'xb') as stream:
        shutil.copyfileobj(content, stream, 2 ** 20)


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

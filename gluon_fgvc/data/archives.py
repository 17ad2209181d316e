"""Unpacking zip archives that strangers made."""
import os
import shutil
import stat
import tempfile
import zipfile

from gluon_fgvc.errors import DataError

MAX_BYTES, MAX_FILES = 4 * 2 ** 30, 200_000


def extract_zip(archive, folder):
    """Unpack ``archive`` into the new ``folder``, wholly or not at all.

    :raises DataError: if the archive is broken, encrypted, larger than ``MAX_BYTES`` or ``MAX_FILES`` when
        unpacked, or has links or paths that lead out of the folder; or if the disk is full.
    """
    partial = None
    try:
        with zipfile.ZipFile(archive) as bundle:
            members = [_checked(member, archive) for member in bundle.infolist()]
            size = sum(member.file_size for member in members)
            if size > MAX_BYTES or len(members) > MAX_FILES:
                raise DataError(f"archive '{archive}' would unpack to {len(members):,} files and {size:,} bytes; more "
                                f'than {MAX_FILES:,} or {MAX_BYTES:,} are refused')
            parent = os.path.dirname(os.path.abspath(folder))
            free = shutil.disk_usage(parent).free
            if size > free:
                raise DataError(f"unpacking '{archive}' needs {size:,} bytes, '{parent}' has {free:,} free")
            partial = tempfile.mkdtemp(prefix=f'.{os.path.basename(folder)}-', dir=parent)
            os.chmod(partial, 0o777 & ~_umask())
            for member in members:
                bundle.extract(member, partial)  # reads no more than the size that was declared, checks the CRC
        os.rename(partial, folder)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"archive '{archive}' cannot be unpacked: {error}") from None
    except OSError as error:
        raise DataError(f"cannot unpack '{archive}' to '{folder}': {error.strerror or error}") from None
    finally:
        if partial:
            shutil.rmtree(partial, ignore_errors=True)


def _checked(member, archive):
    parts = member.filename.replace('\\', '/').split('/')
    if member.filename.startswith(('/', '\\')) or '..' in parts or ':' in parts[0]:
        raise DataError(f"archive '{archive}' is refused: '{member.filename}' leads out of its folder")
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise DataError(f"archive '{archive}' is refused: '{member.filename}' is neither file nor folder")
    return member


def _umask():
    mask = os.umask(0)
    os.umask(mask)
    return mask

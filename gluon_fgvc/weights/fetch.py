"""Fetch a weight file: once, whole, and only if its sum is right. What was cut off goes on where it ended."""
import fcntl
import http.client
import os
import socket
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager
from typing import NamedTuple, Optional

from tqdm import tqdm

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.files import hash_of_file, remove

TIMEOUT = 10      # seconds without an answer before giving up
_ATTEMPTS = 5     # as long as each of them brings something
_BLOCK = 1 << 18
_INFLATION = 4    # weights hardly compress; a zip that grows more than this is none of weights


def cache_folder():
    """Where fetched weights are kept: ``$GLUON_FGVC_HOME/models``, else ``~/.cache/gluon_fgvc/models``."""
    home = os.environ.get('GLUON_FGVC_HOME') or os.path.join('~', '.cache', 'gluon_fgvc')
    return os.path.join(os.path.expanduser(home), 'models')


def fetch(url, path, digest, timeout=TIMEOUT):
    """Return ``path``, fetched from ``url`` if it is not there.

    A transfer that breaks off leaves ``path.part``, which the next call continues if the server can. Only one
    process at a time fetches to ``path``; others wait for it.

    :param digest: sha256 (64 hexadecimal digits) or sha1 (40); a file at ``path`` with another sum is fetched again.
    :param timeout: seconds without an answer before giving up.
    :raises WeightsError: if the file cannot be fetched or has another sum.
    """
    return _fetched(_Wanted(url, path, digest, f'{path}.part'), timeout)


def fetch_zipped(url, file_name, digest, folder, timeout=TIMEOUT):
    """Return the path of ``file_name`` in ``folder``, taken out of the zip at ``url`` if it is not there.

    Like :func:`fetch`, with the sum of the unpacked file.

    :raises WeightsError: if the zip cannot be fetched, is damaged, or holds another file.
    """
    path = os.path.join(folder, file_name)
    return _fetched(_Wanted(url, path, digest, f'{path}.zip.part', file_name), timeout)


class _Wanted(NamedTuple):
    url: str
    path: str                     # where the file is to be
    digest: str                   # of the file
    part: str                     # where what has come so far is kept
    member: Optional[str] = None  # of the zip at ``url`` that is the file

    @property
    def algorithm(self):
        return {40: 'sha1', 64: 'sha256'}[len(self.digest)]

    def is_at(self, path):
        return os.path.isfile(path) and hash_of_file(path, self.algorithm) == self.digest.lower()


def _fetched(wanted, timeout):
    if wanted.is_at(wanted.path):
        return wanted.path
    try:
        os.makedirs(os.path.dirname(wanted.path) or '.', exist_ok=True)
        with _locked(wanted.part) as stream:
            if not wanted.is_at(wanted.path):  # another process may have fetched it meanwhile
                _fetch_and_check(wanted, stream, timeout)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, 'reason', None) or error
        raise WeightsError(f"cannot fetch '{wanted.url}': {reason}".replace('\n', ' ')) from None
    return wanted.path


@contextmanager
def _locked(part):
    """Open ``part`` to append, for one process at a time; an empty one is not left behind."""
    while True:
        stream = open(part, 'ab')
        fcntl.flock(stream, fcntl.LOCK_EX)
        # Who held the lock may have moved or removed the file while we waited.
        if _is_open_as(stream, part):
            break
        stream.close()
    with stream:
        try:
            yield stream
        finally:
            stream.flush()
            if _is_open_as(stream, part) and not stream.seek(0, os.SEEK_END):
                remove(part)


def _is_open_as(stream, path):
    try:
        return os.path.samestat(os.fstat(stream.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _fetch_and_check(wanted, stream, timeout):
    """Fetch the part that is missing and make the file of it."""
    resumed = stream.tell() > 0
    _download(wanted.url, stream, timeout)
    problem = _take(wanted)
    if problem and resumed:  # the file at the server may be another one than then
        _empty(stream)
        _download(wanted.url, stream, timeout)
        problem = _take(wanted)
    if problem:
        _empty(stream)
        raise WeightsError(f"'{wanted.url}' is not what was expected: {problem}")


def _empty(stream):
    stream.seek(0)
    stream.truncate()


def _take(wanted):
    """Move the part, or its member, to where the file is to be if the sum is right; return None or what is wrong."""
    # On the same file system: the move is atomic.
    with tempfile.TemporaryDirectory(dir=os.path.dirname(wanted.part)) as scratch:
        whole = wanted.part
        if wanted.member is not None:
            whole = os.path.join(scratch, 'file')
            try:
                _unpack(wanted.part, wanted.member, whole)
            # Besides damage: a compression that zipfile does not know, and a file that wants a password.
            except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, zlib.error) as error:
                return f'a damaged zip file ({error})'
            except KeyError:
                return f"a zip file without '{wanted.member}'"
        if not wanted.is_at(whole):
            return f'the {wanted.algorithm} of {os.path.basename(wanted.path)} is not {wanted.digest}'
        os.replace(whole, wanted.path)
    remove(wanted.part)
    return None


def _unpack(part, member, path):
    limit = (1 << 20) + _INFLATION * os.path.getsize(part)
    with zipfile.ZipFile(part) as archive, archive.open(member) as source, open(path, 'wb') as stream:
        for block in iter(lambda: source.read(_BLOCK), b''):
            if stream.tell() > limit:
                raise zipfile.BadZipFile('it grows more than weights do')
            stream.write(block)


class _Cut(OSError):
    """The transfer ended before the file did."""


def _download(url, stream, timeout):
    """Append what is missing to ``stream``; begin again if the server cannot give parts."""
    for attempt in range(1, _ATTEMPTS + 1):
        before = stream.seek(0, os.SEEK_END)
        try:
            return _transfer(url, stream, timeout)
        except (_Cut, socket.timeout, ConnectionError, http.client.IncompleteRead):
            if attempt == _ATTEMPTS or stream.tell() <= before:
                raise


def _transfer(url, stream, timeout):
    have = stream.tell()
    request = urllib.request.Request(url, headers={'Range': f'bytes={have}-'} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code != 416 or not have:
                raise
            # Nothing is left to send: either all is here, which the sum will tell, or this is another file.
            return
    with answer:
        if not (answer.headers.get('Content-Range') or '').startswith(f'bytes {have}-'):
            have = 0
            _empty(stream)
        length = answer.headers.get('Content-Length')
        total = have + int(length) if length and length.isdecimal() else None
        with tqdm(total=total, initial=have, unit='B', unit_scale=True, leave=False, disable=None,
                  desc=os.path.basename(url)) as bar:
            for block in iter(lambda: answer.read1(_BLOCK), b''):  # what has come so far
                stream.write(block)
                bar.update(len(block))
        stream.flush()
        if total is not None and stream.tell() < total:
            raise _Cut(f'the server sent {stream.tell():,} of {total:,} bytes')

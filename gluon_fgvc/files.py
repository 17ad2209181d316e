"""Files that are either the old ones or the new ones, never half of each, and locks."""
import fcntl
import hashlib
import os
import re
import secrets
from contextlib import contextmanager


def write_atomically(path, content):
    """Write text or bytes to ``path`` through a temporary file beside it, synced before it takes the name.

    Text is written in UTF-8; names of files in it that are none keep their bytes. Of several processes that write one
    file at a time, each has a temporary file of its own, and the last one's content stays.

    :returns: ``path`` as text.
    """
    data = content.encode('utf-8', 'surrogateescape') if isinstance(content, str) else content
    temporary = f'{path}.{secrets.token_hex(4)}.tmp'
    try:
        with _named(path):
            with open(temporary, 'xb') as stream:
                fcntl.flock(stream, fcntl.LOCK_EX)  # tells those who clean up that somebody is at it
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    return str(path)


def remove_leftovers(folder):
    """Remove from ``folder`` the temporary files of writers that were killed."""
    for name in os.listdir(folder):
        if re.search(r'\.[0-9a-f]{8}\.tmp$', name):
            path = os.path.join(folder, name)
            try:
                with open(path, 'rb') as stream:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove(path)
            except OSError:  # its writer is alive, or has just finished
                pass


def append(path, text):
    """Add ``text`` to the end of the file ``path``, which is made if there is none."""
    with _named(path), open(path, 'a', encoding='utf-8', errors='surrogateescape') as stream:
        stream.write(text)


@contextmanager
def _named(path):
    """Say which file it was when a write fails: the system does not, or names the temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = str(path)
        raise


def remove(path):
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def lock(path):
    """Make ``path`` and return it open and locked for this process: until it is closed or the process ends.

    :raises BlockingIOError: when another process holds it. Child processes do not inherit the lock.
    """
    stream = open(path, 'w')
    try:
        fcntl.lockf(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        stream.close()
        raise
    return stream


def hash_of_file(path, algorithm='sha256'):
    """Return the hash of a file's bytes as hexadecimal digits."""
    digest = hashlib.new(algorithm)
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()

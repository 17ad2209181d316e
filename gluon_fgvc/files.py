"""Files that are either the old ones or the new ones, never half of each."""
import hashlib
import os


def write_atomically(path, content):
    """Write text or bytes to ``path`` through a temporary file beside it, synced before it takes the name.

    :returns: ``path`` as text.
    """
    data = content.encode('utf-8') if isinstance(content, str) else content
    temporary = f'{path}.tmp'
    try:
        with open(temporary, 'wb') as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    return str(path)


def remove(path):
    """Remove a file that may not be there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def hash_of_file(path, algorithm='sha256'):
    """Return the hash of a file's bytes as hexadecimal digits."""
    digest = hashlib.new(algorithm)
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()

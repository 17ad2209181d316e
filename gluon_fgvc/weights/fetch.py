"""Fetch a weight file from a model zoo: once, whole, and only if its sha1 is right."""
import http.client
import os
import shutil
import tempfile
import urllib.request
import zipfile

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.files import hash_of_file


def cache_folder():
    """Where fetched weights are kept: ``$GLUON_FGVC_HOME/models``, else ``~/.cache/gluon_fgvc/models``."""
    home = os.environ.get('GLUON_FGVC_HOME') or os.path.join('~', '.cache', 'gluon_fgvc')
    return os.path.join(os.path.expanduser(home), 'models')


def fetch_zipped(url, file_name, sha1, folder, timeout=20):
    """Return the path of ``file_name`` in ``folder``, taken out of the zip at ``url`` if it is not there.

    :param sha1: of the unpacked file; one in ``folder`` with another sum is fetched again.
    :param timeout: seconds without an answer before giving up.
    :raises WeightsError: if the zip cannot be fetched, is damaged, or holds another file.
    """
    path = os.path.join(folder, file_name)
    if os.path.isfile(path) and hash_of_file(path, 'sha1') == sha1:
        return path
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:  # same file system, so the move is atomic
            packed, unpacked = os.path.join(scratch, 'zip'), os.path.join(scratch, 'file')
            with urllib.request.urlopen(url, timeout=timeout) as answer, open(packed, 'wb') as stream:
                shutil.copyfileobj(answer, stream)
            with zipfile.ZipFile(packed) as archive, archive.open(file_name) as member, open(unpacked, 'wb') as stream:
                shutil.copyfileobj(member, stream)
            if hash_of_file(unpacked, 'sha1') != sha1:
                raise WeightsError(f"'{url}' holds another {file_name} than expected: its sha1 is not {sha1}")
            os.replace(unpacked, path)
    except (OSError, http.client.HTTPException, zipfile.BadZipFile, KeyError) as error:
        reason = getattr(error, 'reason', None) or error
        raise WeightsError(f"cannot fetch '{url}': {reason}".replace('\n', ' ')) from None
    return path

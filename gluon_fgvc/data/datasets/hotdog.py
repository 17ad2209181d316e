"""The hot dog photographs of *Dive into Deep Learning* (Sec. 14.2, fine-tuning).

1,000 + 1,000 training and 400 + 400 test images in ``hotdog/{train,test}/{hotdog,not-hotdog}``.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from dataclasses import dataclass

from gluon_fgvc.config import option
from gluon_fgvc.data import folders
from gluon_fgvc.data.base import Source
from gluon_fgvc.data.formats.archives import extract, find
from gluon_fgvc.errors import DataError
from gluon_fgvc.files import hash_of_file

URL = 'http://d2l-data.s3-accelerate.amazonaws.com/hotdog.zip'
SHA1 = 'fba480ffa8aa7e0febbb511d181409f899b9baa5'
ARCHIVES = {'hotdog.zip': SHA1}
CLASSES = ('hotdog', 'not-hotdog')
CONNECT_SECONDS, DOWNLOAD_SECONDS = 10, 3600
# In a process of its own, since d2l brings Jupyter and pins that nothing else here should meet.
DOWNLOAD = '''
import sys
from d2l import mxnet as d2l
d2l.DATA_HUB.setdefault('hotdog', (sys.argv[1], sys.argv[2]))
d2l.download('hotdog', sys.argv[3])
'''


@dataclass(frozen=True)
class Options:
    """Where the archive is."""

    root: str = option('data', 'hotdog.zip, or a folder that has it or its contents; it is downloaded there if neither')


def read(options):
    """Return the :class:`Source`; class 0 is 'hotdog', as in the book.

    An archive is unpacked beside itself into ``hotdog``. Without one, the package d2l (extra ``tutorial``)
    downloads it.

    :raises DataError: if there are no data and no network, or the archive is not the book's.
    """
    root = os.path.expanduser(options.root)
    folder = _unpacked(root)
    if folder is None:
        archive = root if os.path.isfile(root) else os.path.join(root, 'hotdog.zip')
        if not os.path.isfile(archive):
            _download(root)
        folder = os.path.join(os.path.dirname(archive), 'hotdog')
        if not os.path.isdir(folder):
            _unpack(archive, folder)
    classes, sets = folders.read_splits(folder, ('train', 'test'))
    if classes != CLASSES:
        raise DataError(f"'{folder}' has classes {', '.join(classes)}, expected {', '.join(CLASSES)}")
    return Source(classes, sets['train'], sets['test'])


def _unpacked(root):
    if os.path.isdir(os.path.join(root, 'train')):
        return root
    folder = find(root, os.path.join('hotdog', 'train'))
    return folder and os.path.join(folder, 'hotdog')


def _unpack(archive, folder):
    """Unpack ``archive``, which holds a folder hotdog, so that ``folder`` is that folder."""
    with tempfile.TemporaryDirectory(prefix='.hotdog-', dir=os.path.dirname(archive) or '.') as partial:
        extract(archive, os.path.join(partial, 'all'))
        inner = _unpacked(os.path.join(partial, 'all'))
        if inner is None:
            raise DataError(f"archive '{archive}' has no folder hotdog/train; expected the archive of {URL}")
        os.rename(inner, folder)


def _download(root):
    """Put the book's hotdog.zip into folder ``root``."""
    advice = f"put the archive of {URL} there as '{os.path.join(root, 'hotdog.zip')}', or set data.root to where it is"
    try:
        os.makedirs(root, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix='.hotdog-', dir=root) as partial:
            # d2l waits without limit for a server that does not answer.
            urllib.request.urlopen(urllib.request.Request(URL, method='HEAD'), timeout=CONNECT_SECONDS).close()
            done = subprocess.run([sys.executable, '-c', DOWNLOAD, URL, SHA1, partial], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.PIPE, text=True, timeout=DOWNLOAD_SECONDS)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ['no message'])[-1]
                raise DataError(f"no hot dog data in '{root}', and d2l could not download them ({reason}; d2l comes "
                                f'with: pip install gluon-fgvc[tutorial]); {advice}')
            archive = os.path.join(partial, 'hotdog.zip')
            if hash_of_file(archive, 'sha1') != SHA1:
                raise DataError(f"what d2l downloaded from {URL} does not have SHA-1 {SHA1}; {advice}")
            shutil.move(archive, os.path.join(root, 'hotdog.zip'))
    except subprocess.TimeoutExpired:
        raise DataError(f'the download of {URL} took more than {DOWNLOAD_SECONDS} s; {advice}') from None
    except OSError as error:
        raise DataError(f"no hot dog data in '{root}', and no download ({getattr(error, 'reason', error)}); "
                        f'{advice}') from None

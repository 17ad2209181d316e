"""The images that somebody means by files, folders and globs."""
import glob
import os

from gluon_fgvc.data.folders import EXTENSIONS
from gluon_fgvc.errors import DataError


def find_images(inputs):
    """Return the image paths that ``inputs`` (files, folders, globs) name, in that order, each once.

    Of folders and globs, files that are not named like images are left out.

    :raises DataError: for an input that names no image.
    """
    paths = []
    for given in inputs:
        if os.path.isdir(given):
            found = _images_below(given)
        elif os.path.exists(given):
            found = [given]
        else:
            matches = sorted(glob.glob(given, recursive=True))
            found = [path for match in matches for path in (_images_below(match) if os.path.isdir(match) else [match])
                     if path.lower().endswith(EXTENSIONS)]
        if not found:
            raise DataError(f"'{given}' names no image: it is no file, and as a folder or glob it holds none with "
                            f"{', '.join(EXTENSIONS)}")
        paths += found
    return list(dict.fromkeys(paths))


def _images_below(folder):
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith('.'))
        found += [os.path.join(parent, name) for name in sorted(files)
                  if not name.startswith('.') and name.lower().endswith(EXTENSIONS)]
    return found

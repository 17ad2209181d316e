"""The images that somebody means by files, folders and globs."""
import glob
import os
import warnings

from gluon_fgvc.data.folders import UNNAMED, LeftOut, images_below, is_image
from gluon_fgvc.data.images import EXTENSIONS
from gluon_fgvc.errors import DataError


def find_images(inputs):
    """Return the image paths that ``inputs`` (files, folders, globs) name, in that order, each once.

    Folders are searched with all their sub-folders, linked ones too. Of folders and globs, files that are not named
    like images are left out; a warning gives their number.

    :raises DataError: for an input that names no image, or a folder that cannot be listed.
    """
    paths, left_out = [], LeftOut()
    for given in inputs:
        path = os.path.expanduser(given)
        if os.path.isdir(path):
            found = images_below(path, left_out)
        elif os.path.lexists(path):
            found = [path]
        else:
            found = []
            for match in sorted(glob.glob(path, recursive=True)):
                if os.path.isdir(match):
                    found += images_below(match, left_out)
                elif is_image(match):
                    found.append(match)
                else:
                    left_out.add(UNNAMED, match)
        if not found:
            raise DataError(f"'{given}' names no image: it is no file, and as a folder or glob it holds none with "
                            f"{', '.join(EXTENSIONS)}")
        paths += found
    for line in left_out.lines():
        warnings.warn(line, stacklevel=2)
    return list(dict.fromkeys(paths))

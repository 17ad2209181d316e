"""Folders of images, one sub-folder a class."""
import os

import numpy as np

from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.errors import DataError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff')


def subfolders(folder):
    """Return the sorted names of the visible sub-folders of ``folder``."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def read_classes(folder, split):
    """Read ``folder/<class>/<image>``: return the sorted class names and the :class:`ImageSet`.

    Hidden files and files that are not named like images are left out.

    :raises DataError: if there is no class, or a class without images.
    """
    classes, paths, labels = subfolders(folder), [], []
    if not classes:
        raise DataError(f"'{folder}' has no class folders; expected {os.path.join(folder, '<class>', '<image>')}")
    for label, name in enumerate(classes):
        own = sorted(entry.path for entry in _entries(os.path.join(folder, name))
                     if entry.is_file() and entry.name.lower().endswith(EXTENSIONS))
        if not own:
            raise DataError(f"class '{name}' of split '{split}' has no images in '{os.path.join(folder, name)}' "
                            f"(looked for {', '.join(EXTENSIONS)})")
        paths += own
        labels += [label] * len(own)
    return tuple(classes), ImageSet(split, paths, np.array(labels, dtype=np.int64))


def read_splits(folder, splits):
    """Read ``folder/<split>/<class>/<image>`` for each of ``splits``: class names and a dict of sets.

    :raises DataError: also if the splits differ in their classes.
    """
    sets, classes = {}, None
    for split in splits:
        names, sets[split] = read_classes(os.path.join(folder, split), split)
        if classes is None:
            classes = names
        elif names != classes:
            differing = ', '.join(f"'{name}'" for name in sorted(set(names) ^ set(classes)))
            raise DataError(f"'{folder}': splits '{splits[0]}' and '{split}' do not have the same class folders; "
                            f'only in one of them: {differing}')
    return classes, sets


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith('.')]
    except OSError as error:
        raise DataError(f"cannot list folder '{folder}': {error.strerror}") from None

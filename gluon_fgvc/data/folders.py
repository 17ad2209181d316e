"""Folders of images, one sub-folder a class."""
import os
from dataclasses import replace

import numpy as np

from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.data.findings import Finding, refuse
from gluon_fgvc.errors import DataError

EXTENSIONS = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.gif', '.tif', '.tiff')


def subfolders(folder):
    """Return the sorted names of the visible sub-folders of ``folder``."""
    return sorted(entry.name for entry in _entries(folder) if entry.is_dir())


def read_classes(folder, split, complain=refuse):
    """Read ``folder/<class>/<image>``: return the sorted class names and the :class:`ImageSet`.

    Hidden files and files that are not named like images are left out.

    :param complain: called with a Finding for each class without images; :func:`refuse` raises it.
    :raises DataError: if there is no class.
    """
    classes, paths, labels = subfolders(folder), [], []
    if not classes:
        raise DataError(f"'{folder}' has no class folders; expected {os.path.join(folder, '<class>', '<image>')}")
    for label, name in enumerate(classes):
        own = sorted(entry.path for entry in _entries(os.path.join(folder, name))
                     if entry.is_file() and entry.name.lower().endswith(EXTENSIONS))
        if not own:
            complain(Finding('empty_class', f"class '{name}' of split '{split}' has no images in "
                             f"'{os.path.join(folder, name)}' (looked for {', '.join(EXTENSIONS)})", classes=(name,)))
        paths += own
        labels += [label] * len(own)
    return tuple(classes), ImageSet(split, paths, np.array(labels, dtype=np.int64))


def read_splits(folder, splits, complain=refuse):
    """Read ``folder/<split>/<class>/<image>`` for each of ``splits``: class names and a dict of sets.

    :param complain: called also for each class that a split lacks.
    """
    read = {split: read_classes(os.path.join(folder, split), split, complain) for split in splits}
    classes = tuple(sorted(set().union(*(names for names, _ in read.values()))))
    for name in classes:
        absent = [split for split in splits if name not in read[split][0]]
        if absent:
            present = [split for split in splits if split not in absent]
            complain(Finding('class_mismatch', f"'{folder}': class '{name}' has a folder in {', '.join(present)} but "
                             f"none in {', '.join(absent)}", classes=(name,)))
    index = {name: label for label, name in enumerate(classes)}
    return classes, {split: replace(images, labels=np.array([index[name] for name in names], np.int64)[images.labels])
                     for split, (names, images) in read.items()}


def _entries(folder):
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith('.')]
    except OSError as error:
        raise DataError(f"cannot list folder '{folder}': {error.strerror}") from None

"""Folders of images, one sub-folder a class, and what is left out when they are read.

Hidden entries and what systems and archives leave behind (``LEFTOVERS``) are no part of a data set. A link that leads
nowhere counts as what its name says, so that reading it fails in words instead of an image missing silently.
"""
import os
import unicodedata
from dataclasses import replace

import numpy as np

from gluon_fgvc.data.base import ImageSet
from gluon_fgvc.data.findings import Finding, refuse
from gluon_fgvc.data.images import EXTENSIONS
from gluon_fgvc.errors import DataError

# Thumbnails and recycle bins of network storage, what macOS puts into archives, what Windows puts into folders.
LEFTOVERS = ('@eadir', '#recycle', '@recycle', '$recycle.bin', '__macosx', 'lost+found', 'system volume information',
             'thumbs.db', 'ehthumbs.db', 'desktop.ini')

UNNAMED = 'not named like images'
BELOW = 'in sub-folders of class folders'
BESIDE = 'beside the class folders'


class LeftOut:
    """Counts what reading folders leaves out, by the reason, with one example each."""

    def __init__(self):
        self._counts = {}  # reason → (count, example)

    def add(self, reason, example, count=1):
        """Note that ``count`` files, such as ``example``, are left out."""
        if count:
            before, first = self._counts.get(reason, (0, example))
            self._counts[reason] = before + count, first

    def lines(self):
        """Return one line for each reason."""
        return tuple(f"left out: {count:,} file{'s' if count > 1 else ''} {reason}, e.g. '{example}'"
                     for reason, (count, example) in self._counts.items())


def listing(folder):
    """Return the sorted entries of ``folder`` that may be part of a data set.

    :raises DataError: if the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted((entry for entry in entries
                           if not entry.name.startswith('.') and entry.name.lower() not in LEFTOVERS),
                          key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"cannot list folder '{folder}': {error.strerror}") from None


def is_image(name):
    """Return whether a file of that name is looked at."""
    return name.lower().endswith(EXTENSIONS)


def is_dangling(entry):
    """Return whether an entry of a folder is a link that leads nowhere."""
    return entry.is_symlink() and not os.path.exists(entry.path)


def subfolders(folder):
    """Return the sorted names of the sub-folders of ``folder`` that may be part of a data set."""
    return [entry.name for entry in listing(folder) if entry.is_dir()]


def images_below(folder, left_out):
    """Return the sorted image files in ``folder`` and all its sub-folders, linked ones too, each folder once.

    :param left_out: a :class:`LeftOut` that is told of the other files.
    :raises DataError: if one of the folders cannot be listed.
    """
    found, seen, waiting = [], set(), [folder]
    while waiting:
        parent = waiting.pop(0)
        try:
            status = os.stat(parent)
        except OSError as error:
            raise DataError(f"cannot list folder '{parent}': {error.strerror}") from None
        if (status.st_dev, status.st_ino) in seen:  # a link back up
            continue
        seen.add((status.st_dev, status.st_ino))
        entries = listing(parent)
        waiting[:0] = [entry.path for entry in entries if entry.is_dir()]
        for entry in entries:
            if is_image(entry.name) and not entry.is_dir():
                found.append(entry.path)
            elif is_dangling(entry):
                left_out.add('behind links that lead nowhere', entry.path)
            elif entry.is_file():
                left_out.add(UNNAMED, entry.path)
    return found


def read_classes(folder, split, complain=refuse, left_out=None, coarse=False):
    """Read ``folder/<class>/<image>``: return the sorted class names and the :class:`ImageSet`.

    :param coarse: the class folders lie in folders of super-categories, ``folder/<super-category>/<class>/<image>``.

    :param complain: called with a Finding for each class without images; :func:`refuse` raises it.
    :param left_out: a :class:`LeftOut` that is told of files that are no images of a class.
    :raises DataError: if there is no class.
    """
    left_out = LeftOut() if left_out is None else left_out
    found = {}  # class → its folder
    for parent in [os.path.join(folder, name) for name in subfolders(folder)] if coarse else [folder]:
        for name, path in _class_folders(parent, split, complain, left_out):
            if name in found:
                raise DataError(f"class '{name}' is in two super-categories: '{found[name]}' and '{path}'")
            found[name] = path
    if not found:
        raise DataError(f"'{folder}' has no class folders; expected "
                        + os.path.join(folder, *(['<super-category>'] if coarse else []), '<class>', '<image>'))
    classes, paths, labels = sorted(found), [], []
    _check_lookalikes(folder, classes)
    for label, name in enumerate(classes):
        own, below = _images_of_class(found[name], left_out)
        if not own:
            hint = f"; its {below[1]} are in sub-folders, e.g. '{below[0]}': move them up" if below else ''
            if below and not coarse:
                hint += f", or set data.coarse: true if '{name}' is a super-category of classes"
            complain(Finding('empty_class', f"class '{name}' of split '{split}' has no images in '{found[name]}' "
                             f"(looked for {', '.join(EXTENSIONS)}){hint}", classes=(name,)))
        paths += own
        labels += [label] * len(own)
    return tuple(classes), ImageSet(split, paths, np.array(labels, dtype=np.int64))


def _class_folders(folder, split, complain, left_out):
    """Yield the name and path of each class folder in ``folder``."""
    for entry in listing(folder):
        if entry.is_dir():
            yield entry.name, entry.path
        elif is_image(entry.name):
            left_out.add(BESIDE, entry.path)
        elif is_dangling(entry):
            complain(Finding('empty_class', f"class '{entry.name}' of split '{split}' is a link that leads nowhere: "
                             f"'{entry.path}' to '{os.readlink(entry.path)}'", classes=(entry.name,)))


def _images_of_class(folder, left_out):
    """Return the image files in ``folder``, and an example and the number of those in its sub-folders, or None."""
    own, example, count = [], None, 0
    for entry in listing(folder):
        if entry.is_dir():
            below = images_below(entry.path, LeftOut())
            if below:
                example, count = example or below[0], count + len(below)
        elif is_image(entry.name):
            own.append(entry.path)
        elif entry.is_file():
            left_out.add(UNNAMED, entry.path)
    left_out.add(BELOW, example, count)
    return own, example and (example, count)


def read_splits(folder, splits, complain=refuse, left_out=None, coarse=False):
    """Read ``folder/<split>/<class>/<image>`` for each of ``splits``: class names and a dict of sets.

    Classes whose names differ in their Unicode form alone are one, named as in the first split that has it.

    :param complain: called also for each class that a split lacks.
    :param coarse: as in :func:`read_classes`.
    """
    read = {split: read_classes(os.path.join(folder, split), split, complain, left_out, coarse) for split in splits}
    names = {}  # composed form → the name of the class
    for split in splits:
        for name in read[split][0]:
            names.setdefault(composed(name), name)
    classes = tuple(sorted(names.values()))
    present = {split: {composed(name) for name in read[split][0]} for split in splits}
    lacking = {name: [split for split in splits if composed(name) not in present[split]] for name in classes}
    lacking = {name: absent for name, absent in lacking.items() if absent}
    for name, absent in lacking.items():
        others = [split for split in splits if split not in absent]
        complain(Finding('class_mismatch', f"'{folder}': class '{name}' has a folder in {', '.join(others)} but none "
                         f"in {', '.join(absent)}{_ways_out(lacking, classes, absent)}", classes=(name,)))
    index = {composed(name): label for label, name in enumerate(classes)}
    return classes, {split: replace(images, labels=np.array([index[composed(name)] for name in own],
                                                            np.int64)[images.labels])
                     for split, (own, images) in read.items()}


def _ways_out(lacking, classes, absent):
    """Say how many classes lack folders, and what can be done about a class that lacks those of ``absent``."""
    others = f' (and {len(lacking) - 1} more of {len(classes)} likewise)' if len(lacking) > 1 else ''
    if 'train' in absent:
        return f'{others}; a class without training images cannot be learnt'
    carve = "; without the folder 'val', data.val_fraction takes validation images from train" * ('val' in absent)
    return f'{others}; data.classes: union allows that, such classes then have no image there{carve}'


def composed(name):
    """Return a name in the Unicode form in which names that look the same are the same."""
    return unicodedata.normalize('NFC', name)


def _check_lookalikes(folder, classes):
    seen = {}
    for name in classes:
        other = seen.setdefault(composed(name), name)
        if other != name:
            raise DataError(f"'{folder}': class folders {ascii(other)} and {ascii(name)} look the same (they differ in "
                            'their Unicode normal form only); merge them, or rename one')

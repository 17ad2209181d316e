"""Any folder of images: ``root/{train,val,test}/<class>/<image>``, or ``root/<class>/<image>`` without splits.

ImageNet is read with ``test_folder: val``: the labels of its own test images are secret, and its validation split
is what is reported on.
"""
import os
from collections import Counter
from dataclasses import dataclass, replace
from typing import Optional

from gluon_fgvc.config import option
from gluon_fgvc.data import folders
from gluon_fgvc.data.base import Source
from gluon_fgvc.data.findings import Finding, refuse
from gluon_fgvc.data.formats.annotations import keyed, read_table
from gluon_fgvc.data.splits import stratified_split
from gluon_fgvc.errors import ConfigError, DataError

SPLITS = ('train', 'val', 'test')
LAYOUT = "'{root}/{{train,test}}/<class>/<image>' (val is optional) or '{root}/<class>/<image>'"


@dataclass(frozen=True)
class Options:
    """Where the folders are, and how to split them if they are not."""

    root: str = option(doc='folder with train, test and perhaps val, or with the class folders themselves')
    test_share: Optional[float] = option(None, 'stratified share for the test split; needed, and allowed, only where '
                                               'the folders are not split', above=0, below=1)
    test_folder: str = option('test', "folder of the test split; 'val' leaves validation to data.val_fraction",
                              choices=('test', 'val'))
    classes: str = option('same', "'same' refuses splits that differ in their classes; 'union' allows classes that "
                                  'have images in train alone', choices=('same', 'union'))
    coarse: bool = option(False, 'class folders lie in folders of super-categories, <super-category>/<class>/<image>, '
                                 'which get a table in the report')
    class_names: Optional[str] = option(None, 'file with a class folder and its name a line, e.g. n01440764 tench; '
                                              'null takes the folders as names')
    split_seed: int = option(0, 'seed of that split', minimum=0, maximum=2 ** 32 - 1)


def read(options):
    """Return the :class:`Source` under ``options.root``; classes are sorted by name.

    :raises DataError: if a folder is missing, a class is empty or the splits differ in their classes.
    :raises ConfigError: if ``test_share`` is missing or out of place.
    """
    return survey(options, refuse)


def survey(options, complain):
    """Like :func:`read`, but call ``complain`` with a Finding for what can be read past."""
    root, left_out = os.path.expanduser(options.root), folders.LeftOut()
    if not os.path.isdir(root):
        raise DataError(f"data.root '{options.root}' is not a folder; expected {LAYOUT.format(root=options.root)}")
    source = _read(root, options, complain, left_out)
    if complain is not refuse:
        for line in left_out.lines():
            complain(Finding('left_out', line))
    return replace(source, classes=_names(source.classes, options.class_names), notes=left_out.lines(),
                   groups=_groups(source) if options.coarse else None)


def _groups(source):
    """Return the super-category of each class: the folder that its folder lies in, the same in all splits."""
    groups = {}
    for images in (source.train, source.val, source.test):
        for path, label in zip(images.paths, images.labels) if images else ():
            group = os.path.basename(os.path.dirname(os.path.dirname(path)))
            if groups.setdefault(label, group) != group:
                raise DataError(f"'{path}': class '{source.classes[label]}' is in super-category '{group}' here, "
                                f"'{groups[label]}' elsewhere")
    return tuple(groups.get(label, '') for label in range(len(source.classes)))


def _read(root, options, complain, left_out):
    present = folders.subfolders(root)
    splits = [name for name in SPLITS if name in present]
    if not splits:
        return _split(root, options, complain, left_out)
    for name in ('train', options.test_folder):
        if name not in splits:
            raise DataError(f"data.root '{options.root}' has {', '.join(splits)} but no folder '{name}'; "
                            f'expected {LAYOUT.format(root=options.root)}')
    if options.test_share is not None:
        raise ConfigError(f"data.test_share {options.test_share} has no use: '{options.root}' has a folder "
                          f"'{options.test_folder}'; remove the key")
    splits = ['train', 'val'] if options.test_folder == 'val' else splits
    for name in present:
        if name not in splits:
            beside = os.path.join(root, name)
            images = folders.images_below(beside, folders.LeftOut())
            left_out.add(f"in folder '{name}', which is none of {', '.join(splits)}", *images[:1] or [beside],
                         len(images))
    classes, sets = folders.read_splits(root, splits, _tolerant(complain) if options.classes == 'union' else complain,
                                        left_out, options.coarse)
    test = replace(sets.pop(options.test_folder), name='test')
    return Source(classes, sets['train'], test, sets.get('val'))


def _tolerant(complain):
    """Return ``complain`` without what 'union' allows; ``data.build`` refuses classes that train lacks."""
    return lambda finding: None if finding.kind in ('empty_class', 'class_mismatch') else complain(finding)


def _names(folders, path):
    if path is None:
        return folders
    names = keyed(read_table(path, folder=str, name=str))
    missing = [folder for folder in folders if folder not in names]
    if missing:
        raise DataError(f"'{path}' has no name for class folder '{missing[0]}'")
    counts = Counter(names[folder] for folder in folders)
    # ImageNet has two kinds of crane, which predictions and reports must tell apart.
    return tuple(names[folder] if counts[names[folder]] == 1 else f'{names[folder]} ({folder})' for folder in folders)


def _split(root, options, complain, left_out):
    if options.test_share is None:
        raise ConfigError(f"data.root '{options.root}' has no folders train and test; set data.test_share, e.g. 0.25, "
                          'to hold out a test split')
    classes, images = folders.read_classes(root, 'all', complain, left_out, options.coarse)
    train, test = stratified_split(images.labels, options.test_share, options.split_seed)
    return Source(classes, images.subset(train, 'train'), images.subset(test, 'test'))

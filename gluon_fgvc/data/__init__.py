"""Images from disk to batches: ``build`` finds the files, ``Loader`` reads, prepares and batches them."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

import importlib
import pkgutil
from dataclasses import replace

import numpy as np

from gluon_fgvc.data import datasets
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.findings import Finding
from gluon_fgvc.data.folders import composed
from gluon_fgvc.data.folds import with_fold
from gluon_fgvc.data.images import BrokenImage, Picture, read_image
from gluon_fgvc.data.loaders import Batch, Loader
from gluon_fgvc.data.splits import relative_names, split_record, stratified_split, stratified_subset, torn_units
from gluon_fgvc.data.transforms import VIEWS, EvalTransform, TrainTransform, eval_views
from gluon_fgvc.data.units import with_units
from gluon_fgvc.errors import ConfigError, DataError, did_you_mean

__all__ = ['Batch', 'BrokenImage', 'ImageSet', 'Loader', 'Picture', 'Source', 'EvalTransform', 'TrainTransform',
           'VIEWS', 'available', 'build', 'check', 'eval_views', 'options', 'read_image', 'relative_names',
           'split_record', 'stratified_split', 'survey']


_ONE_CLASS = ("the data set has one class only, '{}', so that there is nothing to tell apart; is the folder that is "
              'named one too high or too low?')


def available():
    """Return the sorted names of the data sets, one for each file of ``datasets``."""
    return sorted(module.name for module in pkgutil.iter_modules(datasets.__path__))


def options(name):
    """Return the dataclass of the options that data set ``name`` takes.

    :raises ConfigError: with the nearest name if there is no such data set.
    """
    return _dataset(name).Options


def build(config):
    """Read the data set that ``config`` (a :class:`~gluon_fgvc.config.DataConfig`) names.

    Where the data set has no validation split and ``val_fraction`` is above 0, one is carved out of train,
    stratified, with ``val_seed``, and no unit of images torn apart; the test split is never touched. Of the training
    images that are then left, ``per_class`` of each class are kept.

    With ``folds``, all images are dealt into as many, and one of them is the test split. ``units`` names a list of
    images that belong together.

    :raises DataError: if files, labels or classes are not usable.
    """
    check(config)
    source = _dataset(config.name).read(config.options)
    _check_names(source.classes)
    if len(source.classes) == 1:
        raise DataError(_ONE_CLASS.format(source.classes[0]))
    for images in source.splits():
        _check_labels(images, source.classes)
    if config.units is not None:
        source = with_units(source, config.units)
    if config.folds:
        source = with_fold(source, config.folds, config.fold, config.val_seed)
    source = _note_torn_units(source)
    if source.val is None and config.val_fraction > 0:
        source = _carve_validation(source, config.val_fraction, config.val_seed)
    if config.per_class is not None:
        kept = stratified_subset(source.train.labels, config.per_class, config.val_seed)
        source = replace(source, train=source.train.subset(kept))
    counts = np.bincount(source.train.labels, minlength=len(source.classes))
    for name, count in zip(source.classes, counts):
        if count == 0:
            raise DataError(f"class '{name}' has no image in split 'train'; add some or remove the class")
    return source


def check(config):
    """Check what of ``config`` needs no images.

    :raises ConfigError: for a preparation of images that contradicts itself.
    """
    TrainTransform(config.train)
    EvalTransform(config.eval)


def survey(config):
    """Read the data set that ``config`` names past what is wrong with it, for the doctor.

    Nothing is carved: these are the splits of the data set itself. Data sets that can go on after a defect
    have a function ``survey(options, complain)``; of others the first defect is all that can be told.

    :returns: the :class:`Source`, None if it cannot be read, and a list of findings.
    """
    module, findings = _dataset(config.name), []
    try:
        source = module.survey(config.options, findings.append) if hasattr(module, 'survey') else \
            module.read(config.options)
        if config.units is not None:
            source = with_units(source, config.units)
        _check_names(source.classes)
        if len(source.classes) == 1:
            findings.append(Finding('one_class', _ONE_CLASS.format(source.classes[0]), classes=source.classes))
        for images in source.splits():
            _check_labels(images, source.classes)
    except DataError as error:
        return None, findings + [Finding('structure', str(error))]
    # A class may be empty in several splits.
    return source, list({(finding.kind, finding.files, finding.classes): finding for finding in findings}.values())


def _dataset(name):
    if name not in available():
        raise ConfigError(f"unknown data set '{name}'{did_you_mean(name, available())}")
    return importlib.import_module(f'{datasets.__name__}.{name}')


def _check_names(classes):
    """Refuse class names that nobody can tell apart: reports and predictions speak of classes by their names."""
    seen = {}
    for label, name in enumerate(classes):
        other = seen.setdefault(composed(name), label)
        if other != label:
            how = 'have one name' if classes[other] == name else 'look the same, in two Unicode normal forms'
            raise DataError(f'classes {other} and {label}, {ascii(classes[other])} and {ascii(name)}, {how}; give them '
                            'names of their own')


def _check_labels(images, classes):
    if not len(images):
        raise DataError(f"split '{images.name}' has no images")
    wrong = np.flatnonzero((images.labels < 0) | (images.labels >= len(classes)))
    if len(wrong):
        raise DataError(f"{images.paths[wrong[0]]}: label {images.labels[wrong[0]]} in split '{images.name}' is not in "
                        f'0..{len(classes) - 1}')


def _note_torn_units(source):
    """Say so where lists tear units apart: what is measured on them is memory, in part."""
    torn = torn_units(source)
    if not torn:
        return source
    unit, splits = torn[0]
    note = (f"{len(torn):,} unit{'s have' if len(torn) > 1 else ' has'} images in several splits, such as '{unit}' in "
            f"{' and '.join(splits)}: accuracy there is partly memory. `fgvc doctor data` lists them; data.folds deals "
            'units whole')
    return replace(source, notes=(*source.notes, note))


def _carve_validation(source, share, seed):
    train = source.train
    rest, taken = stratified_split(train.labels if train.strata is None else train.strata, share, seed, train.units)
    if not len(taken):
        raise ConfigError(f"data.val_fraction {share} takes no image out of the {len(train)} of split 'train'; "
                          'raise it, or set 0 to train without validation')
    return replace(source, train=train.subset(rest), val=train.subset(taken, 'val'))

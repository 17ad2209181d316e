"""Stanford Cars: photographs of 196 makes, models and years (Krause et al. 2013), 8,144 to train on, 8,041 to test.

The original host is gone; what is passed on comes in three layouts: ``devkit/`` with cars_test_annos_withlabels.mat
beside it or in it, and one older file cars_annos.mat over all images in ``car_ims/``. All are read, also where
a folder is wrapped once more in one of its name.
"""
import os
from dataclasses import dataclass

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives, matlab
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.errors import DataError

ARCHIVES = {  # MD5 sums as torchvision has them
    'cars_train.tgz': '065e5b463ae28d29e77c1b4b166cfe61', 'cars_test.tgz': '4ce7ebf6a94d07f1952d94dd34c4d501',
    'car_devkit.tgz': 'c3b158d763b6e2245038c8ad08e45376',
    'cars_test_annos_withlabels.mat': 'b0a2b23655a3edd16d84508592a98d10', 'car_ims.tgz': None, 'cars_annos.mat': None}
CLASSES, TRAIN, TEST = 196, 8144, 8041
SINGLE, LABELLED = 'cars_annos.mat', 'cars_test_annos_withlabels.mat'
CONTENT = f'{SINGLE}, or cars_train_annos.mat, {LABELLED} and cars_meta.mat'


@dataclass(frozen=True)
class Options:
    """Where the cars are, and how much of them is seen."""

    root: str = option('data/stanford_cars', f'folder with the images and {CONTENT}')
    crop: bool = option(False, "cut the images to the cars' bounding boxes, in all splits")
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source` of the official split, with bounding boxes.

    :raises DataError: if a file is missing or damaged, the annotations are malformed, or images are missing.
    """
    root = archives.opened(options.root)
    devkit = archives.find(root, SINGLE)
    if devkit is not None:
        names, train, test = _read_single(root, os.path.join(devkit, SINGLE))
    else:
        names, train, test = _read_devkit(root)
    if options.crop:
        train, test = Crops.of(train), Crops.of(test)
    annotations.check_counts(root, options.complete, classes=(len(names), CLASSES), training_images=(len(train), TRAIN),
                             test_images=(len(test), TEST))
    return Source(tuple(names), train, test)


def _read_single(root, path):
    structures, names = matlab.load(path, 'annotations', 'class_names')
    names = matlab.column(path, names, 'text')
    images = _image_set('all', root, path, structures, 'relative_im_path', '', len(names))
    is_test = np.array(matlab.field(path, structures, 'test', 'number')) != 0
    return names, images.subset(np.flatnonzero(~is_test), 'train'), images.subset(np.flatnonzero(is_test), 'test')


def _read_devkit(root):
    meta = _find(root, 'cars_meta.mat')
    names = matlab.column(meta, *matlab.load(meta, 'class_names'), 'text')
    sets = []
    for split, name in (('train', 'cars_train_annos.mat'), ('test', LABELLED)):
        path = _find(root, name)
        structures, = matlab.load(path, 'annotations')
        sets.append(_image_set(split, root, path, structures, 'fname', f'cars_{split}', len(names)))
    return names, *sets


def _find(root, name):
    for folder in ('', 'devkit'):
        base = archives.find(root, os.path.join(folder, name))
        if base is not None:
            return os.path.join(base, folder, name)
    if name == LABELLED and archives.find(root, os.path.join('devkit', 'cars_test_annos.mat')):
        raise DataError(f"'{root}' has cars_test_annos.mat, which lacks the classes of the test images; get {LABELLED}")
    raise DataError(f"'{root}' has no '{name}'; expected {CONTENT}")


def _image_set(split, root, path, structures, path_field, folder, num_classes):
    names = matlab.field(path, structures, path_field, 'text')
    places = [f"'{path}', annotation {i}" for i in range(1, len(names) + 1)]
    names = [annotations.inside(folder, name, place) for name, place in zip(names, places)]
    annotations.check_unique(names, places)
    base = archives.find(root, names[0])
    paths = [os.path.join(base or root, name) for name in names]
    annotations.check_files(paths)
    labels = annotations.class_indices(matlab.field(path, structures, 'class', 'number'), num_classes, places)
    # Corners are pixels counted from 1, both inside the box.
    x1, y1, x2, y2 = (np.array(matlab.field(path, structures, f'bbox_{edge}', 'number')) for edge in
                      ('x1', 'y1', 'x2', 'y2'))
    return ImageSet(split, paths, labels, boxes=np.stack([x1 - 1, y1 - 1, x2 - x1 + 1, y2 - y1 + 1], 1).astype(float))

"""Stanford Dogs: photographs of 120 breeds (Khosla et al. 2011, from ImageNet), 12,000 to train on, 8,580 to test."""
import os
from dataclasses import dataclass
from xml.etree import ElementTree

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives, matlab
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.errors import DataError

ARCHIVES = {'images.tar': None, 'lists.tar': None, 'annotation.tar': None}  # no sums are published
CLASSES, TRAIN, TEST = 120, 12000, 8580
MAX_XML = 2 ** 20


@dataclass(frozen=True)
class Options:
    """Where the dogs are, and how much of them is seen."""

    root: str = option('data/stanford_dogs', 'folder with Images and the lists, for crop with Annotation as well')
    crop: bool = option(False, 'cut the images to the bounding box of the largest dog, in all splits; reads 20,580 '
                               'annotation files at the start')
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source` of the official split.

    :raises DataError: if a list or annotation is missing or damaged, or images are missing.
    """
    root, sets, names = archives.opened(options.root), [], {}
    for split in ('train', 'test'):
        path = os.path.join(archives.base_of(root, f'{split}_list.mat', 'the contents of images.tar and lists.tar'),
                            f'{split}_list.mat')
        images, files = _image_set(split, root, path, names)
        sets.append(_cropped(images, root, files) if options.crop else images)
    if sorted(names) != list(range(len(names))):
        raise DataError(f"'{path}': its labels are not 1 to {len(names)}")
    annotations.check_counts(root, options.complete, classes=(len(names), CLASSES),
                             training_images=(len(sets[0]), TRAIN), test_images=(len(sets[1]), TEST))
    # Folders are named like n02085620-Chihuahua, after WordNet.
    return Source(tuple(annotations.readable(names[k].split('-', 1)[-1]) for k in range(len(names))), *sets)


def _image_set(split, root, path, names):
    """Return the images of a list, and their files in the folder Images; ``names`` collects label → folder."""
    files, labels = matlab.load(path, 'file_list', 'labels')
    files, labels = matlab.column(path, files, 'text'), matlab.column(path, labels, 'number')
    places = [f"'{path}', file {i}" for i in range(1, len(files) + 1)]
    if len(labels) != len(files):
        raise DataError(f"'{path}' has {len(files)} files and {len(labels)} labels")
    relative = [annotations.inside('Images', file, place) for file, place in zip(files, places)]
    annotations.check_unique(relative, places)
    base = archives.find(root, relative[0]) or root
    labels = annotations.class_indices(labels, CLASSES, places)
    for label, file, place in zip(labels, files, places):
        folder = os.path.dirname(file)
        if names.setdefault(int(label), folder) != folder:
            raise DataError(f"{place}: class {label + 1} is folder '{folder}' here, '{names[label]}' before")
    paths = [os.path.join(base, name) for name in relative]
    annotations.check_files(paths)
    return ImageSet(split, paths, labels), files


def _cropped(images, root, files):
    stems = [os.path.splitext(os.path.join('Annotation', file))[0] for file in files]
    base = archives.base_of(root, stems[0], 'the contents of annotation.tar, for data.crop')
    return Crops.of(images, np.array([_largest_box(os.path.join(base, name)) for name in stems]))


def _largest_box(path):
    """Return (x, y, width, height) of the largest object in an annotation of the VOC kind."""
    try:
        with open(path, 'rb') as stream:
            content = stream.read(MAX_XML)
        if b'<!' in content:  # entities can expand without limit, and annotations declare none
            raise ValueError('has declarations')
        corners = [[annotations.finite(box.findtext(name) or '') for name in ('xmin', 'ymin', 'xmax', 'ymax')]
                   for box in ElementTree.fromstring(content).iter('bndbox')]
        boxes = [(left, top, right - left, bottom - top) for left, top, right, bottom in corners]
        return max(boxes, key=lambda box: box[2] * box[3])
    except OSError as error:
        raise DataError(f"cannot read annotation '{path}': {error.strerror}") from None
    except (ElementTree.ParseError, ValueError) as error:
        raise DataError(f"'{path}' is not an annotation with a bounding box: {error}") from None

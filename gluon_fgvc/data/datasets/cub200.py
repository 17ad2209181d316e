"""CUB-200-2011: photographs of 200 species of birds (Wah et al., Caltech 2011), 5,994 to train on, 5,794 to test."""
from dataclasses import dataclass

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import annotations, archives
from gluon_fgvc.data.readers import Crops
from gluon_fgvc.errors import DataError

ARCHIVES = {'CUB_200_2011.tgz': '97eceeb196236b17998738112f37df78'}  # MD5, data.caltech.edu/records/65de6-vp158
CLASSES, TRAIN, TEST = 200, 5994, 5794


@dataclass(frozen=True)
class Options:
    """Where the birds are, and how much of them is seen."""

    root: str = option('data/CUB_200_2011', 'CUB_200_2011.tgz, or a folder with what was in it')
    crop: bool = option(False, "cut the images to the birds' bounding boxes, in all splits")
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source` of the official split, with bounding boxes.

    :raises DataError: if a table is missing or malformed, ids do not fit, or images are missing.
    """
    root = archives.base_of(archives.opened(options.root), 'images.txt', 'the contents of CUB_200_2011.tgz')
    whole, finite = annotations.whole, annotations.finite

    def table(file, **columns):
        path = f'{root}/{file}'
        rows = annotations.keyed(annotations.read_table(path, id=whole, **columns))
        if file not in ('images.txt', 'classes.txt') and rows.keys() != images.keys():
            odd = min(rows.keys() ^ images.keys())
            raise DataError(f"'{path}' and images.txt do not have the same ids; only in one of them: {odd}")
        return rows

    images, names = table('images.txt', path=str), table('classes.txt', name=str)
    if sorted(names) != list(range(1, len(names) + 1)):
        raise DataError(f"'{root}/classes.txt': its ids are not 1 to {len(names)}")
    labels, is_train = table('image_class_labels.txt', label=whole), table('train_test_split.txt', train=whole)
    boxes = table('bounding_boxes.txt', x=finite, y=finite, width=finite, height=finite)

    ids = sorted(images)
    places = [f'{root}/images.txt, id {i}' for i in ids]
    paths = [annotations.inside(f'{root}/images', images[i], place) for i, place in zip(ids, places)]
    annotations.check_files(paths)
    whole_set = ImageSet('all', paths, annotations.class_indices([labels[i] for i in ids], len(names), places),
                         boxes=np.array([boxes[i] for i in ids]).reshape(-1, 4))
    if options.crop:
        whole_set = Crops.of(whole_set)
    in_train = np.array([is_train[i] for i in ids]) == 1
    train, test = (whole_set.subset(np.flatnonzero(mask), name)
                   for mask, name in ((in_train, 'train'), (~in_train, 'test')))
    annotations.check_counts(root, options.complete, classes=(len(names), CLASSES), training_images=(len(train), TRAIN),
                             test_images=(len(test), TEST))
    return Source(tuple(annotations.readable(names[i]) for i in sorted(names)), train, test)

"""RecordIO files of images, made by ``im2rec`` or ``fgvc prepare-data --record``."""
import os
from dataclasses import dataclass
from typing import Optional

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.formats import recordio
from gluon_fgvc.data.formats.annotations import read_names
from gluon_fgvc.data.readers import numbered
from gluon_fgvc.errors import DataError


@dataclass(frozen=True)
class Options:
    """The record files."""

    train_record: str = option(doc='records of the training images')
    test_record: str = option(doc='records of the test images')
    val_record: Optional[str] = option(None, 'records of the validation images; null carves them out of train')
    class_list: Optional[str] = option(None, 'file with one class name a line, in the order of the labels; null takes '
                                             'the numbers')


def read(options):
    """Return the :class:`Source` of the records; an index file is not needed.

    :raises DataError: if a file is missing, damaged or has labels that are not class indices.
    """
    files = {'train': options.train_record, 'val': options.val_record, 'test': options.test_record}
    sets = {split: _image_set(split, os.path.expanduser(path)) for split, path in files.items() if path}
    last = int(sets['train'].labels.max())
    if not options.class_list and last >= len(sets['train']):
        raise DataError(f"'{options.train_record}': label {last} as an index would make {last + 1:,} classes of "
                        f"{len(sets['train']):,} records; name the classes in data.class_list")
    classes = read_names(options.class_list) if options.class_list else tuple(
        str(label) for label in range(1 + last))
    return Source(classes, sets['train'], sets['test'], sets.get('val'))


def _image_set(split, path):
    offsets, labels, end = recordio.scan(path)
    size = os.path.getsize(path)
    if not len(offsets) or end != size:
        raise DataError(f"'{path}' is not a file of image records, or damaged: {len(offsets):,} records are whole, "
                        f'{size - end:,} of its {size:,} bytes are none')
    wrong = np.flatnonzero(~(labels >= 0) | (labels != np.floor(labels)) | (labels > 10 ** 6))
    if len(wrong):
        raise DataError(f"'{path}', record {wrong[0]}: its label {labels[wrong[0]]:g} is not a class index; records "
                        'with one label each are read')
    return ImageSet(split, numbered(path, len(offsets)), labels.astype(np.int64),
                    reader=recordio.Records(path, offsets))

"""What can be wrong with a data set, in words."""
from dataclasses import dataclass
from typing import Tuple

from gluon_fgvc.errors import DataError

# Kind → what is wrong, and what to do. The order is that of the report: the worst first.
KINDS = {
    'structure': ('the data set cannot be read', 'mend it; nothing else was checked'),
    'unreadable': ('cannot be read', 'fetch them again, or remove them'),
    'truncated': ('end too early', 'fetch them again, or remove them'),
    'damaged': ('read, though the decoder complains', 'look at them, and fetch them again if they show damage'),
    'label_conflict': ('look like one photograph, under several classes', 'find out which label is right'),
    'left_out': ('files that are no part of the data set', 'move or rename them, if they should be'),
    'one_class': ('one class only', 'look whether the folder is one too high or too low'),
    'duplicate_across': ('the same file in several splits', 'remove them from all splits but one'),
    'near_duplicate_across': ('look like one photograph, in several splits', 'remove them from all splits but one'),
    'torn_unit': ('units with images in several splits', 'keep the images of a unit in one split, or deal folds'),
    'empty_class': ('classes without images', 'add images, or remove the class'),
    'class_mismatch': ('classes that a split lacks', 'add images, or remove the class everywhere'),
    'one_image_class': ('classes with one training image', 'add images: none can be held out for validation'),
    'duplicate_inside': ('the same file several times', 'keep one; validation images may be carved from them'),
    'near_duplicate_inside': ('look like one photograph', 'keep one; validation images may be carved from them'),
    'wrong_extension': ('named after another format', 'rename them; other programs may refuse them'),
    'cmyk': ('stored in CMYK', 'convert them to RGB; programs differ in how they do it'),
    'alpha': ('with transparency', 'put them on a background: the colours beneath it show'),
    '16-bit': ('with 16 bits a channel', 'convert them to 8 bits'),
    'gray': ('gray among colour images', 'leave them out, or check that the network must know gray images'),
    'colour': ('colour among gray images', 'convert them to gray, or leave them out'),
}


@dataclass(frozen=True)
class Finding:
    """One problem: of a file, of a group of files that are one photograph, or of a class."""

    kind: str
    detail: str
    files: Tuple[str, ...] = ()
    classes: Tuple[str, ...] = ()


def refuse(finding):
    """Raise the :class:`DataError` that ``finding`` means to those who train: the way of ``read(options)``."""
    raise DataError(finding.detail)

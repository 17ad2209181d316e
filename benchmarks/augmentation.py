"""What each augmentation costs an image on one thread, beside a random crop; and what albumentations asks for.

Albumentations (1.3, where it is installed) is told the operations of its own that come nearest to RandAugment's, two of
which it draws for an image. It draws them from Python's global generator, which is seeded for each image here, as an
address (seed, epoch, index) would need; what an image becomes then depends on its version.
"""
import random
import time

import cv2
import numpy as np

from benchmarks.comparison import Comparison
from benchmarks.loading import SIDE
from gluon_fgvc import data
from gluon_fgvc.commands import cli
from gluon_fgvc.config import TrainView
from gluon_fgvc.config.schema import RandAugment, TrivialAugment
from gluon_fgvc.data.samplers import AUGMENT, generator

CROP = {'random_resized_crop': SIDE, 'flip': True}
VIEWS = {'crop and flip': {}, 'colour jitter': {'color_jitter': 0.2}, 'PCA noise': {'pca_noise': 0.1},
         'erasing': {'erasing': 1.0}, 'TrivialAugment': {'policy': TrivialAugment()},
         'RandAugment': {'policy': RandAugment()},
         'all of the recipe': {'color_jitter': 0.2, 'policy': TrivialAugment(), 'erasing': 0.25}}


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--images', type=cli.positive, default=200, metavar='N', help='a round; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=7, metavar='N', help='default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of the views; ``options`` are those of :func:`add_options`."""
    cv2.setNumThreads(1)
    photograph = cv2.resize(np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8), (500, 375))
    turns = {name: data.TrainTransform(TrainView(**CROP, **more)) for name, more in VIEWS.items()}
    peer = _albumentations()
    if peer:
        turns['albumentations, two of thirteen'] = peer
    seconds = {name: [] for name in turns}
    for number in range(options.rounds):
        for name, turn in turns.items():
            started = time.perf_counter()
            for index in range(options.images):
                turn(photograph, generator(AUGMENT, 0, number, index))
            seconds[name].append((time.perf_counter() - started) / options.images)
    return Comparison(settings={'size': SIDE, 'images': options.images, 'rounds': options.rounds}, unit='image',
                      seconds=seconds)


def _albumentations():
    """Return image, generator → image of albumentations, or None where it is not installed."""
    try:
        import albumentations as peer
    except ImportError:
        return None
    operations = [peer.NoOp(p=1), peer.Affine(shear={'x': (-17, 17)}, p=1), peer.Affine(shear={'y': (-17, 17)}, p=1),
                  peer.Affine(translate_percent={'x': (-0.13, 0.13)}, p=1),
                  peer.Affine(translate_percent={'y': (-0.13, 0.13)}, p=1), peer.Rotate(9, p=1),
                  peer.ColorJitter(0.27, 0, 0, 0, p=1), peer.ColorJitter(0, 0.27, 0, 0, p=1),
                  peer.ColorJitter(0, 0, 0.27, 0, p=1), peer.Sharpen(p=1), peer.Posterize(7, p=1),
                  peer.Solarize(180, p=1), peer.Equalize(p=1)]
    apply = peer.Compose([peer.RandomResizedCrop(SIDE, SIDE), peer.HorizontalFlip(),
                          peer.SomeOf(operations, 2, replace=True, p=1)])

    def turn(image, rng):
        random.seed(int(rng.integers(1 << 31)))
        return apply(image=image)['image']
    return turn

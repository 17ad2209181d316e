"""Batches ready for the network: our loader against Gluon's ImageFolderDataset with its transforms.

Both decode JPEG photographs, cut out a part of random area and aspect, resize it to 224 x 224, mirror it
with probability 1/2 and normalise, on the same number of workers. The photographs are cuts, mirrored at the
borders, of the one that matplotlib brings. ``--long-side 1600`` shows what decoding at reduced size saves.
"""
import os
import tempfile
import time

import cv2
import matplotlib
import numpy as np
from mxnet.gluon.data import DataLoader
from mxnet.gluon.data.vision import ImageFolderDataset, transforms

from benchmarks.comparison import Comparison
from gluon_fgvc import data
from gluon_fgvc.backbones.base import IMAGENET_MEAN, IMAGENET_STD
from gluon_fgvc.commands import cli
from gluon_fgvc.config import TrainView
from gluon_fgvc.nn import Normalize

GLUON, OURS = 'Gluon', 'gluon_fgvc'
SIDE = 224
QUALITY = 92


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--long-side', type=cli.positive, default=500, metavar='PX',
                        help='of the photographs, in proportion 4 : 3; default: %(default)s')
    parser.add_argument('--images', type=cli.positive, default=512, metavar='N', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=32, metavar='N', help='default: %(default)s')
    parser.add_argument('--workers', type=cli.positive, default=2, metavar='N', help='default: %(default)s')
    parser.add_argument('--worker-type', choices=('process', 'thread'), default='process', help='of ours')
    parser.add_argument('--rounds', type=cli.positive, default=7, metavar='N',
                        help='turns of each, after one to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of both pipelines; ``options`` are those of :func:`add_options`."""
    height, width = options.long_side * 3 // 4, options.long_side
    with tempfile.TemporaryDirectory() as folder:
        paths = write_photographs(os.path.join(folder, 'class'), options.images, height, width)
        view = TrainView(random_resized_crop=SIDE, flip=True)
        # Workers fork before MXNet starts threads of its own.
        loader = data.Loader(data.ImageSet('train', paths, np.zeros(len(paths), 'int64')), data.TrainTransform(view),
                             options.batch, train=True, workers=options.workers,
                             threads=options.worker_type == 'thread', last='discard')
        turns = {GLUON: _gluon(folder, options), OURS: _ours(loader)}
        seconds = {name: [] for name in turns}
        try:
            for _ in range(options.rounds + 1):
                for name, turn in turns.items():
                    started = time.perf_counter()
                    images = turn()
                    seconds[name].append((time.perf_counter() - started) / images)
        finally:
            loader.close()
    return Comparison(settings={'photographs': f'{width} x {height}', 'images': options.images,
                                'batch': options.batch, 'workers': options.workers,
                                'worker_type': options.worker_type, 'rounds': options.rounds},
                      unit='image', seconds={name: samples[1:] for name, samples in seconds.items()},
                      target=1 / (2 if width >= 1000 else 1.4))


def write_photographs(folder, count, height, width):
    """Write ``count`` JPEG files of ``height`` x ``width`` to ``folder``, which is made, and return their paths."""
    photograph = cv2.imread(os.path.join(matplotlib.get_data_path(), 'sample_data', 'grace_hopper.jpg'))
    random, paths = np.random.RandomState(0), []
    os.makedirs(folder)
    for index in range(count):
        top, left = (random.randint(side) for side in photograph.shape[:2])
        wide = np.pad(photograph, ((0, top + height), (0, left + width), (0, 0)), mode='symmetric')
        paths.append(os.path.join(folder, f'{index:05d}.jpg'))
        cv2.imwrite(paths[-1], wide[top:top + height, left:left + width], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    return paths


def _gluon(folder, options):
    transform = transforms.Compose([transforms.RandomResizedCrop(SIDE), transforms.RandomFlipLeftRight(),
                                    transforms.ToTensor(), transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    loader = DataLoader(ImageFolderDataset(folder).transform_first(transform), options.batch, shuffle=True,
                        last_batch='discard', num_workers=options.workers)

    def turn():
        images = 0
        for batch, _ in loader:
            batch.wait_to_read()
            images += len(batch)
        return images
    return turn


def _ours(loader):
    normalize = Normalize(IMAGENET_MEAN, IMAGENET_STD)
    normalize.hybridize(static_alloc=True, static_shape=True)
    epochs = iter(range(1 << 30))

    def turn():
        images = 0
        for batch in loader.epoch(next(epochs)):
            normalize(batch.images).wait_to_read()
            images += len(batch.indices)
        return images
    return turn

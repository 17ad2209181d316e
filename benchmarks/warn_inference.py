"""Inference of exported WARN against its base, each a WRN-28-10 for CIFAR-10: what attention costs (Table 2).

Both networks are exported, read back and run on the same random images in turn. The base has no BN-ReLU behind its
first convolution, as in the released code; WARN has three modules of four heads.
"""
import tempfile

import mxnet as mx

from benchmarks import inference
from benchmarks.comparison import Comparison
from gluon_fgvc.commands import cli

TARGET = 1.05
BASE, WARN = 'WRN', 'WARN'


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='warn_wideresnet28_10', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--base', default='warn_wideresnet28_10_base', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--classes', type=cli.positive, default=10, metavar='K', help='default: %(default)s')
    parser.add_argument('--depth', type=cli.positive, default=3, metavar='AD', help='default: %(default)s')
    parser.add_argument('--width', type=cli.positive, default=4, metavar='AW', help='default: %(default)s')
    inference.add_options(parser, size=32, batch=32)


def measure(options):
    """Return the :class:`Comparison` of both networks; ``options`` are those of :func:`add_options`."""
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    common = {'classes': options.classes, 'size': options.size}
    with tempfile.TemporaryDirectory() as folder:
        graphs = {BASE: inference.exported(folder, BASE, ctx, options.base, **common),
                  WARN: inference.exported(folder, WARN, ctx, options.backbone, 'warn', depth=options.depth,
                                           width=options.width, **common)}
    images = inference.random_images(options.batch, options.size, ctx)
    return Comparison(settings={**{key: getattr(options, key) for key in (
        'backbone', 'base', 'classes', 'depth', 'width', 'size', 'batch', 'rounds')}, 'device': str(ctx)},
        unit='image', seconds=inference.seconds_in_turn(graphs, images, options.rounds), target=TARGET)

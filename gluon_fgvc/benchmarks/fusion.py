"""Prediction by an exported network against the same graph with operators fused by oneDNN, on the CPU."""
import tempfile

import mxnet as mx

from gluon_fgvc import cli
from gluon_fgvc.benchmarks.comparison import Comparison
from gluon_fgvc.benchmarks.inference import exported, random_images, seconds_in_turn
from gluon_fgvc.deploy import fusion
from gluon_fgvc.errors import ConfigError


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='efficientnet_lite0', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--size', type=cli.positive, default=224, metavar='PX', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=16, metavar='N',
                        help='images at once; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=15, metavar='N',
                        help='turns of each, after two to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of both graphs; ``options`` are those of :func:`add_options`.

    :raises ConfigError: where there is nothing to fuse with, or the network cannot be fused.
    """
    ctx = mx.cpu()
    if not fusion.is_available(ctx):
        raise ConfigError('this MXNet was built without oneDNN')
    with tempfile.TemporaryDirectory() as folder:
        graph = exported(folder, 'exported', ctx, options.backbone, size=options.size)
    images = random_images(options.batch, options.size, ctx)
    try:
        fused = fusion.fuse(graph, 'data', images)
    except fusion.NotFused as reason:
        raise ConfigError(f"--backbone '{options.backbone}': {reason}") from None
    return Comparison(settings={key: getattr(options, key) for key in ('backbone', 'size', 'batch', 'rounds')},
                      unit='image', seconds=seconds_in_turn({'exported': graph, 'fused': fused}, images,
                                                            options.rounds))

"""Prediction by an exported network against the same graph with operators fused by oneDNN, on the CPU."""
import tempfile

import mxnet as mx

from benchmarks import inference
from benchmarks.comparison import Comparison
from gluon_fgvc.deploy import fusion
from gluon_fgvc.errors import ConfigError


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='efficientnet_lite0', metavar='NAME', help='default: %(default)s')
    inference.add_options(parser, size=224, batch=16)


def measure(options):
    """Return the :class:`Comparison` of both graphs; ``options`` are those of :func:`add_options`.

    :raises ConfigError: where there is nothing to fuse with, or the network cannot be fused.
    """
    ctx = mx.cpu()
    if not fusion.is_available(ctx):
        raise ConfigError('this MXNet was built without oneDNN')
    with tempfile.TemporaryDirectory() as folder:
        graph = inference.exported(folder, 'exported', ctx, options.backbone, size=options.size)
    images = inference.random_images(options.batch, options.size, ctx)
    try:
        fused = fusion.fuse(graph, 'data', images)
    except fusion.NotFused as reason:
        raise ConfigError(f"--backbone '{options.backbone}': {reason}") from None
    seconds = inference.seconds_in_turn({'exported': graph, 'fused': fused}, images, options.rounds)
    return Comparison(settings={key: getattr(options, key) for key in ('backbone', 'size', 'batch', 'rounds')},
                      unit='image', seconds=seconds)

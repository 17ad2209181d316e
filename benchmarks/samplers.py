"""Forward passes of the samplers, maps given, beside one of a network on images of the sampled size.

The network is the baseline; the attention sampler's modes have targets. Everything is compiled.
"""
import time

import mxnet as mx

from benchmarks.comparison import Comparison
from gluon_fgvc import backbones
from gluon_fgvc.commands import cli
from gluon_fgvc.nn import AttentionSampler, SaliencySampler, UniformSampler

TARGET = {'fast': 0.10, 'exact': 0.25}
CONTENDERS = {'fast': lambda out: AttentionSampler(out, mode='fast'),
              'exact': lambda out: AttentionSampler(out, mode='exact'), 'uniform': UniformSampler,
              'ssn': SaliencySampler}


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='resnet50_v1b', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=16, metavar='N', help='images; default: %(default)s')
    parser.add_argument('--size', type=cli.positive, default=448, metavar='PX',
                        help='side of the images that are sampled; default: %(default)s')
    parser.add_argument('--sampled', type=cli.positive, default=224, metavar='PX',
                        help='side of the sampled images; default: %(default)s')
    parser.add_argument('--map', type=cli.positive, default=28, metavar='N',
                        help='side of the attention maps in cells; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=15, metavar='N',
                        help='turns of each, after two to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison`; ``options`` are those of :func:`add_options`."""
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    mx.random.seed(0)
    images, sampled = (mx.nd.random.normal(shape=(options.batch, 3, side, side), ctx=ctx)
                       for side in (options.size, options.sampled))
    attention = mx.nd.random.uniform(shape=(options.batch, 1, options.map, options.map), ctx=ctx)
    network = backbones.get(options.backbone, ctx=ctx)
    network.hybridize(static_alloc=True, static_shape=True)
    turns = {f'{options.backbone} at {options.sampled}': lambda: network(sampled)}
    for name, make in CONTENDERS.items():
        sampler = make(options.sampled)
        sampler.collect_params().reset_ctx(ctx)
        sampler.hybridize(static_alloc=True, static_shape=True)
        turns[name] = lambda sampler=sampler: sampler(images, attention)
    seconds = {name: [] for name in turns}
    for turn in range(options.rounds + 2):
        for name, forward in turns.items():
            mx.nd.waitall()
            started = time.perf_counter()
            forward().wait_to_read()
            if turn >= 2:
                seconds[name].append(time.perf_counter() - started)
    return Comparison(settings={'backbone': options.backbone, 'batch': options.batch, 'size': options.size,
                                'sampled': options.sampled, 'map': options.map, 'rounds': options.rounds,
                                'device': str(ctx)}, unit='batch', seconds=seconds, target=TARGET)

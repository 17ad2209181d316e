"""Inference of exported WARN against its base, each a WRN-28-10 for CIFAR-10: what attention costs (Table 2).

Both networks are exported, read back and run on the same random images in turn. The base has no BN-ReLU behind its
first convolution, as in the released code; WARN has three modules of four heads.
"""
import tempfile
import time
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc import backbones, cli, config, deploy, methods
from gluon_fgvc.benchmarks.comparison import Comparison
from gluon_fgvc.deploy.predictor import load_exported

TARGET = 1.05
BASE, WARN = 'WRN', 'WARN'


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='warn_wideresnet28_10', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--base', default='warn_wideresnet28_10_base', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--classes', type=cli.positive, default=10, metavar='K', help='default: %(default)s')
    parser.add_argument('--depth', type=cli.positive, default=3, metavar='AD', help='default: %(default)s')
    parser.add_argument('--width', type=cli.positive, default=4, metavar='AW', help='default: %(default)s')
    parser.add_argument('--size', type=cli.positive, default=32, metavar='PX', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=32, metavar='N',
                        help='images at once; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=15, metavar='N',
                        help='turns of each, after two to warm up; default: %(default)s')


def measure(options):
    """Return the :class:`Comparison` of both networks; ``options`` are those of :func:`add_options`."""
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    with tempfile.TemporaryDirectory() as folder:
        graphs = {
            BASE: _exported(folder, BASE, options, ctx, 'finetune', options.base),
            WARN: _exported(folder, WARN, options, ctx, 'warn', options.backbone, depth=options.depth,
                            width=options.width)}
        shape = options.batch, 3, options.size, options.size
        images = mx.nd.array(np.random.RandomState(0).normal(size=shape), ctx=ctx)
        seconds = {name: [] for name in graphs}
        for _ in range(options.rounds + 2):
            for name, graph in graphs.items():
                mx.nd.waitall()
                start = time.perf_counter()
                graph(images).wait_to_read()
                seconds[name].append((time.perf_counter() - start) / options.batch)
    return Comparison(settings={**{key: getattr(options, key) for key in (
        'backbone', 'base', 'classes', 'depth', 'width', 'size', 'batch', 'rounds')}, 'device': str(ctx)},
        unit='image', seconds={name: samples[2:] for name, samples in seconds.items()}, target=TARGET)


def _exported(folder, name, options, ctx, method, backbone, **values):
    backbone = backbones.get(backbone, ctx=ctx)
    net = methods.create(method, backbone, options.classes, **values).net
    size = options.size, options.size
    deploy.export(net, Path(folder) / name, classes=[str(k) for k in range(options.classes)],
                  test_view=config.TestView(resize=size), input_size=size, mean=backbone.mean, std=backbone.std,
                  method=method)
    graph = load_exported(Path(folder) / name, ctx)[1]
    graph.hybridize(static_alloc=True, static_shape=True)
    return graph

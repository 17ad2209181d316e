"""Exported networks that predict the same images in turn."""
import time
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc import backbones, config, deploy, methods
from gluon_fgvc.commands import cli
from gluon_fgvc.deploy.symbol import load_exported

WARM_UP = 2   # rounds that are not counted
PAUSE = 0.05  # seconds between two libraries: threads of the one before wait for more work and take the processors


def add_options(parser, size, batch):
    """Add the options that such measurements share; ``size`` and ``batch`` are defaults."""
    parser.add_argument('--size', type=cli.positive, default=size, metavar='PX', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=batch, metavar='N',
                        help='images at once; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=15, metavar='N',
                        help='turns of each, after two to warm up; default: %(default)s')


def exported(folder, name, ctx, backbone, method='finetune', classes=10, size=224, **values):
    """Return a network, initialised at random, as a compiled graph read back from ``folder / name``.

    :param values: options of the method.
    """
    backbone = backbones.get(backbone, ctx=ctx)
    net = methods.create(method, backbone, classes, **values).net
    deploy.export(net, Path(folder) / name, classes=[str(k) for k in range(classes)],
                  eval_view=config.EvalView(resize=(size, size)), input_size=(size, size), mean=backbone.mean,
                  std=backbone.std, method=method)
    graph = load_exported(Path(folder) / name, ctx)[1]
    graph.hybridize(static_alloc=True, static_shape=True)
    return graph


def random_images(count, size, ctx):
    return mx.nd.array(np.random.RandomState(0).normal(size=(count, 3, size, size)), ctx=ctx)


def random_pixels(count, size):
    return np.random.RandomState(0).randint(0, 256, (count, size, size, 3)).astype('uint8')


def seconds_in_turn(graphs, images, rounds):
    """Return dict of name → seconds an image, one sample a round; ``graphs`` is a dict of name → graph."""
    seconds = {name: [] for name in graphs}
    for _ in range(WARM_UP + rounds):
        for name, graph in graphs.items():
            mx.nd.waitall()
            start = time.perf_counter()
            graph(images).wait_to_read()
            seconds[name].append((time.perf_counter() - start) / len(images))
    return {name: samples[WARM_UP:] for name, samples in seconds.items()}


class Asked:
    """A callable of pixels, asked for the seconds that it takes for so many images of ``size`` × ``size``."""

    def __init__(self, engine, size):
        self._engine, self._size = engine, size

    def __call__(self, count):
        pixels = random_pixels(count, self._size)
        start = time.perf_counter()
        self._engine(pixels)
        return time.perf_counter() - start


def asked_in_turn(asked, count, rounds):
    """Return dict of name → seconds an image, one sample a round; ``asked`` is a dict of name → seconds of a count."""
    seconds = {name: [] for name in asked}
    for _ in range(WARM_UP + rounds):
        for name, ask in asked.items():
            time.sleep(PAUSE)
            seconds[name].append(ask(count) / count)
    return {name: samples[WARM_UP:] for name, samples in seconds.items()}

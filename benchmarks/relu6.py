"""A training step of MobileNetV2 with ReLU6 as MXNet's clip alone, and with a ReLU before it (gluon_fgvc/nn/relu6.py).

Both networks have the same parameters and images, and take forward and backward pass in turn.
"""
import time

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock

from benchmarks import inference
from benchmarks.comparison import Comparison
from gluon_fgvc import backbones
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.parameters import compile_net, walk
from gluon_fgvc.nn.relu6 import ReLU6

TARGET = 0.75


class ClipAlone(HybridBlock):
    """What MXNet's and GluonCV's own ReLU6 compute."""

    def hybrid_forward(self, F, x):
        return F.clip(x, 0, 6)


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='mobilenetv2_1.0', metavar='NAME', help='default: %(default)s')
    inference.add_options(parser, size=224, batch=16)


def measure(options):
    """Return the :class:`Comparison` of both forms; ``options`` are those of :func:`add_options`.

    :raises ConfigError: if the backbone has no ReLU6.
    """
    ctx = mx.gpu() if mx.context.num_gpus() else mx.cpu()
    nets = {name: backbones.get(options.backbone, ctx=ctx) for name in ('clip alone', 'after a ReLU')}
    layers = [block for _, block in walk(nets['clip alone']) if isinstance(block, ReLU6)]
    if not layers:
        raise ConfigError(f"--backbone: '{options.backbone}' has no ReLU6 of the zoos")
    for layer in layers:
        layer.__class__ = ClipAlone
    images = inference.random_images(options.batch, options.size, ctx)
    seconds = {name: [] for name in nets}
    for net in nets.values():
        compile_net(net)
        _step(net, images)
    for _ in range(options.rounds):
        for name, net in nets.items():
            start = time.perf_counter()
            _step(net, images)
            seconds[name].append(time.perf_counter() - start)
    settings = {key: getattr(options, key) for key in ('backbone', 'size', 'batch', 'rounds')}
    return Comparison({**settings, 'device': str(ctx)}, 'step', seconds, TARGET)


def _step(net, images):
    with autograd.record():
        loss = net(images).square().mean()
    loss.backward()
    mx.nd.waitall()

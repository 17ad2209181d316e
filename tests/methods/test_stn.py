"""STN: it starts as the plain network, its window moves, and only what should learns slowly does."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import backbones, methods
from gluon_fgvc.engine import phases
from gluon_fgvc.methods.stn import COMMON
from gluon_fgvc.nn.parameters import structural


def create(**options):
    mx.random.seed(0)
    return methods.create('stn', backbones.get('mobilenetv2_0.25'), 4, **options)


def images(side=64, count=3):
    return nd.array(np.random.RandomState(0).normal(size=(count, 3, side, side)))


def test_it_starts_as_the_plain_network():
    method = create()
    net = method.train_net
    with autograd.predict_mode():
        plain = net.classifier(net.body.pool(net.body(images())))
        np.testing.assert_allclose(method.net(images()).asnumpy(), plain.asnumpy(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('mode, size, seen', [('affine', None, (0, 63)), ('location', 32, (15, 48))])
def test_what_the_window_shows(mode, size, seen):
    method = create(mode=mode, size=size)
    density = method.explain(images()).maps['window'].asnumpy()
    assert density.shape == (3, 64, 64)
    rows, columns = np.nonzero(density[0] > 1e-3)
    assert (rows.min(), rows.max()) == (columns.min(), columns.max()) == seen
    grid = method.explain(images()).grids['window'].asnumpy()
    side = size or 64
    assert grid.shape == (3, 2, side, side)
    reach = 1 if mode == 'affine' else 0.5
    np.testing.assert_allclose(grid[0, 0, 0, [0, -1]], [-reach, reach], atol=1e-6)  # x along a row
    np.testing.assert_allclose(grid[0, 1, [0, -1], 0], [-reach, reach], atol=1e-6)  # y down a column
    np.testing.assert_allclose(density.sum((1, 2)), side * side, rtol=1e-3)


def test_rates():
    method = create(lr_mult=5, transformer_lr_mult=0.25)
    phase, = method.phases(2)
    phases.enter(phase, method.train_net, False)
    wanted = {'transformer': 0.25, 'body': 1, 'classifier': 5}
    for name, parameter in structural(method.train_net).items():
        assert parameter.lr_mult == (COMMON * 0.25 if name == 'transformer.window.bias' else
                                     wanted[name.split('.')[0]]), name

"""SSN: it starts from an even grid, and saliency learns from the classifier's loss alone."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import backbones, methods
from gluon_fgvc.engine import phases
from gluon_fgvc.nn.parameters import structural
from gluon_fgvc.runs.build import load_config

ROOT = Path(__file__).parents[2]
SMALL = {'saliency_backbone': 'mobilenetv2_0.25', 'saliency_size': 64, 'saliency_stages': 2, 'sampled_size': 32}


def create(**options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create('ssn', backbones.get('mobilenetv2_0.25'), 3, **{**SMALL, **options})


def images():
    coarse = nd.array(np.random.RandomState(0).normal(size=(4, 3, 8, 8)))
    return nd.contrib.BilinearResize2D(coarse, height=64, width=64)


def test_it_starts_from_an_even_grid():
    grid = create().explain(images()).grids['sampled'].asnumpy()
    # 31 points from -1 to 1; pixel i of 32 lies at (i + 1/2) · 31/32 - 1/2 of them, and not beyond the outermost.
    line = np.interp((np.arange(32) + 0.5) * 31 / 32 - 0.5, np.arange(31), np.linspace(-1, 1, 31))
    np.testing.assert_allclose(grid, np.broadcast_to([np.tile(line, (32, 1)), np.tile(line[:, None], 32)], grid.shape),
                               atol=1e-4)


def test_the_saliency_network_learns_through_the_sampler():
    method = create()
    parameters = structural(method.train_net)
    parameters['saliency.last.weight'].set_data(nd.random.normal(0, 0.1, parameters['saliency.last.weight'].shape))
    phases.enter(method.phases(1)[0], method.train_net, True)
    with autograd.record():
        outputs = dict(zip(method.outputs, method.train_net(images())))
        loss = method.losses(outputs, nd.array([0, 1, 2, 0]), method.phases(1)[0])['cross_entropy']
    loss.backward()
    for name in ('saliency.last.weight', 'saliency.body.stem.0.weight', 'body.stem.0.weight'):
        assert parameters[name].grad().asnumpy().any(), name


def test_points_are_drawn_to_what_is_salient():
    method = create(cells=9, fwhm=3.0)
    net, saliency = method.train_net, np.zeros((1, 1, 9, 9))
    saliency[0, 0, 6, 2] = 8
    even, drawn = (net.sampler.grid(images()[:1], nd.array(s)).asnumpy() for s in (0 * saliency, saliency))
    peak = np.array([2 / 8, 6 / 8]).reshape((1, 2, 1, 1)) * 2 - 1
    assert np.abs(drawn - peak).mean() < 0.8 * np.abs(even - peak).mean()


def test_rates_and_maps():
    method = create(lr_mult=5, saliency_lr_mult=0.25)
    phases.enter(method.phases(1)[0], method.train_net, False)
    wanted = {'saliency': 0.25, 'sampler': 1, 'body': 1, 'classifier': 5}
    for name, parameter in structural(method.train_net).items():
        assert parameter.lr_mult == wanted[name.split('.')[0]], name
    saliency = method.explain(images()).maps['saliency'].asnumpy()
    np.testing.assert_allclose(saliency.sum((1, 2)), 1, rtol=1e-5)


@pytest.mark.parametrize('name', ['cub200_resnet50', 'inaturalist2017_resnet101', 'elpv_efficientnet_lite0'])
def test_configurations(name):
    cfg = load_config(ROOT / 'configs' / 'ssn' / f'{name}.yaml')
    assert cfg.method.name == 'ssn' and cfg.method.options.cells == 31 and cfg.method.options.fwhm == 13

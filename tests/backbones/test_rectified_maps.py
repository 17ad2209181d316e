"""What attention modules see of pre-activation nets, and that looking does not move BatchNorm's statistics."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import HybridBlock

from gluon_fgvc import backbones


class Both(HybridBlock):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def hybrid_forward(self, F, images):
        return list(self.body.rectified_maps(images))


def images(side=32):
    return mx.nd.array(np.random.RandomState(0).standard_normal((2, 3, side, side)))


def statistics(body):
    mx.nd.waitall()
    return {name: p.data().asnumpy() for name, p in body._collect_params_with_prefix().items() if 'running' in name}


@pytest.mark.parametrize('name, bn', [('resnet18_v2', 'bn1'), ('cifar_wideresnet16_10', 'bn1'),
                                      ('se_resnet18_v2', 'bn1'), ('densenet121', None)])
def test_the_next_stage_opens_with_the_rectification(name, bn):
    body = backbones.get(name)
    raw, rectified = body.stage_maps(images()), body.rectified_maps(images())
    stages = [getattr(body, stage) for stage in body.stage_names]
    for before, after, following in zip(raw, rectified, stages[1:]):
        opening = getattr(following[0], bn) if bn else following[0]
        np.testing.assert_allclose(after.asnumpy(), nd.relu(opening(before)).asnumpy(), atol=1e-6)
        assert before.min().asscalar() < 0 <= after.min().asscalar()
    np.testing.assert_array_equal(rectified[-1].asnumpy(), raw[-1].asnumpy())


@pytest.mark.parametrize('name', ['resnet18_v1b', 'mobilenetv2_0.25'])
def test_other_maps_are_left_alone(name):
    body = backbones.get(name)
    for before, after in zip(body.stage_maps(images()), body.rectified_maps(images())):
        np.testing.assert_array_equal(after.asnumpy(), before.asnumpy())


@pytest.mark.parametrize('hybridized', [False, True])
@pytest.mark.parametrize('fixed', [False, True])
def test_statistics_move_once(hybridized, fixed):
    """Training on the rectified maps moves the running statistics as training on the last map does."""
    moved = []
    for net_of in (lambda body: body, Both):
        mx.random.seed(0)
        body = backbones.get('resnet18_v2')
        body.apply(lambda block: setattr(block, '_fixed', None) if not hasattr(block, '_kwargs') else
                   block._kwargs.update({'use_global_stats': fixed} if 'use_global_stats' in block._kwargs else {}))
        net = net_of(body)
        net.hybridize(hybridized)
        with autograd.record():
            outputs = net(images())
            total = outputs.sum() if net is body else nd.add_n(*[o.sum() for o in outputs])
        total.backward()
        moved.append(statistics(body))
    for name, expected in moved[0].items():
        np.testing.assert_allclose(moved[1][name], expected, rtol=1e-5, atol=1e-6, err_msg=name)
    start = statistics(backbones.get('resnet18_v2'))
    assert any(np.abs(start[name] - moved[1][name]).max() > 1e-3 for name in start) is not fixed

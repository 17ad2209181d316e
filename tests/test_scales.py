"""A method starts as gently as plain fine-tuning: its first loss and gradient are of the same size, on any family.

What a method adds is drawn at random and stands on pretrained features. Where it meets features of the wrong scale, the
first steps shake what was pretrained (EfficientNet's blocks end linear, with values down to -33).
"""
import functools

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import backbones, methods
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.step import named, weighted_sum
from gluon_fgvc.methods.base import cross_entropy
from gluon_fgvc.nn.parameters import structural

CLASSES, IMAGES, SIDE = 10, 12, 64
FAMILIES = {'resnet18_v1': 'none', 'mobilenetv2_0.25': 'none', 'efficientnet_lite0': 'package:efficientnet-lite0',
            'vgg11_bn': 'none'}
SMALL = {'cra_cnn': {'size': 32},
         'tasn': {'attention_backbone': 'mobilenetv2_0.25', 'attention_size': 64, 'attention_channels': 16,
                  'sampled_size': 64},
         'ssn': {'saliency_backbone': 'mobilenetv2_0.25', 'saliency_size': 64, 'sampled_size': 64},
         'attention_scaled': {'schedule': 'E'}}  # the first phase in which the backbone learns


def photographs():
    """Return images as smooth as photographs are: on white noise features are smaller."""
    coarse = nd.array(1.5 * np.random.RandomState(0).normal(size=(IMAGES, 3, 8, 8)))
    return nd.contrib.BilinearResize2D(coarse, height=SIDE, width=SIDE)


def first_step(method):
    """Return the cross-entropy of the scores and the norm of the whole loss's gradient on the backbone."""
    phase = method.phases(1)[0]
    phases.enter(phase, method.train_net, False)
    images = photographs()
    labels = nd.array(np.arange(IMAGES) % CLASSES)
    with autograd.record():
        outputs = named(method.outputs, method.train_net(images))
        total = weighted_sum(method.losses(outputs, labels, method.phases(1)[0]), phase, labels, None)
    total.backward()
    squares = [(parameter.grad() ** 2).sum().asscalar() for name, parameter in structural(method.train_net).items()
               if name.startswith('body.') and parameter.grad_req != 'null']
    return cross_entropy(outputs['logits'], labels).mean().asscalar(), np.sqrt(sum(squares))


def create(name, family, **options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create(name, backbones.get(family, FAMILIES[family]), CLASSES, **options)


@functools.cache
def plain(family):
    return first_step(create('finetune', family))


@pytest.mark.parametrize('family', FAMILIES)
# PMG's terms are updates of their own, one after another, and never one sum.
@pytest.mark.parametrize('name', [name for name in methods.available() if name not in ('finetune', 'pmg')])
def test_it_starts_like_plain_fine_tuning(name, family):
    loss, gradient = first_step(create(name, family, **SMALL.get(name, {})))
    plain_loss, plain_gradient = plain(family)
    assert loss < 1.3 * plain_loss
    assert 0.2 * plain_gradient < gradient < 2 * plain_gradient


def test_a_map_that_is_not_rectified_breaks_these_limits(monkeypatch):
    """The limits are narrow enough: WARN on the linear maps of EfficientNet's blocks is outside."""
    get = backbones.get

    def unaware(*args, **kwargs):
        backbone = get(*args, **kwargs)
        backbone.rectified = (True,) * len(backbone.stage_names)
        return backbone
    monkeypatch.setattr(backbones, 'get', unaware)
    loss, gradient = first_step(create('warn', 'efficientnet_lite0'))
    plain_loss, plain_gradient = plain('efficientnet_lite0')
    assert loss > 1.3 * plain_loss and gradient > 2 * plain_gradient


def test_trilinear_attention_does_not_start_saturated():
    """On the linear maps of a cut EfficientNet-Lite0, 61 to 66 of 100 attention maps were one raw channel."""
    mx.random.seed(0)
    method = create('tasn', 'efficientnet_lite0', attention_backbone='efficientnet_lite0', attention_stages=3,
                    attention_weights='package:efficientnet-lite0', attention_size=128, attention_channels=64)
    with autograd.train_mode():
        features = method.net.localisation(photographs())
    maps = method.net.attention(features).reshape((0, 0, -1)).asnumpy()
    raw = features.reshape((0, 0, -1)).asnumpy()
    with np.errstate(invalid='ignore'):  # channels that are constant
        alike = [np.nan_to_num(np.corrcoef(m, x)[:len(m), len(m):]) for m, x in zip(maps, raw)]
    assert np.mean([(a.max(axis=1) > 0.999).mean() for a in alike]) < 0.25
    places = nd.softmax(7 * nd.array(raw), axis=-1).asnumpy()
    effective = np.exp(-(places * np.log(places + 1e-30)).sum(axis=-1))  # 1: a single place
    assert effective.mean() > 2.5

"""Fine-tuning: what learns at each cut, how fast, and what its classifier starts from."""
import re

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc import backbones, methods
from gluon_fgvc.engine import phases
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.parameters import structural

CLASSES = 3


@pytest.fixture(scope='module')
def backbone():
    return backbones.get('mobilenetv2_0.25')


def create(backbone, **options):
    return methods.create('finetune', backbone, CLASSES, **options)


@pytest.mark.parametrize('cut, learns, statistics', [
    ('fc', r'classifier\.(weight|bias)', 'fixed'), ('block4', r'(body\.stage4|classifier)\..*', 'fixed'),
    ('all', r'.*', 'moving')])
def test_what_learns_at_each_cut(backbone, cut, learns, statistics):
    method = create(backbone, cut=cut)
    (phase,) = method.phases(5)
    assert (phase.epochs, phase.batch_norm) == (5, statistics)
    phases.enter(phase, method.train_net, hybridize=False)
    for name, parameter in structural(method.train_net).items():
        running = name.endswith(('running_mean', 'running_var'))
        learning = bool(re.fullmatch(learns, name)) and not running
        assert (parameter.grad_req == 'write') == learning, name
        assert parameter.lr_mult == (10 if name.startswith('classifier.') else 1), name


@pytest.mark.parametrize('wanted', ['fixed', 'moving'])
def test_statistics_as_wanted_whatever_the_cut(backbone, wanted):
    assert {create(backbone, cut=cut, batch_norm=wanted).phases(1)[0].batch_norm
            for cut in ('fc', 'block4', 'all')} == {wanted}


def test_the_classifier_may_start_from_an_imagenet_class(backbone):
    random, names = np.random.RandomState(0), tuple(f'class {k}' for k in range(5))
    weight, bias = random.normal(size=(5, backbone.pool_units)).astype('f'), random.normal(size=5).astype('f')
    backbone.source_classifier = weight, bias, names
    try:
        method = create(backbone, init_from_imagenet={1: 'class 3'})
        np.testing.assert_array_equal(method.net.classifier.weight.data()[1].asnumpy(), weight[3])
        assert method.net.classifier.bias.data().asnumpy().tolist() == [0, bias[3], 0]
        for wrong, message in (({0: 'class 33'}, "no ImageNet class 'class 33'; did you mean 'class 3'"),
                               ({3: 'class 1'}, r'class index 3 is not in 0\.\.2')):
            with pytest.raises(ConfigError, match=message):
                create(backbone, init_from_imagenet=wrong)
    finally:
        backbone.source_classifier = None
    with pytest.raises(ConfigError, match='carry no ImageNet classifier'):
        create(backbone, init_from_imagenet={0: 'class 1'})


def test_the_map_is_the_class_activation_by_hand(backbone):
    method = create(backbone)
    images = mx.nd.array(np.random.RandomState(1).normal(size=(2, 3, 64, 64)))
    features, scores = method.net.body(images).asnumpy(), method.net(images).asnumpy()
    weight = method.net.classifier.weight.data().asnumpy()
    expected = [np.maximum(np.tensordot(weight[score.argmax()], feature, 1), 0)
                for score, feature in zip(scores, features)]
    found = method.explain(images).maps['class activation'].asnumpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_dropout_is_for_training_only(backbone):
    method = create(backbone, dropout=0.5)
    images = mx.nd.array(np.random.RandomState(1).normal(size=(2, 3, 64, 64)))
    once, again = (method.net(images).asnumpy() for _ in range(2))
    np.testing.assert_array_equal(once, again)
    trunk, top = method.split()
    features = trunk(images)
    np.testing.assert_array_equal(top(features).asnumpy(), once)
    with autograd.train_mode():
        one, other = (top(features).asnumpy() for _ in range(2))
    assert (one != other).any()

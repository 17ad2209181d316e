"""Every method trains, exports and predicts, compiled, on every family of backbones, with odd numbers of channels.

`make test-slow TESTS=tests/test_every_family.py ISA=AVX2` runs it as a lesser processor does.
"""
import gc
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc import backbones, deploy, methods
from gluon_fgvc.config import SGD, EvalView
from gluon_fgvc.engine import optim, phases
from gluon_fgvc.engine.step import named, weighted_sum
from gluon_fgvc.nn.parameters import structural
from tests.rounding import assert_fused_alike

CLASSES, IMAGES = 7, 3
SIDES = {'inceptionv3': 96}
FAMILIES = ['resnet18_v1', 'resnet18_v2', 'resnet50_v1b', 'se_resnet18_v1', 'resnext50_32x4d', 'resnest14', 'vgg11',
            'densenet121', 'mobilenet0.25', 'mobilenetv2_0.25', 'mobilenetv3_small', 'efficientnet_lite0',
            'inceptionv3', 'googlenet', 'squeezenet1.1', 'alexnet', 'cifar_resnet20_v1', 'warn_wideresnet28_10']
ODD = {'warn': {'width': 3}, 'attention_scaled': {'schedule': 'FABE', 'form': 'out'},
       'ssn': {'saliency_backbone': 'mobilenetv2_0.25', 'saliency_size': 64},
       'tasn': {'attention_backbone': 'mobilenetv2_0.25', 'attention_stages': 3, 'attention_size': 64,
                'attention_channels': 9}}
SIZE = {'cra_cnn': 'size', 'ssn': 'sampled_size', 'tasn': 'sampled_size'}  # of the images that the backbone sees


def trained(name, family, side):
    """Return a method after one step in each of its phases."""
    mx.random.seed(0)
    np.random.seed(0)
    options = dict(ODD.get(name, {}))
    if name in SIZE:
        options[SIZE[name]] = side
    if family in ('vgg11', 'squeezenet1.1', 'alexnet', 'googlenet') and name == 'attention_scaled':
        options['schedule'] = 'FAE'  # without BatchNorm there is nothing for B
    if (name, family) == ('pmg', 'alexnet'):
        options['stages'] = 2  # it has no more
    method = methods.create(name, backbones.get(family), CLASSES, **options)
    images = mx.nd.random.normal(shape=(IMAGES, 3, side, side))
    labels = mx.nd.arange(IMAGES)
    for phase in method.phases(len(options.get('schedule', 'x'))):
        phases.enter(phase, method.train_net, True)
        trainer = optim.make_trainer(structural(method.train_net), SGD(lr=1e-3), 'device')
        with autograd.record():
            outputs = named(method.outputs, method.train_net(images))
            total = weighted_sum(method.losses(outputs, labels, phase), phase, labels, None)
        total.backward()
        trainer.step(IMAGES)
        assert np.isfinite(total.asnumpy()).all()
    mx.nd.waitall()
    return method


@pytest.fixture(autouse=True)
def nothing_is_left():
    """Networks are cycles of objects, which Python collects when it has seen many objects, not many bytes."""
    yield
    gc.collect()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('family', FAMILIES)
@pytest.mark.parametrize('name', methods.available())
def test_trains_exports_and_predicts(name, family, tmp_path):
    side = SIDES.get(family, 64)
    method = trained(name, family, side)
    pixels = np.random.RandomState(1).randint(0, 256, (IMAGES, side, side, 3)).astype('uint8')
    exported = deploy.export(method.net, tmp_path / 'model', classes=[str(k) for k in range(CLASSES)],
                             eval_view=EvalView(resize=(side, side)), input_size=(side, side), mean=(0.5,) * 3,
                             std=(0.25,) * 3, method=name, images=list(pixels))
    assert exported.difference <= 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', UserWarning)  # some graphs cannot be fused
        fused, plain = (deploy.Predictor(tmp_path / 'model', engine=engine).predict_batch(pixels)
                       for engine in ('auto', 'mxnet'))
    images = mx.nd.array((pixels / 255 - 0.5) / 0.25).transpose((0, 3, 1, 2))
    assert_fused_alike(method.net, images, fused, plain)
    for values in (*method.explain(mx.nd.random.normal(shape=(IMAGES, 3, side, side))).maps.values(),):
        assert np.isfinite(values.asnumpy()).all()

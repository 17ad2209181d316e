"""Every method leaves as an ONNX model of the same probabilities, for batches of any number."""
import mxnet as mx
import pytest

from gluon_fgvc import backbones, methods
from tests.backbones.test_backbones import unsettle
from tests.deploy.onnx_check import compare_net, photographs
from tests.test_method_contract import CLASSES, SIDE, SMALL, create, outputs_of

# What the contract's small networks do not have: other samplers, windows, poolings and gates.
VARIANTS = [('tasn', {'sampler_mode': 'fast', 'square': False}), ('tasn', {'sampler': 'uniform', 'nets': 'part'}),
            ('tasn', {'sampler': 'ssn'}), ('stn', {'mode': 'location'}), ('warn', {'mask': 'sigmoid'})]
BACKBONES = ['resnet50_v1b', 'resnet18_v2', 'efficientnet_lite0', 'mobilenetv2_1.0', 'vgg16']
FIXED = ('tasn', 'ssn')  # that take images of one size


def trained(method, images):
    """Move the running statistics away from 0 and 1."""
    with mx.autograd.train_mode():
        outputs_of(method, images)
    return method.deployed()


def assert_close(name, differences):
    """Of a probability and, looser, of a score; sampling by attention (TASN) makes ten times as much of rounding."""
    probability, score = differences
    factor = 10 if name == 'tasn' else 1
    print(f'{name}: probability {probability:.2g}, score {score:.2g}')
    # Scores of hundreds, of a network that was not trained, are known to 1e-5 of them and probabilities to no more.
    assert score <= 1e-5 or probability <= factor * 1e-4 and score <= factor * 5e-4


@pytest.mark.parametrize('name', methods.available())
def test_all_methods(name):
    net = trained(create(name), photographs(3, SIDE))
    batches = [photographs(count, SIDE, seed=1) for count in (1, 7)]
    if name not in FIXED:
        batches.append(photographs(2, 96, seed=2))
    assert_close(name, compare_net(net, batches, SIDE if name in FIXED else None))


@pytest.mark.parametrize('name, options', VARIANTS)
def test_variants(name, options):
    mx.random.seed(0)
    method = methods.create(name, backbones.get('mobilenetv2_0.25'), CLASSES, **{**SMALL.get(name, {}), **options})
    net = trained(method, photographs(3, SIDE))
    assert_close(name, compare_net(net, [photographs(3, SIDE, seed=1)], SIDE if name in FIXED else None))


def test_second_order_pooling():
    mx.random.seed(0)
    method = methods.create('finetune', backbones.get('mobilenetv2_0.25', global_pool='isqrt_cov'), CLASSES)
    assert_close('isqrt_cov', compare_net(trained(method, photographs(3, SIDE)), [photographs(3, SIDE, seed=1)], None))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('backbone', BACKBONES)
@pytest.mark.parametrize('name', methods.available())
def test_every_method_on_every_family(name, backbone):
    mx.random.seed(0)
    method = methods.create(name, backbones.get(backbone), CLASSES, **SMALL.get(name, {}))
    net = trained(method, photographs(8, SIDE))
    print(backbone, end=' ')
    assert_close(name, compare_net(net, [photographs(count, SIDE, seed=1) for count in (1, 7, 32)],
                                   SIDE if name in FIXED else None))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('backbone', backbones.available())
def test_every_backbone(backbone):
    mx.random.seed(0)
    side = 96 if backbone in ('inceptionv3', 'googlenet') else SIDE
    net = methods.create('finetune', backbones.get(backbone), CLASSES).deployed()
    net(photographs(1, side))
    unsettle(net)
    print(backbone, end=' ')
    assert_close('finetune', compare_net(net, [photographs(count, side, seed=1) for count in (1, 3)], None))

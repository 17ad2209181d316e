"""The five-convolution network of the ablations: its maps, what they see, its counts by hand."""
import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import backbones, methods
from gluon_fgvc.nn.complexity import multiply_adds, parameters


def images(side=40):
    return mx.nd.array(np.random.RandomState(0).uniform(size=(2, 3, side, side)))


def test_stages():
    backbone = backbones.get('cluttered_cnn')
    assert backbone.stage_names == ('pool1', 'pool2', 'pool3', 'conv5')
    shapes = [(2, 32, 20, 20), (2, 64, 10, 10), (2, 128, 5, 5), (2, 128, 5, 5)]
    assert [m.shape for m in backbone.stage_maps(images())] == shapes
    for rectified, plain in zip(backbone.rectified_maps(images()), backbone.stage_maps(images())):
        np.testing.assert_array_equal(rectified.asnumpy(), plain.asnumpy())
        assert plain.min().asscalar() >= 0
    assert backbone.pool(backbone(images())).shape == (2, backbone.pool_units) == (2, 256)


def test_counts():
    net = methods.create('finetune', backbones.get('cluttered_cnn'), 10).net
    convolutions = [27 * 32, 288 * 64, 576 * 128, 1152 * 128, 1152 * 128]
    assert parameters(net) == sum(convolutions) + 2 * (32 + 64 + 128) + 2 * 128 + 129 * 256 + 257 * 10
    places = [1600, 400, 100, 25, 25]
    assert multiply_adds(net, 3, 40, 40) == sum(c * p for c, p in zip(convolutions, places)) + 128 * 256 + 256 * 10


def test_pool1_sees_five_pixels():
    """Place 10 pools convolutions at 19, 20 and 21, which read pixels 18 to 22."""
    backbone, x = backbones.get('cluttered_cnn'), images()
    inside, outside = x.copy(), x * 0 + 1
    outside[:, :, 18:23, 18:23] = x[:, :, 18:23, 18:23]
    for corner in ((18, 18), (22, 22)):
        inside[:, :, corner[0], corner[1]] = 5
    seen, changed, unchanged = (backbone.stage_maps(values)[0][:, :, 10, 10].asnumpy()
                                for values in (x, inside, outside))
    np.testing.assert_allclose(unchanged, seen, atol=1e-6)
    assert np.abs(changed - seen).max() > 1e-3


@pytest.mark.parametrize('depth, stages', [(1, ['conv5']), (4, ['conv5', 'pool3', 'pool2', 'pool1'])])
def test_modules_attach_from_the_last_convolution_backward(depth, stages):
    method = methods.create('warn', backbones.get('cluttered_cnn'), 10, depth=depth, width=2)
    assert list(method.stages) == stages
    assert method.net(images()).shape == (2, 10) and method.net(images(64)).shape == (2, 10)

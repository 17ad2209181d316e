"""Class activation by hand and against the definition of Grad-CAM; where it lies, also of nets that resample images."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import backbones, methods
from gluon_fgvc.explain.cam import activation_on_images, coverage, energy_inside
from gluon_fgvc.methods.base import Explanation, Method
from gluon_fgvc.nn import class_activation

SIDE = 64
OPTIONS = {'cra_cnn': {'size': 32}, 'tasn': {'attention_backbone': 'mobilenetv2_0.25', 'attention_size': 64,
                                             'attention_channels': 8, 'sampled_size': 48}}
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


def create(name, hybridized=False, backbone='cluttered_cnn', **settings):
    mx.random.seed(0)
    np.random.seed(0)
    method = methods.create(name, backbones.get(backbone, **settings), 4, **OPTIONS.get(name, {}))
    method.net.hybridize(hybridized)
    return method


def photographs(count=2):
    coarse = nd.array(np.random.RandomState(0).normal(size=(count, 3, 8, 8)))
    return nd.contrib.BilinearResize2D(coarse, height=SIDE, width=SIDE)


@each_way
@pytest.mark.parametrize('name', ['finetune', 'cra_cnn'])
def test_of_a_linear_layer_on_the_averaged_map_it_is_cam(name, hybridized):
    method, images = create(name, hybridized, 'mobilenetv2_0.25'), photographs()
    features, scores = method.net.body(images).asnumpy(), method.net(images).asnumpy()
    weight = method.net.classifier.weight.data().asnumpy()
    for classes in (None, scores.argmin(axis=1)):
        chosen = scores.argmax(axis=1) if classes is None else classes
        expected = [np.tensordot(weight[k], feature, 1) for k, feature in zip(chosen, features)]
        found = class_activation(method.net, images, None if classes is None else nd.array(classes)).asnumpy()
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert (found < 0).any()  # what speaks against a class is kept


@each_way
@pytest.mark.parametrize('name, backbone, settings', [
    ('finetune', 'cluttered_cnn', {}),                              # a hidden layer between average and classifier
    ('finetune', 'mobilenetv2_0.25', {'global_pool': 'isqrt_cov'}),
    ('warn', 'mobilenetv2_0.25', {}), ('stn', 'cluttered_cnn', {})])
def test_of_other_networks_it_is_grad_cam(name, backbone, settings, hybridized):
    """Against differences: of the class score, when what a place of the last map has is added to it everywhere."""
    method, images = create(name, hybridized, backbone, **settings), photographs(1)
    found = class_activation(method.net, images, nd.array([2])).asnumpy()[0]
    method.net.hybridize(False)
    body, kept, added = method.net._children['body'], [], 0

    def add(_, __, output):
        kept.append(output.asnumpy()[0])
        output[:] = output + added

    hook, expected, step = getattr(body, body.stage_names[-1]).register_forward_hook(add), np.zeros_like(found), 1e-3
    method.net(images)
    for place in np.ndindex(found.shape):
        scores = []
        for sign in (1, -1):
            added = sign * step * nd.array(kept[0][:, place[0], place[1]]).reshape((1, -1, 1, 1))
            scores.append(float(method.net(images)[0, 2].asscalar()))
        expected[place] = (scores[0] - scores[1]) / 2 / step
    hook.detach()
    assert np.abs(found - expected).max() < 0.02 * np.abs(expected).max()


def test_it_leaves_no_trace():
    method, images = create('finetune'), photographs()
    before = method.net(images).asnumpy()
    statistics = {name: parameter.data().asnumpy() for name, parameter in method.net.collect_params().items()}
    class_activation(method.net, images)
    assert not method.net.body._forward_hooks and not method.net.body.conv5._forward_hooks
    np.testing.assert_array_equal(method.net(images).asnumpy(), before)
    for name, parameter in method.net.collect_params().items():
        np.testing.assert_array_equal(parameter.data().asnumpy(), statistics[name])


def test_no_crop_is_the_classifier_averaged_over_the_map():
    """The mean of the scores at each place of the last map equals the scores of the averaged map, whatever the size."""
    method = create('finetune', backbone='mobilenetv2_0.25')
    images = nd.array(np.random.RandomState(0).normal(size=(2, 3, 64, 160)))
    classifier = method.net.classifier
    with autograd.predict_mode():
        features = method.net.body(images).asnumpy()                                   # (N,C,2,5)
        scores = method.net(images).asnumpy()
    weight, bias = classifier.weight.data().asnumpy(), classifier.bias.data().asnumpy()
    everywhere = np.einsum('kc,nchw->nkhw', weight, features) + bias[:, None, None]
    np.testing.assert_allclose(everywhere.mean(axis=(2, 3)), scores, rtol=1e-4, atol=1e-5)


# --- on the image ----------------------------------------------------------------------------

class Bright(mx.gluon.HybridBlock):
    """Its last map is the image's first channel in cells of 8 pixels, the score their mean."""

    def __init__(self):
        super().__init__()
        self.body = mx.gluon.nn.HybridSequential()
        self.body.stage_names = ('0',)
        self.body.add(mx.gluon.nn.AvgPool2D(8))
        setattr(self.body, '0', self.body[0])

    def hybrid_forward(self, F, images):
        return F.mean(self.body(images), axis=(2, 3))


class Looking(Method):
    """Sees images through ``grid``."""

    def __init__(self, grid=None):
        self.net, self.grid = Bright(), grid

    def explain(self, images):
        return Explanation(grids={} if self.grid is None else {'seen': self.grid},
                           seen_through=None if self.grid is None else 'seen')


def spot(row, column):
    images = nd.zeros((1, 3, 32, 32))
    images[0, :, row:row + 8, column:column + 8] = 1
    return images


def test_cells_stay_where_they_are():
    found = activation_on_images(Looking(), spot(8, 16), nd.array([0]))[0]
    assert found.shape == (32, 32)
    rows, columns = np.nonzero(found == found.max())
    assert (rows.mean(), columns.mean()) == (11.5, 19.5)
    assert not found[20:].any() and not found[:, :12].any() and not found[:, 28:].any()


def test_what_speaks_against_the_class_is_black():
    assert not activation_on_images(Looking(), -spot(8, 16), nd.array([0])).any()


def test_a_window_puts_its_activation_back_where_it_was_cut_out():
    """The net sees the right half alone, at its full width: what it finds on its left lies in the image's middle."""
    x, y = np.meshgrid(np.linspace(0, 1, 32), np.linspace(-1, 1, 32))
    found = activation_on_images(Looking(nd.array([[x, y]])), spot(8, 8), nd.array([0]))[0]
    assert not found[:, :15].any() and found.sum() > 0
    columns = found.sum(axis=0) / found.sum()
    assert (columns * np.arange(32)).sum() == pytest.approx(15.5 + 15.5 * 11.5 / 31, abs=0.2)
    full = activation_on_images(Looking(), spot(8, 8), nd.array([0]))[0]
    assert found.sum() == pytest.approx(full.sum(), rel=1e-4)  # none is lost or made


def test_activation_beyond_the_image_is_lost():
    x, y = np.meshgrid(np.linspace(1.5, 3, 32), np.linspace(-1, 1, 32))
    assert not activation_on_images(Looking(nd.array([[x, y]])), spot(8, 8), nd.array([0])).any()


@pytest.mark.parametrize('name', methods.available())
def test_of_every_method(name):
    method, images = create(name, hybridized=True, backbone='mobilenetv2_0.25'), photographs()
    found = np.stack([activation_on_images(method, images, nd.full(2, k)) for k in range(4)])
    assert found.shape == (4, 2, SIDE, SIDE) and np.isfinite(found).all() and (found >= 0).all() and found.any()


# --- boxes -----------------------------------------------------------------------------------

def test_pixels_on_the_edge_of_a_box_count_in_part():
    expected = np.zeros((4, 6))
    expected[1:3, 2:5] = np.outer([0.5, 1], [0.75, 1, 0.5])
    np.testing.assert_allclose(coverage((2.25, 1.5, 2.25, 1.5), (4, 6)), expected)
    np.testing.assert_allclose(coverage((-5, -5, 100, 100), (4, 6)), 1)
    assert not coverage((7, 0, 3, 3), (4, 6)).any()


def test_energy_inside_by_hand():
    values = np.zeros((4, 4), 'float32')
    values[0, 0], values[2, 2], values[3, 2] = 1, 2, 1
    assert energy_inside(values, (2, 2, 1, 1)) == 0.5
    assert energy_inside(values, (2, 2, 2, 2)) == 0.75
    assert energy_inside(values, (0, 0, 4, 4)) == 1 and energy_inside(values, (1, 0, 1, 1)) == 0
    assert np.isnan(energy_inside(np.zeros((4, 4)), (0, 0, 4, 4)))
    even = np.ones((8, 8), 'float32')
    assert energy_inside(even, (1, 2, 4, 3)) == coverage((1, 2, 4, 3), even.shape).mean()

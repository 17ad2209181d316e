"""Gradients of a network as it is in prediction: right where those of record(train_mode=False) are not."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import nn

from gluon_fgvc.nn import as_in_prediction


def network():
    mx.random.seed(0)
    net = nn.HybridSequential()
    net.add(nn.Conv2D(16, 3, padding=1, in_channels=3), nn.BatchNorm(in_channels=16), nn.MaxPool2D(3, 2, 1),
            nn.Dropout(0.5), nn.Flatten(), nn.Dense(5, in_units=16 * 8 * 8))
    net.initialize(mx.init.Xavier())
    random = np.random.RandomState(0)
    for parameter in (net[1].running_mean, net[1].running_var):
        parameter.set_data(nd.array(random.rand(16) + 0.5))
    return net, nd.array(random.normal(size=(4, 3, 16, 16)))


def gradient(net, images):
    images.attach_grad()
    with as_in_prediction(net), autograd.record():
        scores = net(images)
        score = scores[:, 2].sum()
    score.backward()
    return scores.asnumpy(), images.grad.asnumpy()


@pytest.mark.parametrize('compiled', [False, True], ids=['imperative', 'hybridized'])
def test_gradients_are_those_of_the_function_that_predicts(compiled):
    net, images = network()
    net.hybridize(compiled)
    predicted, statistics = net(images).asnumpy(), net[1].running_mean.data().asnumpy()
    found = [gradient(net, images) for _ in range(5)]  # wrong ones are others at each call
    np.testing.assert_array_equal(net[1].running_mean.data().asnumpy(), statistics)
    net.cast('float64')
    images, random = images.astype('float64'), np.random.RandomState(1)
    ways = [random.normal(size=images.shape) for _ in range(3)]
    slopes = [[net(images + nd.array(step * way, dtype='float64'))[:, 2].sum().asscalar() for step in (1e-6, -1e-6)]
              for way in ways]
    for scores, slope in found:
        np.testing.assert_allclose(scores, predicted, rtol=1e-5, atol=1e-5)
        assert [(slope * way).sum() for way in ways] == pytest.approx(
            [(ahead - behind) / 2e-6 for ahead, behind in slopes], rel=1e-4)


def test_switches_are_as_they_were_even_after_an_error():
    net, images = network()
    net.hybridize()
    net[1]._kwargs['use_global_stats'] = False
    net(images)
    graph = net._cached_op
    with pytest.raises(ZeroDivisionError), as_in_prediction(net):
        assert net[1]._kwargs['use_global_stats'] and not net[3]._rate
        raise ZeroDivisionError
    assert net._cached_op is graph and net._active and net[3]._rate == 0.5
    assert net[1]._kwargs['use_global_stats'] is False
    with autograd.record():  # batch statistics and dropout again
        first, second = net(images).asnumpy(), net(images).asnumpy()
    assert np.abs(first - second).max() > 0.01


def test_each_block_is_switched_once_however_often_it_occurs():
    block = nn.BatchNorm(in_channels=2)
    net = nn.HybridSequential()
    net.add(block, block)
    with as_in_prediction(net):
        assert block._kwargs['use_global_stats'] is True
    assert block._kwargs['use_global_stats'] is False

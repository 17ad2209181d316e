"""BatchNorm's statistics measured anew."""
import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_fgvc.pruning import precise_bn
from tests.pruning.nets import Unpadded, images, scatter_statistics


def test_it_measures_what_batch_norm_sees():
    net = Unpadded()
    net.initialize(mx.init.Xavier())
    scatter_statistics(net)
    batches = [images(4, 14, seed) for seed in range(3)]
    precise_bn(net, batches)
    for layer in (net.bn1, net.bn3):
        assert layer._kwargs['use_global_stats'] is False
    inputs = [net.first(batch).asnumpy() for batch in batches]
    np.testing.assert_allclose(net.bn1.running_mean.data().asnumpy(),
                               np.mean([x.mean(axis=(0, 2, 3)) for x in inputs], axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.bn1.running_var.data().asnumpy(),
                               np.mean([x.var(axis=(0, 2, 3)) for x in inputs], axis=0), rtol=1e-3)
    # On one batch prediction then is what training mode computes: every layer's statistics are its own.
    precise_bn(net, batches[:1])
    with autograd.train_mode():
        expected = net(batches[0]).asnumpy()
    np.testing.assert_allclose(net(batches[0]).asnumpy(), expected, rtol=1e-2, atol=1e-3)

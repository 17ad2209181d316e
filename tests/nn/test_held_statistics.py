"""BatchNorm whose running statistics are kept in training."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from gluon_fgvc import runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.held_statistics import hold_statistics, is_held
from gluon_fgvc.nn.sync_batch_norm import SyncBatchNorm, synchronise
from tests import small_run


def block():
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=2, epsilon=0), nn.Dense(1))
    net.initialize()
    net[0].running_mean.set_data(mx.nd.array([1, -1]))
    net[0].running_var.set_data(mx.nd.array([4, 0.25]))
    return net


@pytest.mark.parametrize('hybridized', [False, True])
def test_a_held_layer_is_an_affine_map_by_hand(hybridized):
    net = block()
    assert hold_statistics(net) == 1 and is_held(net[0]) and not is_held(net[1])
    net.hybridize(hybridized)
    images = mx.nd.array(np.random.RandomState(0).normal(size=(3, 2, 4, 4)))
    images.attach_grad()
    with autograd.record():
        out = net[0](images)
    out.backward()
    expected = (images.asnumpy() - np.array([1, -1])[:, None, None]) / np.array([2, 0.5])[:, None, None]
    np.testing.assert_allclose(out.asnumpy(), expected, atol=1e-5)
    # The batch's own statistics would take the gradient of a sum to zero; here it is 1/σ.
    np.testing.assert_allclose(images.grad.asnumpy(), np.broadcast_to(
        np.array([0.5, 2])[:, None, None], (3, 2, 4, 4)), atol=1e-5)
    np.testing.assert_allclose(net[0].gamma.grad().asnumpy(), expected.sum(axis=(0, 2, 3)), rtol=1e-4)
    assert net[0].running_mean.data().asnumpy().tolist() == [1, -1]


def test_held_layers_are_not_synchronised():
    net = block()
    hold_statistics(net)
    assert synchronise(net, 2) == 0 and not isinstance(net[0], SyncBatchNorm)


def test_without_pretraining_there_is_nothing_to_keep(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path))
    cfg = runs.load_config('cfg.yaml', [('backbone.batch_norm', 'fixed')])
    with pytest.raises(ConfigError, match="backbone.batch_norm: 'fixed' keeps the statistics of pretraining"):
        runs.train(cfg, tmp_path / 'run')

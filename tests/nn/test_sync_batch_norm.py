"""BatchNorm over the images of several devices; one layer only, since MXNet's CPU waits for ever with two."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn

from gluon_fgvc import runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.parameters import structural
from gluon_fgvc.nn.sync_batch_norm import SyncBatchNorm, synchronise
from tests import small_run

DEVICES = [mx.cpu(0), mx.cpu(1)]


def block(devices):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3))
    net.initialize(ctx=devices)
    return net


def test_statistics_are_those_of_all_images():
    images = np.random.RandomState(0).normal(2, 3, (4, 3, 5, 5)).astype('float32')
    one, two = block(DEVICES[:1]), block(DEVICES)
    names = list(structural(two))
    assert synchronise(two, 2) == 1 and isinstance(two[0], SyncBatchNorm) and list(structural(two)) == names
    with autograd.record():
        expected = one(mx.nd.array(images))
        parts = [two(mx.nd.array(part, ctx=device)) for part, device in zip((images[:2], images[2:]), DEVICES)]
    found = np.concatenate([part.asnumpy() for part in parts])
    np.testing.assert_allclose(found, expected.asnumpy(), atol=1e-5)
    hand = (images - images.mean(axis=(0, 2, 3), keepdims=True)) / images.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, hand, atol=1e-4)


def test_several_cpu_contexts_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path))
    cfg = runs.load_config('cfg.yaml', [('run.sync_batch_norm', True), ('run.contexts', ['cpu0', 'cpu1'])])
    with pytest.raises(ConfigError, match='run.sync_batch_norm is for GPUs'):
        runs.train(cfg, tmp_path / 'run')

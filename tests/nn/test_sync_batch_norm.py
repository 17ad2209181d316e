"""BatchNorm over the images of several devices: of all GPUs, or of one CPU, since several wait for ever."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd
from mxnet.gluon import nn
from mxnet.gluon.utils import split_and_load

from gluon_fgvc import runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn.parameters import structural
from gluon_fgvc.nn.sync_batch_norm import SyncBatchNorm, synchronise
from tests import small_run

DEVICES = [mx.gpu(number) for number in range(mx.context.num_gpus())] or [mx.cpu()]


def block(devices):
    net = nn.HybridSequential()
    net.add(nn.BatchNorm(in_channels=3))
    net.initialize(ctx=devices)
    return net


def test_statistics_are_those_of_all_images():
    images = np.random.RandomState(0).normal(2, 3, (2 * len(DEVICES), 3, 5, 5)).astype('float32')
    one, several = block(DEVICES[:1]), block(DEVICES)
    names = list(structural(several))
    assert synchronise(several, len(DEVICES)) == 1
    assert isinstance(several[0], SyncBatchNorm) and list(structural(several)) == names
    shards = split_and_load(images, DEVICES)
    with autograd.record():
        expected = one(mx.nd.array(images, ctx=DEVICES[0]))
        parts = [several(shard) for shard in shards]
    found = np.concatenate([part.asnumpy() for part in parts])
    np.testing.assert_allclose(found, expected.asnumpy(), atol=1e-5)
    hand = (images - images.mean(axis=(0, 2, 3), keepdims=True)) / images.std(axis=(0, 2, 3), keepdims=True)
    np.testing.assert_allclose(found, hand, atol=1e-4)


def test_several_cpu_contexts_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path))
    cfg = runs.load_config('cfg.yaml', [('run.sync_batch_norm', True), ('run.contexts', ['cpu0', 'cpu1'])])
    with pytest.raises(ConfigError, match='run.sync_batch_norm is for GPUs'):
        runs.train(cfg, tmp_path / 'run')

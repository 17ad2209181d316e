"""Reused features train to what the plain loop trains to, and are reused only where that is true."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_fgvc.engine import reuse
from gluon_fgvc.engine.fit import fit as train_method
from gluon_fgvc.engine.log import Log
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn.parameters import to_numpy
from tests.engine import toy

HEAD = r'classifier\..*'
STILL = {'data__train': {'resize': [8, 8]}}


class Body(nn.HybridSequential):
    """A trunk that counts how many images went through it."""

    seen = 0

    def __call__(self, images):
        Body.seen += images.shape[0]
        return super().__call__(images)


class Split(toy.Toy):
    reuses = True

    def __init__(self, drop_in_trunk=0.0, **kwargs):
        super().__init__(dropout=0.5, **kwargs)
        self.drop_in_trunk = drop_in_trunk

    def split(self):
        if not self.reuses:
            return None
        trunk, top, net = Body(prefix=''), nn.HybridSequential(prefix=''), self.net
        trunk.add(net.conv, net.bn, nn.Activation('relu'), nn.Dropout(self.drop_in_trunk), nn.GlobalAvgPool2D(),
                  nn.Flatten())
        top.add(net.dropout, net.classifier)
        return trunk, top


class Plain(Split):
    reuses = False


def fit(tmp_path, cfg, method, run):
    Body.seen = 0
    folder = tmp_path / run
    folder.mkdir(exist_ok=True)
    loader, val = toy.loaders(cfg, tmp_path / 'images', 18)
    train_method(method, toy.training_data(loader, val), cfg, Log(folder))
    loader.close()
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return to_numpy(method.net), [row for row in rows if row['kind'] == 'epoch']


def test_it_equals_the_plain_loop_with_one_pass_over_the_images(tmp_path):
    phases = [Phase('head', 3, HEAD, batch_norm='fixed'), Phase('all', 1), Phase('again', 2, HEAD, batch_norm='fixed')]
    cfg = toy.settings(train__epochs=6, train__ema=0.5, train__label_smoothing=0.1,
                       train__optimizer={'name': 'sgd', 'lr': 0.1, 'momentum': 0.9}, **STILL)
    expected, plain_rows = fit(tmp_path, cfg, Plain(phases=phases), 'plain')
    found, rows = fit(tmp_path, cfg, Split(phases=phases), 'reused')
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
    for row, plain in zip(rows, plain_rows):
        assert row['val_loss'] == pytest.approx(plain['val_loss'], abs=1e-4)
        assert row['train_loss'] == pytest.approx(plain['train_loss'], abs=1e-4)
    # 18 training images for each state of the trunk, before and after 'all'; 8 validation images likewise and
    # once more, since the averaged trunk still moves towards the new one; one image a phase to tell the size.
    assert Body.seen == 2 * 18 + 3 * 8 + 2


@pytest.mark.parametrize('changes, phase, method', [
    ({'data__train': {'resize': [8, 8], 'flip': True}}, {}, {}),
    ({**STILL, 'train__mixup': 0.2}, {}, {}),
    (STILL, {'batch_norm': 'moving'}, {}),
    (STILL, {'trainable': '.*'}, {}),
    (STILL, {'trainable': r'bn\.gamma|classifier\..*'}, {}),
    (STILL, {}, {'drop_in_trunk': 0.5})])
def test_it_is_left_out_where_features_differ_from_epoch_to_epoch(tmp_path, changes, phase, method):
    phases = [Phase('x', 2, **{'trainable': HEAD, 'batch_norm': 'fixed', **phase})]
    fit(tmp_path, toy.settings(**changes), Split(phases=phases, **method), 'run')
    assert Body.seen == 0


def test_it_is_left_out_where_features_would_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(reuse, 'LIMIT', 4 * 4 * 18 - 1)  # 18 images of 4 float32
    fit(tmp_path, toy.settings(**STILL), Split(phases=[Phase('x', 2, HEAD, batch_norm='fixed')]), 'run')
    assert Body.seen == 1


def test_broken_images_are_left_out_of_the_features_too(tmp_path):
    cfg = toy.settings(**STILL)
    loader, _ = toy.loaders(cfg, tmp_path / 'images', 18)
    with open(loader.image_set.paths[5], 'wb'):
        pass
    loader._skip = True
    method = Split()
    features = reuse.Features(method.split()[0], loader, toy.normalize(), [mx.cpu()])
    batches = list(features.epoch(0))
    seen = np.concatenate([batch.indices for batch in batches])
    assert 5 not in seen and len(set(seen)) == len(seen) >= 15 and len(loader.bad) == 1

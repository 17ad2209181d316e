"""Pruning: groups read from graphs, constants that pruned filters leave, rankings by hand, nets that are smaller."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd
from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as layers

from gluon_fgvc import backbones, nn
from gluon_fgvc.backbones import widths
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import complexity
from gluon_fgvc.pruning import channels as prune


def classifier(name='mobilenetv2_0.25', seed=0, **kwargs):
    mx.random.seed(seed)
    np.random.seed(seed)
    net = nn.Classifier(backbones.get(name, **kwargs), 3)
    net.classifier.initialize(mx.init.Xavier())
    return net


def images(count=2, side=64, seed=0):
    return nd.array(np.random.RandomState(seed).normal(size=(count, 3, side, side)))


def scatter_statistics(net, seed=0):
    rng = np.random.RandomState(seed)
    for name, parameter in net._collect_params_with_prefix().items():
        if name.endswith(('running_mean', 'beta', 'bias')):
            parameter.set_data(nd.array(rng.uniform(-0.5, 1, parameter.shape)))
        elif name.endswith(('running_var', 'gamma')):
            parameter.set_data(nd.array(rng.uniform(0.5, 1.5, parameter.shape)))
    return net


# --- groups ----------------------------------------------------------------------------------

def groups_of(name, scope='inner'):
    return {group.name: group for group in prune.Channels(classifier(name)).groups(scope)}


def test_groups_of_a_bottleneck_network():
    inner = groups_of('resnet50_v1b')
    assert len(inner) == 32  # conv1 and conv2 of sixteen blocks
    assert inner['body.stage1.0.conv1'].consumers == ['body.stage1.0.conv2']
    assert inner['body.stage4.2.conv2'].consumers == ['body.stage4.2.conv3']
    streams = groups_of('resnet50_v1b', 'all')
    joined = {name: group for name, group in streams.items() if group.joined}
    assert {group.channels for group in joined.values()} == {256, 512, 1024}  # that of 2048 ends in the classifier
    first = next(group for group in joined.values() if group.channels == 256)
    assert {'body.stage1.0.conv3', 'body.stage1.1.conv3', 'body.stage1.2.conv3'} < set(first.producers)
    assert any('downsample' in name for name in first.producers)
    assert {'body.stage1.1.conv1', 'body.stage2.0.conv1'} < set(first.consumers)
    assert set(streams) - set(inner) - set(joined) == {'body.stem.0'}


def test_depthwise_filters_belong_to_the_channels_they_filter():
    inner = groups_of('efficientnet_lite0')
    assert len(inner) == 15  # the first of the sixteen blocks does not expand
    group = inner['body.stage2.0.expand.conv']
    assert group.producers == ['body.stage2.0.expand.conv', 'body.stage2.0.depthwise.conv']
    assert group.consumers == ['body.stage2.0.project.conv'] and group.channels == 144


@pytest.mark.parametrize('name, inner', [
    ('vgg11_bn', 0), ('resnet18_v2', 8), ('inceptionv3', 3 * 3 + 2 + 4 * 6 + 4 + 2 * 3), ('resnext50_32x4d', 0)])
def test_inner_groups_of_other_families(name, inner):
    """Chains have none, pre-activation nets have, branches that are concatenated keep their ends."""
    assert len(groups_of(name)) == inner


def test_attention_must_be_folded_first():
    net = classifier()
    nn.replace_convolutions(net)
    with pytest.raises(ValueError, match='fold the attention first'):
        prune.Channels(net)


# --- what a removed channel leaves behind ----------------------------------------------------

class Unpadded(HybridBlock):
    """Every kind of layer between prunable channels, without padding: constants are then exact at every pixel."""

    def __init__(self):
        super().__init__(prefix='unpadded_')
        with self.name_scope():
            self.first = layers.Conv2D(6, 3, in_channels=3)
            self.bn1 = layers.BatchNorm(in_channels=6)
            self.depthwise = layers.Conv2D(6, 3, groups=6, in_channels=6, use_bias=False)
            self.bn2 = layers.BatchNorm(in_channels=6, scale=False)
            self.second = layers.Conv2D(5, 3, in_channels=6, use_bias=False)
            self.bn3 = layers.BatchNorm(in_channels=5)
            self.third = layers.Conv2D(4, 3, in_channels=5)
            self.act = layers.LeakyReLU(0.1)

    def hybrid_forward(self, F, x):
        x = F.clip(F.relu(self.bn1(self.first(x))), 0, 6)
        x = F.Pooling(self.bn2(self.depthwise(x)), kernel=(2, 2), stride=(1, 1), pool_type='avg')
        x = self.act(self.bn3(self.second(x)))
        return self.third(x)


def test_constants_of_filters_that_are_0_are_carried_to_the_end():
    net = Unpadded()
    net.initialize(mx.init.Xavier())
    scatter_statistics(net)
    gone = {'first': [1, 4], 'second': [0]}
    for name, indices in gone.items():
        weight = getattr(net, name).weight.data()
        for index in indices:
            weight[index] = 0
    x = images(2, 14)
    expected = net(x).asnumpy()
    channels = prune.Channels(net)
    groups = channels.groups('all')
    assert [group.name for group in groups] == ['first', 'second']
    kept = {name: np.setdiff1d(np.arange(6 if name == 'first' else 5), indices) for name, indices in gone.items()}
    pruned = prune.prune(channels, groups, kept)
    assert pruned.widths == {'first': 4, 'depthwise': 4, 'second': 4} and pruned.dropped == []
    small = smaller(net, pruned)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(small(x).asnumpy(), expected, rtol=1e-4, atol=1e-5)
    constants = [name for name in pruned.parameters if name.endswith(('bias', 'running_mean'))]
    assert constants  # without them the outputs differ
    for name, values in channels.parameters.items():
        if name in ('third.bias', 'bn3.running_mean'):
            stay = kept['second'] if name.startswith('bn3') else slice(None)
            small._collect_params_with_prefix()[name].set_data(values.data()[:].asnumpy()[stay])
    assert np.abs(small(x).asnumpy() - expected).max() > 1e-2


def smaller(net, pruned):
    """Return ``net`` again with the shapes of ``pruned``."""
    small = type(net)()
    for name, layer in small._children.items():
        if name in pruned.widths:
            layer._kwargs['num_filter'] = pruned.widths[name]
            if layer._kwargs['num_group'] > 1:
                layer._kwargs['num_group'] = pruned.widths[name]
    for name, parameter in small._collect_params_with_prefix().items():
        parameter._shape = pruned.parameters[name].shape
    small.initialize()
    for name, parameter in small._collect_params_with_prefix().items():
        parameter.set_data(nd.array(pruned.parameters[name]))
    return small


@pytest.mark.parametrize('name', ['mobilenetv2_0.25', 'efficientnet_lite0', 'resnet50_v1b', 'resnet18_v2'])
@pytest.mark.parametrize('scope', ['inner', 'all'])
def test_a_backbone_without_its_zero_channels_computes_the_same(name, scope, tmp_path):
    """Channels of which every producer is 0 and whose constant is 0 have no effect, so removing them has none."""
    net, rng = classifier(name), np.random.RandomState(0)
    channels = prune.Channels(net)
    groups, kept = channels.groups(scope), {}
    for group in groups:
        stay = np.sort(rng.permutation(group.channels)[:group.channels // 2 + 1])
        kept[group.name] = stay
        for layer in group.producers:
            weight = channels.parameters[f'{layer}.weight'].data()
            weight[np.setdiff1d(np.arange(group.channels), stay)] = 0
    expected = net(images()).asnumpy()
    small, pruned = rebuilt(net, channels, groups, kept, name, tmp_path)
    np.testing.assert_allclose(small(images()).asnumpy(), expected, rtol=1e-3, atol=1e-4)
    assert complexity.parameters(small) < 0.8 * complexity.parameters(net)
    assert complexity.multiply_adds(small, 3, 64, 64) < 0.8 * complexity.multiply_adds(net, 3, 64, 64)
    with autograd.record():
        loss = small(images()).sum()
    loss.backward()
    assert small.body.collect_params()


def rebuilt(net, channels, groups, kept, name, folder):
    pruned = prune.prune(channels, groups, kept)
    plan = folder / 'widths.json'
    plan.write_text(json.dumps({'backbone': name, 'widths': {
        layer[len('body.'):]: width for layer, width in pruned.widths.items()}}))
    small = classifier(name, plan=plan)
    for key, parameter in small._collect_params_with_prefix().items():
        assert parameter.shape == pruned.parameters[key].shape, key
        parameter.set_data(nd.array(pruned.parameters[key]))
    return small, pruned


# --- rankings --------------------------------------------------------------------------------

class Two(HybridBlock):
    """Two convolutions, an average and a classifier."""

    def __init__(self):
        super().__init__(prefix='two_')
        with self.name_scope():
            self.conv = layers.Conv2D(3, 1, in_channels=2, use_bias=False)
            self.next = layers.Conv2D(2, 1, in_channels=3, use_bias=False)

    def hybrid_forward(self, F, x):
        return F.mean(self.next(F.relu(self.conv(x))), axis=(2, 3))


def two():
    net = Two()
    net.initialize()
    net.conv.weight.set_data(nd.array([[1, -2], [0.5, 0.5], [3, 0]]).reshape((3, 2, 1, 1)))
    net.next.weight.set_data(nd.array([[1, 2, -1], [0, 1, 1]]).reshape((2, 3, 1, 1)))
    return net


def test_l1_scores_by_hand():
    channels = prune.Channels(two())
    groups = channels.groups('all')
    np.testing.assert_allclose(prune.l1_scores(channels, groups)['conv'], np.array([3, 1, 3]) / (7 / 3), rtol=1e-6)


def test_attention_scores_by_hand():
    net = two()
    nn.replace_convolutions(net)
    net.conv.attention.set_data(nd.array([[1, 3], [0, -2], [0.5, 0.5]]).reshape((3, 2, 1, 1)))
    np.testing.assert_allclose(prune.attention_scores(net)['conv'], [2, 1, 0.5])


def test_taylor_scores_are_the_derivative_with_respect_to_gates():
    net, rng = two(), np.random.RandomState(0)
    x, y = rng.normal(size=(4, 2, 3, 3)), np.array([0, 1, 1, 0])
    w, v = (layer.weight.data().asnumpy()[:, :, 0, 0] for layer in (net.conv, net.next))

    def losses(gates):
        maps = np.maximum(np.einsum('oc,nchw->nohw', w, x), 0) * gates[:, None, None]
        scores = np.einsum('ko,nohw->nkhw', v, maps).mean(axis=(2, 3))
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(4), y]

    expected = []
    for channel in range(3):
        step = 1e-5 * np.eye(3)[channel]
        expected.append(np.abs(losses(np.ones(3) + step) - losses(np.ones(3) - step)).sum() / 2e-5)
    channels = prune.Channels(net)
    batches = [(nd.array(x[:3]), nd.array(y[:3])), (nd.array(x[3:]), nd.array(y[3:]))]
    scores = prune.taylor_scores(channels, channels.groups('all'), batches)
    np.testing.assert_allclose(scores['conv'], np.array(expected) / np.linalg.norm(expected), rtol=1e-3)


def groups_and_scores():
    return ([prune.Group(4, ['a', 'b'], ['c'])],
            {'a': np.array([1.0, 2, 3, 4]), 'b': np.array([5.0, 0, 1, 6])})  # means 3, 1, 2, 5


@pytest.mark.parametrize('rule, expected', [
    ({'share': 0.5}, [0, 3]), ({'share': 0}, [0, 1, 2, 3]), ({'share': 0.99}, [3]), ({'threshold': 2}, [0, 2, 3]),
    ({'threshold': 4.9}, [3]), ({'share': 0.75, 'multiple': 3}, [0, 2, 3]),
    ({'share': 0.5, 'multiple': 8}, [0, 1, 2, 3])])
def test_selection_by_hand(rule, expected):
    groups, scores = groups_and_scores()
    assert prune.select(groups, scores, **rule)['a'].tolist() == expected


@pytest.mark.parametrize('rule, message', [
    ({'threshold': 5.5}, "threshold 5.5 removes all 4 channels of 'a', whose scores are 1 to 5"), ({}, 'not both'),
    ({'share': 0.1, 'threshold': 1}, 'not both'), ({'share': 1.0}, 'at least 0 and below 1'),
    ({'share': -0.1}, 'at least')])
def test_wrong_selections(rule, message):
    with pytest.raises(ConfigError, match=message):
        prune.select(*groups_and_scores(), **rule)


# --- BatchNorm and plans ---------------------------------------------------------------------

def test_recalibration_measures_what_batch_norm_sees():
    net = Unpadded()
    net.initialize(mx.init.Xavier())
    scatter_statistics(net)
    batches = [images(4, 14, seed) for seed in range(3)]
    prune.precise_bn(net, batches)
    for layer, name in ((net.bn1, 'bn1'), (net.bn3, 'bn3')):
        assert layer._kwargs['use_global_stats'] is False
    inputs = [net.first(batch).asnumpy() for batch in batches]
    np.testing.assert_allclose(net.bn1.running_mean.data().asnumpy(),
                               np.mean([x.mean(axis=(0, 2, 3)) for x in inputs], axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(net.bn1.running_var.data().asnumpy(),
                               np.mean([x.var(axis=(0, 2, 3)) for x in inputs], axis=0), rtol=1e-3)
    # On one batch prediction then is what training mode computes: every layer's statistics are its own.
    prune.precise_bn(net, batches[:1])
    with autograd.train_mode():
        expected = net(batches[0]).asnumpy()
    np.testing.assert_allclose(net(batches[0]).asnumpy(), expected, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize('plan, message', [
    ({'stage1.0.out.0': 0}, 'must be a whole number from 1 to 24'), ({'stage1.0.out.0': 25}, 'from 1 to 24'),
    ({'stage1.0.out.0': 2.5}, '2.5 channels'), ({'stage1.0.out.00': 3}, "has no convolution 'stage1.0.out.00'"),
    ({'stage1.0.out.0': 23}, 'do not fit together')])
def test_plans_that_cannot_be(plan, message):
    with pytest.raises(ConfigError, match=message):
        widths.set_widths(backbones.build('mobilenetv2_0.25'), plan)


@pytest.mark.parametrize('content, message', [
    (None, 'cannot read'), ('{', 'is not a channel plan'), ('[]', 'is not a channel plan'),
    ('{"backbone": "x", "widths": 3}', 'is not a channel plan'),
    ('{"backbone": "resnet18_v1", "widths": {}}', "is a plan for 'resnet18_v1', not for 'mobilenetv2_0.25'")])
def test_files_that_are_no_plans(tmp_path, content, message):
    path = tmp_path / 'widths.json'
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=message):
        backbones.get('mobilenetv2_0.25', plan=path)

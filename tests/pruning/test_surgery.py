"""What a removed channel leaves behind, and networks that compute the same without their zero channels."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc.nn import complexity
from gluon_fgvc.pruning import Channels, prune
from tests.pruning.nets import Unpadded, classifier, images, scatter_statistics


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
    channels = Channels(net)
    groups = channels.groups('all')
    assert [group.name for group in groups] == ['first', 'second']
    kept = {name: np.setdiff1d(np.arange(6 if name == 'first' else 5), indices) for name, indices in gone.items()}
    pruned = prune(channels, groups, kept)
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
    channels = Channels(net)
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
    pruned = prune(channels, groups, kept)
    plan = folder / 'widths.json'
    plan.write_text(json.dumps({'backbone': name, 'widths': {
        layer[len('body.'):]: width for layer, width in pruned.widths.items()}}))
    small = classifier(name, plan=plan)
    for key, parameter in small._collect_params_with_prefix().items():
        assert parameter.shape == pruned.parameters[key].shape, key
        parameter.set_data(nd.array(pruned.parameters[key]))
    return small, pruned

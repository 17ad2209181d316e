"""Groups of channels are read from the graphs of all families."""
import pytest

from gluon_fgvc import nn
from gluon_fgvc.pruning import Channels
from tests.pruning.nets import classifier


def groups_of(name, scope='inner'):
    return {group.name: group for group in Channels(classifier(name)).groups(scope)}


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
        Channels(net)

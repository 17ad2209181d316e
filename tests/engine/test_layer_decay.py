"""Which factor on the learning rate each block of a backbone gets."""
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.engine.layer_decay import factors
from gluon_fgvc.nn import Classifier
from gluon_fgvc.nn.parameters import structural


def test_by_hand():
    names = ['body.stem.0.weight', 'body.stem.1.gamma', 'body.stage1.0.conv.weight', 'body.stage1.0.bn.beta',
             'body.stage2.0.weight', 'part.body.stem.0.weight', 'part.body.stage1.x.weight', 'body.pool.weight',
             'classifier.bias']
    assert factors(names, 0.5) == {
        'body.stem.0.weight': 1 / 8, 'body.stem.1.gamma': 1 / 4, 'body.stage1.0.conv.weight': 1 / 2,
        'body.stage1.0.bn.beta': 1 / 2, 'body.stage2.0.weight': 1,
        'part.body.stem.0.weight': 1 / 2, 'part.body.stage1.x.weight': 1}
    assert set(factors(names, 1.0).values()) == {1.0}


@pytest.mark.parametrize('name, blocks', [('efficientnet_lite0', 18), ('resnet18_v1', 8)])
def test_of_a_backbone(name, blocks):
    """Lite0: a convolution, 16 blocks, a convolution. ResNet-18: 8 blocks, and what its stem is made of."""
    parameters = structural(Classifier(backbones.build(name), 2))
    found = factors(parameters, 0.5)
    assert set(parameters) - set(found) == {'classifier.weight', 'classifier.bias'}
    values = list(found.values())
    assert values == sorted(values) and values[-1] == 1  # it rises from the first block to the last
    assert blocks <= len(set(values)) <= blocks + 2

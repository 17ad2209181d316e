"""Channel plans that cannot be are refused in one line."""
import mxnet as mx
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.backbones import widths
from gluon_fgvc.errors import ConfigError


@pytest.mark.parametrize('plan, message', [
    ({'stage1.0.out.0': 0}, 'must be a whole number from 1 to 24'), ({'stage1.0.out.0': 25}, 'from 1 to 24'),
    ({'stage1.0.out.0': 2.5}, '2.5 channels'), ({'stage1.0.out.00': 3}, "has no convolution 'stage1.0.out.00'"),
    ({'stage1.0.out.0': 23}, 'do not fit together')])
def test_plans_that_cannot_be(plan, message):
    with pytest.raises(ConfigError, match=message):
        widths.set_widths(backbones.build('mobilenetv2_0.25'), plan)


def test_a_hidden_layer_follows_the_last_convolution():
    backbone = backbones.build('cluttered_cnn')
    widths.set_widths(backbone, {'conv5.2': 7})
    backbone.initialize()
    backbone.hybridize()
    assert backbone.pool(backbone(mx.nd.zeros((2, 3, 40, 40)))).shape == (2, 256) == (2, backbone.pool_units)
    assert backbone.channels == (32, 64, 128, 7)


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

"""The wide nets that no zoo has: WARN's against torch, ImageNet's against the ResNet that they widen."""
import os

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.backbones import wide_resnet
from gluon_fgvc.errors import ConfigError
from tests.backbones.files import make_wrn

GOLDEN = os.path.join(os.path.dirname(make_wrn.__file__), 'wrn.npz')


@pytest.mark.slow
@pytest.mark.parametrize('name', ['warn_wideresnet28_10', 'warn_wideresnet28_10_base'])
def test_logits_equal_torch(name, tmp_path):
    shapes = make_wrn.shapes(stem_bn=not name.endswith('_base'))
    arrays = {key: mx.nd.array(make_wrn.draw(key, shape)) for key, shape in shapes.items()}
    extra = {'att2.W': mx.nd.ones(3), 'output_gate.W': mx.nd.ones(3)}  # attention modules are not the backbone's
    mx.nd.save(str(tmp_path / 'x.params'), {**arrays, **extra})
    net = backbones.get(name, str(tmp_path / 'x.params'))
    weight, bias, classes = net.source_classifier
    assert classes is None
    logits = net.pool(net(mx.nd.array(make_wrn.images()))).asnumpy() @ weight.T + bias
    np.testing.assert_allclose(logits, np.load(GOLDEN)[name], rtol=1e-4, atol=1e-4)


def test_the_shortcut_sees_the_raw_input():
    block = wide_resnet._Block(8, 4, 2)
    block.initialize(mx.init.Xavier())
    block.bn1.gamma.set_data(mx.nd.zeros(8))  # and beta is 0: the other path adds nothing
    x = mx.nd.array(np.random.RandomState(0).standard_normal((2, 4, 6, 6)))  # half of it negative
    weight = block.conv_reduce.weight.data().asnumpy()[:, :, 0, 0]
    np.testing.assert_allclose(block(x).asnumpy(), np.einsum('oc,nchw->nohw', weight, x.asnumpy()[:, :, ::2, ::2]),
                               rtol=1e-5, atol=1e-6)


def test_dropout_lies_between_the_convolutions_of_each_block_in_training(monkeypatch):
    monkeypatch.setattr(wide_resnet, 'NAMES', ('warn_wideresnet10_1',))
    backbone, _ = wide_resnet.build('warn_wideresnet10_1', 'gap')
    backbone.initialize(mx.init.Xavier())
    images = mx.nd.random.uniform(shape=(2, 3, 8, 8))
    names, before = list(backbone._collect_params_with_prefix()), backbone(images).asnumpy()
    wide_resnet.set_dropout(backbone, 0.5)
    assert list(backbone._collect_params_with_prefix()) == names
    assert (backbone(images).asnumpy() == before).all()
    seen, sides = [], []
    for stage in backbone.stage_names:
        block = getattr(backbone, stage)[0]
        block.conv1.register_forward_pre_hook(lambda block, inputs: seen.append((inputs[0] == 0).mean().asscalar()))
        block.conv1.register_forward_pre_hook(
            lambda block, inputs: sides.extend((inputs[0] == 0).mean(axis=(2, 3)).asnumpy().ravel().tolist()))
        block.bn1.beta.set_data(10 * mx.nd.ones_like(block.bn1.beta.data()))  # no other zeros
    with mx.autograd.train_mode():
        backbone(images)
    assert seen == pytest.approx([0.5] * 3, abs=0.25)
    assert set(sides) <= {0.0, 1.0} and {0.0, 1.0} <= set(sides)  # whole channels


def test_dropout_is_refused_where_there_is_none():
    with pytest.raises(ConfigError, match=r"^backbone.dropout: 'resnet18_v1b' has no dropout within its blocks; only "
                                          'warn_wideresnet28_10, '):
        backbones.build('resnet18_v1b', dropout=0.3)


def test_only_the_3x3_convolutions_of_a_wide_resnet_are_wider():
    plain, wide = (backbones.build(name)._collect_params_with_prefix() for name in ('resnet50_v1b', 'wide_resnet50_2'))
    assert list(plain) == list(wide)
    wider = {name for name in plain if plain[name].shape != wide[name].shape}
    inside = ['conv1.weight', 'conv2.weight', 'conv3.weight', *(
        f'{bn}.{part}' for bn in ('bn1', 'bn2') for part in ('gamma', 'beta', 'running_mean', 'running_var'))]
    assert wider == {name for name in plain if name.startswith('stage') and name.split('.', 2)[2] in inside}
    assert [wide[f'stage{stage}.1.conv2.weight'].shape for stage in (1, 2, 3, 4)] == [
        (width, width, 3, 3) for width in (128, 256, 512, 1024)]

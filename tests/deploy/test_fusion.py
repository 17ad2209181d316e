"""A graph fused by oneDNN computes what it did, for any batch and size, and a Predictor says when it would not."""
import json
import re
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import SymbolBlock

from gluon_fgvc import backbones, deploy
from gluon_fgvc.deploy import engines, fusion
from tests.backbones.test_backbones import images, names, small, unsettle
from tests.deploy.small import build_net, export_net, write_pictures
from tests.rounding import assert_same_but_for_rounding


def imported(name, folder):
    """A backbone with parameters as if trained, as a graph."""
    backbone = backbones.get(name)
    unsettle(backbone)
    backbone.hybridize()
    backbone(small(name))
    backbone.export(str(folder / 'net'))
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # MXNet's, that the type of the input is open
        return SymbolBlock.imports(str(folder / 'net-symbol.json'), ['data'],
                                   str(folder / 'net-0000.params'))


def operators(block):
    return [node['op'] for node in json.loads(block(mx.sym.var('data')).tojson())['nodes'] if node['op'] != 'null']


# What MXNet 1.9.1 fails on, and gets wrong: should it learn to, these tests tell.
FAILS = re.compile(r'se_resnet(18|34)_v2|se_resnet(50|101|152)_.*|se_resnext.*|senet.*')
WRONG = re.compile(r'cifar_resnet\d+_v2')


@pytest.mark.parametrize('name', names(['resnet18_v1', 'mobilenetv2_0.25', 'efficientnet_lite0', 'resnest14',
                                        'warn_wideresnet28_10', 'se_resnet18_v2', 'cifar_resnet20_v2']))
def test_backbones(name, tmp_path):
    graph = imported(name, tmp_path)
    message = 'MXNet cannot: ' if FAILS.fullmatch(name) else 'would be off by ' if WRONG.fullmatch(name) else None
    if message:
        with pytest.raises(fusion.NotFused, match=message):
            fusion.fuse(graph, 'data', small(name))
        return
    fused = fusion.fuse(graph, 'data', small(name))
    for x in (small(name), small(name, 3)[1:2], images(1, 3, 96, 112)):
        assert_same_but_for_rounding(fused(x).asnumpy(), graph(x).asnumpy())


def test_a_fusion_that_is_slightly_wrong_is_more_than_rounding(tmp_path):
    graph = imported('resnet18_v1', tmp_path)
    fused = fusion.fuse(graph, 'data', small('resnet18_v1'))
    expected = fused(small('resnet18_v1')).asnumpy()
    gamma = next(p for name, p in fused.collect_params().items() if name.endswith('gamma'))
    gamma.set_data(gamma.data() * 1.001)  # one layer's scale, folded with an error of a thousandth
    again = fusion.fuse(graph, 'data', small('resnet18_v1'))  # of the shared parameters
    with pytest.raises(AssertionError, match='units'):
        assert_same_but_for_rounding(again(small('resnet18_v1')).asnumpy(), expected)


@pytest.mark.parametrize('name', ['efficientnet_lite0', 'mobilenetv2_0.25'])
def test_no_clip_is_left(name, tmp_path):
    graph = imported(name, tmp_path)
    assert 'clip' in operators(graph)
    fused = fusion.fuse(graph, 'data', small(name))
    fused.export(str(tmp_path / 'fused'))
    left = [node['op'] for node in json.loads((tmp_path / 'fused-symbol.json').read_text())['nodes']]
    assert 'clip' not in left and 'BatchNorm' not in left and any('conv' in op for op in left)


def test_only_a_needless_relu_goes():
    data = mx.sym.var('data')
    for low, kept in ((0, 0), (1, 0), (-1, 1)):
        symbol = mx.sym.clip(mx.sym.Activation(data, act_type='relu'), low, 6)
        without = mx.sym.load_json(fusion._without_needless_relu(symbol.tojson()))
        assert without.tojson().count('"Activation"') == kept
        x = mx.nd.array([-3, -0.5, 0, 0.5, 3, 9])
        np.testing.assert_array_equal(without.eval(data=x)[0].asnumpy(), symbol.eval(data=x)[0].asnumpy())
    tanh = mx.sym.clip(mx.sym.Activation(data, act_type='tanh'), 0, 6).tojson()
    assert '"Activation"' in fusion._without_needless_relu(tanh)


@pytest.mark.parametrize('bake', [False, True])
def test_predictor(bake, tmp_path):
    pictures = write_pictures(tmp_path / 'pictures')
    export_net(build_net(), tmp_path / 'export', bake_preprocessing=bake, bake_softmax=bake)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        fused = deploy.Predictor(tmp_path / 'export', batch_size=3, engine='mxnet_fused').predict(pictures)
    plain = deploy.Predictor(tmp_path / 'export', batch_size=3, engine='mxnet').predict(pictures)
    np.testing.assert_allclose(fused, plain, atol=1e-6)


def test_an_mxnet_without_onednn_predicts_as_exported(tmp_path, monkeypatch):
    pictures = write_pictures(tmp_path / 'pictures')
    export_net(build_net(), tmp_path / 'export')
    plain = deploy.Predictor(tmp_path / 'export', engine='mxnet').predict(pictures)
    assert fusion.is_available(mx.cpu())  # as the locked wheels have it
    monkeypatch.setattr(mx.runtime.Features, 'is_enabled', lambda features, name: name != 'MKLDNN')
    monkeypatch.setattr(engines, 'fuse', None)
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)
        found = deploy.Predictor(tmp_path / 'export').predict(pictures)
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize('wrong', [lambda images: images * float('nan'), lambda images: images * 1.01])
def test_a_wrong_result_is_not_used(wrong, tmp_path, monkeypatch):
    pictures = write_pictures(tmp_path / 'pictures')
    export_net(build_net(), tmp_path / 'export')
    plain = deploy.Predictor(tmp_path / 'export', engine='mxnet').predict(pictures)
    right = SymbolBlock.optimize_for

    def optimized(block, images, **options):
        right(block, images, **options)
        block.register_forward_hook(lambda _, __, output: output.__setitem__(slice(None), wrong(output)))

    monkeypatch.setattr(SymbolBlock, 'optimize_for', optimized)
    with pytest.warns(UserWarning, match='engine mxnet_fused is not used: its outputs would be off by'):
        found = deploy.Predictor(tmp_path / 'export').predict(pictures)
    np.testing.assert_array_equal(found, plain)

"""TASN: what each net sees, which loss teaches whom, and that the deployed graph is the master-net."""
import dataclasses
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc import backbones, data, methods
from gluon_fgvc import runs as run
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.step import weighted_sum
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.tasn import SharedDilations
from gluon_fgvc.nn.losses import distillation
from gluon_fgvc.nn.parameters import structural

ROOT = Path(__file__).parents[2]
CLASSES = 3
SMALL = {'attention_backbone': 'mobilenetv2_0.25', 'attention_size': 64, 'attention_channels': 8, 'sampled_size': 32}
NETS = ('both', 'master', 'part')


def create(**options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create('tasn', backbones.get('mobilenetv2_0.25'), CLASSES, **{**SMALL, **options})


def photographs(count=2, side=64, seed=0):
    rng = np.random.RandomState(seed)
    coarse = mx.nd.array(rng.normal(size=(count, 3, 8, 8)))
    return mx.nd.contrib.BilinearResize2D(coarse, height=side, width=side)


def outputs_of(method, images):
    return dict(zip(method.outputs, method.train_net(images)))


def gradients(method, images, labels, only):
    """Return the names of the parameters that loss term ``only`` reaches."""
    parameters = structural(method.train_net)
    learning = phases.enter(method.phases(1)[0], method.train_net, False)
    with autograd.record():
        loss = method.losses(outputs_of(method, images), labels, method.phases(1)[0])[only]
    for name in learning:
        parameters[name].grad()[:] = 0
    loss.backward()
    return {name for name in learning if parameters[name].grad().asnumpy().any()}


def test_outputs_and_terms_of_each_kind():
    labels = mx.nd.array([0, 2])
    for nets, names, terms in (
            ('both', {'logits', 'attention', 'master', 'part', 'part_shared'}, {'distillation'}),
            ('master', {'logits', 'attention'}, set()), ('part', {'logits', 'attention'}, set())):
        method = create(nets=nets)
        assert set(method.outputs) == names
        assert set(method.losses(outputs_of(method, photographs()), labels, method.phases(1)[0])) == names | terms


def test_loss_is_the_released_sum():
    """CE_att + (CE_part + CE_master + CE_part_shared + CE_master_shared) / 2 + D, from the outputs by hand."""
    method, labels = create(parts=2), mx.nd.array([0, 2])
    outputs = outputs_of(method, photographs())
    phase = method.phases(1)[0]
    found = weighted_sum(method.losses(outputs, labels, phase), phase, labels, None).asnumpy()

    def ce(scores):
        return -np.log(mx.nd.softmax(scores).asnumpy()[[0, 1], [0, 2]])

    def d(part):
        return distillation(outputs['master'], part, 10.0).asnumpy()

    first, second = ([outputs[name][:, p] for name in ('part', 'part_shared')] for p in (0, 1))
    parts = [(ce(a) + ce(b)) / 2 + d(a) for a, b in (first, second)]
    expected = ce(outputs['attention']) + (ce(outputs['master']) + ce(outputs['logits'])) / 2 + np.mean(parts, axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_weights_of_the_terms():
    weights = create(attention_weight=3, classification_weight=0.25, distillation_weight=0.7).phases(1)[0].loss_weights
    assert weights == {'logits': 0.25, 'attention': 3, 'master': 0.25, 'part': 0.25, 'part_shared': 0.25,
                       'distillation': 0.7}
    assert create(nets='master').phases(1)[0].loss_weights == {'logits': 1, 'attention': 1}


def test_who_learns_from_what():
    images, labels = photographs(), mx.nd.array([0, 2])
    method = create()

    def parts(only, method=method):
        return {name.split('.')[0] for name in gradients(method, images, labels, only)}

    assert parts('attention') == {'localisation', 'attention_classifier'}
    assert parts('logits') == parts('part_shared') == {'body', 'classifier'}
    assert parts('master') == {'body', 'master_classifier'}
    assert parts('part') == {'body', 'part_classifier'}
    assert parts('distillation') == {'body', 'master_classifier', 'part_classifier'}
    assert parts('distillation', create(detach_teacher=True)) == {'body', 'master_classifier'}


@pytest.mark.parametrize('options', [{}, {'nets': 'master'}, {'nets': 'part'}, {'sampler': 'uniform'},
                                     {'sampler': 'ssn'}, {'sampler_mode': 'fast'}, {'parts': 2, 'choice': 'ranked'},
                                     {'normalisation': 'XTX', 'square': False}, {'attention_stages': 3}], ids=str)
def test_every_kind_trains_compiled(options):
    """Finite outputs, and a gradient for every parameter of the nets that learn."""
    method, images, labels = create(sampled_size=64, **options), photographs(3), mx.nd.array([0, 2, 1])
    phase = method.phases(1)[0]
    learning = phases.enter(phase, method.train_net, True)
    parameters = structural(method.train_net)
    with autograd.record():
        loss = weighted_sum(method.losses(outputs_of(method, images), labels, method.phases(1)[0]), phase, labels, None)
    loss.backward()
    assert np.isfinite(loss.asnumpy()).all()
    for name in learning:
        gradient = parameters[name].grad().asnumpy()
        assert np.isfinite(gradient).all() and gradient.any(), name
    method.net.hybridize()
    scores = method.net(images)
    assert scores.shape == (3, CLASSES) and np.isfinite(scores.asnumpy()).all()


def test_the_deployed_net_classifies_the_structure_preserved_image():
    """Step by step from the pieces; where attention is the same everywhere, that is a plain resize."""
    method, images = create(), photographs()
    net = method.net
    attention = net.attention(net.localisation(images))
    grid = net.sampler.grid(images, attention.mean(axis=1, keepdims=True))
    sampled = mx.nd.BilinearSampler(images, grid)
    assert sampled.shape == (2, 3, 32, 32)
    expected = net.classifier(net.body.pool(net.body(sampled)))
    np.testing.assert_allclose(net(images).asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
    for block in (net.localisation.set1, net.localisation.set2):  # equal features everywhere
        block.weight.set_data(block.weight.data() * 0)
        block.bias.set_data(block.bias.data() + 1)
    places = np.arange(32) * 63 / 32 / 63 * 2 - 1  # i·(N-1)/O pixels
    grid = mx.nd.array(np.broadcast_to(np.stack(np.meshgrid(places, places)), (2, 2, 32, 32)))
    expected = net.classifier(net.body.pool(net.body(mx.nd.BilinearSampler(images, grid))))
    np.testing.assert_allclose(net(images).asnumpy(), expected.asnumpy(), rtol=1e-4, atol=1e-4)


def test_details_differ_from_step_to_step_and_repeat_with_the_seed():
    method, images = create(attention_channels=32), photographs()
    method.train_net.hybridize()
    runs = []
    for seed in (5, 5, 6):
        mx.random.seed(seed)
        runs.append([outputs_of(method, images)['part'].asnumpy() for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any() and (runs[0][0] != runs[2][0]).any()


def test_part_net_is_tested_on_the_mean_map_not_squared():
    method, images = create(nets='part'), photographs()
    attention = method.net.attention(method.net.localisation(images)).mean(axis=1, keepdims=True)
    np.testing.assert_array_equal(method.net.sampler.grid(images, attention).asnumpy(),
                                  method.detail_sampler.grid(images, attention).asnumpy())
    master = create(nets='master').net.sampler.grid(images, attention).asnumpy()
    assert np.abs(master - method.detail_sampler.grid(images, attention).asnumpy()).max() > 1e-3


def test_shared_dilations_by_hand():
    """One weight at dilations 1 and 2: ones on a single bright pixel light the union of both neighbourhoods."""
    block = SharedDilations(1, 1, (1, 2))
    block.initialize(mx.init.One())
    x = np.zeros((1, 1, 7, 7))
    x[0, 0, 3, 3] = 1
    expected = np.zeros((7, 7))
    expected[2:5, 2:5] += 1
    expected[1:6:2, 1:6:2] += 1
    np.testing.assert_array_equal(block(mx.nd.array(x))[0, 0].asnumpy(), expected)


def test_maps_are_eighths_and_pair_features_with_attention():
    method = create()
    maps = method.explain(photographs()).maps
    assert maps.pop('mean attention').shape == (2, 8, 8)
    names = list(maps)
    assert len(names) >= 2 and all(
        attention == feature.replace('features', 'attention') for feature, attention in zip(names[::2], names[1::2]))
    grids = method.explain(photographs()).grids
    assert set(grids) == {'structure-preserved', 'detail-preserved'}
    for grid in grids.values():
        assert grid.shape == (2, 2, 32, 32) and np.abs(grid.asnumpy()).max() <= 1 + 1e-6


def test_isqrt_head_with_tasn():
    backbone = backbones.get('mobilenetv2_0.25', global_pool='isqrt_cov', output_stride=16)
    method = methods.create('tasn', backbone, CLASSES, **SMALL)
    assert method.net(photographs()).shape == (2, CLASSES)
    assert method.train_net(photographs())[3].shape == (2, 1, CLASSES)


def test_the_compiled_net_refuses_what_is_not_square():
    graph = create().net(mx.sym.var('data'))
    with pytest.raises(mx.MXNetError):
        graph.infer_shape(data=(1, 3, 64, 96))
    assert graph.infer_shape(data=(5, 3, 96, 96))[1] == [(5, CLASSES)]


def test_constants_of_a_sampler_live_where_the_backbone_does():
    contexts = [mx.cpu(0), mx.cpu(1)]
    method = methods.create('tasn', backbones.get('mobilenetv2_0.25', ctx=contexts), CLASSES, **SMALL, sampler='ssn')
    for name, parameter in structural(method.train_net).items():
        assert parameter.list_ctx() == contexts, name
    assert method.net(photographs().as_in_context(contexts[1])).context == contexts[1]


def test_its_parameters_start_a_plain_network(tmp_path):
    """The localisation net and the further classifiers are left out."""
    method, path = create(), str(tmp_path / 'tasn.params')
    method.train_net.save_parameters(path)
    backbone = backbones.get('mobilenetv2_0.25', path)
    np.testing.assert_array_equal(backbone(photographs()).asnumpy(), method.net.body(photographs()).asnumpy())
    np.testing.assert_array_equal(backbone.source_classifier[0], method.net.classifier.weight.data().asnumpy())


def test_a_localisation_net_of_fewer_stages():
    method = create(attention_stages=2)
    names = structural(method.train_net)
    assert any(name.startswith('localisation.body.stage2.') for name in names)
    assert not any(name.startswith('localisation.body.stage3.') for name in names)
    assert method.net.localisation.set1.weight.shape[1] == method.net.localisation.body.channels[-1]
    assert method.net.localisation(photographs()).shape == (2, 8, 8, 8)
    with pytest.raises(ConfigError, match='cannot be cut to 9 stages: it has 4'):
        create(attention_stages=9)


@pytest.mark.parametrize('path', sorted((ROOT / 'configs/tasn').glob('*.yaml')), ids=lambda path: path.stem)
def test_configurations(path):
    """Each is complete and valid, names itself, and takes square images; those of the table differ in its two keys."""
    cfg = run.load_config(path)
    assert f'--cfg configs/tasn/{path.name}' in path.read_text()
    for transform in (data.TrainTransform(cfg.data.train), data.EvalTransform(cfg.data.eval)):
        assert transform.output_size[0] == transform.output_size[1]
    if path.stem.startswith('elpv'):
        first = run.load_config(ROOT / 'configs/tasn/elpv_efficientnet_lite0.yaml')
        varied = dataclasses.replace(first.method.options, nets=cfg.method.options.nets,
                                     sampler=cfg.method.options.sampler)
        assert dataclasses.replace(first, method=dataclasses.replace(first.method, options=varied)) == cfg
        plain = run.load_config(ROOT / 'configs/finetune/elpv_efficientnet_lite0_128px.yaml')
        assert (plain.train, plain.backbone, plain.run) == (cfg.train, cfg.backbone, cfg.run)
        assert data.EvalTransform(plain.data.eval).output_size[0] == cfg.method.options.sampled_size


def test_wrong_backbones_of_the_localisation_net():
    with pytest.raises(ConfigError, match="unknown backbone 'resnet18'"):
        create(attention_backbone='resnet18')
    with pytest.raises(ConfigError, match='output_stride'):
        create(attention_backbone='vgg16')


def test_the_released_localisation_net():
    """Strides 1, 1, 2, 1 instead of dilation, MSRA's initialisation; the maps have the same size."""
    mx.random.seed(0)
    released, ours = (create(attention_backbone='resnet18_v2', attention_channels=256, **options).net.localisation
                      for options in ({'attention_strides': [1, 1, 2, 1], 'attention_init': 'msra'}, {}))
    assert released.body.strides == (4, 4, 8, 8) and ours.body.strides == (4, 8, 8, 8)
    assert released(photographs()).shape == ours(photographs()).shape == (2, 256, 8, 8)
    kernels = [block._kwargs['dilate'] for block in released.body.stage4[0]._children.values()
               if isinstance(block, mx.gluon.nn.Conv2D)]
    assert set(kernels) == {(1, 1)}
    weight = released.set1.weight.data().asnumpy()
    fan_in, fan_out = 512 * 9, 256 * 9
    assert weight.std() == pytest.approx(np.sqrt(2 / (1 + 0.25 ** 2) / ((fan_in + fan_out) / 2)), rel=0.02)
    with pytest.raises(ConfigError, match=r"strides \[2, 1, 1, 1\] do not suit 'resnet18_v2', whose stages have \[1"):
        create(attention_backbone='resnet18_v2', attention_strides=[2, 1, 1, 1])

"""WARN against the released model's numbers and counts, in the limits where it must be the plain network, as a user."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, nd

from gluon_fgvc import backbones, methods
from gluon_fgvc.backbones import wide_resnet
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.step import named, weighted_sum
from gluon_fgvc.errors import ConfigError, WeightsError
from gluon_fgvc.methods import warn
from gluon_fgvc.nn.complexity import multiply_adds, parameters
from gluon_fgvc.nn.parameters import structural
from tests.nn.test_attend_rectify import Literal

FILES = Path(__file__).with_name('files')
CLASSES = 4


def create(backbone='mobilenetv2_0.25', **options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create('warn', backbones.get(backbone), CLASSES, **options)


def images(side=64, count=3, seed=0):
    return nd.array(np.random.RandomState(seed).normal(size=(count, 3, side, side)))


def outputs_of(method, x):
    return named(method.outputs, method.train_net(x))


def probabilities(scores):
    return nd.softmax(scores, axis=-1).asnumpy()


# --- the released model ----------------------------------------------------------------------

@pytest.fixture
def released():
    return np.load(FILES / 'released_warn.npz')


def small_released(**options):
    """A WRN-10-1 with three modules of two heads, as made by the released code for the file."""
    backbone, _ = wide_resnet.build('warn_wideresnet10_1', 'gap')
    backbone.initialize()
    return methods.create('warn', backbone, CLASSES, depth=3, width=2, **options)


def write_state(released, path, **changes):
    arrays = {key[len('state.'):]: value for key, value in released.items() if key.startswith('state.')}
    arrays.update(changes)
    mx.nd.save(str(path), {name: nd.array(np.atleast_1d(array).astype('float32'))
                           for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize('global_gate, key', [('softmax', 'output'), ('sigmoid', 'output_sigmoid')])
@pytest.mark.parametrize('hybridized', [False, True])
def test_released_weights_give_the_released_outputs(released, tmp_path, global_gate, key, hybridized):
    method = small_released(global_gate=global_gate)
    warn.load_released(method, write_state(released, tmp_path / 'warn.params'))
    method.net.hybridize(hybridized)
    with autograd.predict_mode():
        scores = method.net(nd.array(released['x'].astype('float32')))
    np.testing.assert_allclose(scores.asnumpy(), released[key], atol=2e-5)
    np.testing.assert_allclose(probabilities(scores).sum(1), 1, atol=1e-6)


def test_training_loss_and_gradients_are_the_released_ones(released, tmp_path):
    method = small_released()
    path = write_state(released, tmp_path / 'warn.params')
    warn.load_released(method, path)
    method.train_net.cast('float64')
    phase, = method.phases(1)
    phases.enter(phase, method.train_net, True)
    labels = nd.array(released['y'], dtype='float64')
    with autograd.record():
        outputs = outputs_of(method, nd.array(released['x'], dtype='float64'))
        terms = method.losses(outputs, labels, method.phases(1)[0])
        total = terms['nll'].mean() + terms['mask_overlap']
    total.backward()
    np.testing.assert_allclose(outputs['logits'].asnumpy(), released['train_output'], atol=1e-9)
    assert terms['mask_overlap'].asscalar() == pytest.approx(float(released['reg']), rel=1e-6)
    assert total.asscalar() == pytest.approx(float(released['loss']), abs=1e-9)
    parameters = _names(method)
    gradients = {key[len('grad.'):]: released[key] for key in released if key.startswith('grad.')}
    assert gradients.keys() == {name for name in parameters if 'running' not in name}
    for name, (norm, total) in gradients.items():
        gradient = parameters[name].grad().asnumpy()
        assert np.sqrt((gradient ** 2).sum()) == pytest.approx(norm, rel=1e-6), name
        assert gradient.sum() == pytest.approx(total, abs=1e-6 * norm), name


def _names(method):
    """Released name → parameter, caught on the way to the loader."""
    caught = {}
    original, warn.loading.load_into = warn.loading.load_into, lambda body, namings, path: caught.update(
        namings[0].parameters)
    try:
        warn.load_released(method, '')
    finally:
        warn.loading.load_into = original
    return caught


@pytest.mark.parametrize('changes, says', [
    ({'att1.score.conv.weight': None}, '1 missing: att1.score.conv.weight'),
    ({'att3.score.conv.weight': np.zeros(3)}, '1 unexpected: att3.score.conv.weight'),
    ({'output_gate.gates.weight': np.zeros((3, 64))}, '1 of another shape: output_gate.gates.weight')])
def test_a_state_dict_that_does_not_fit(released, tmp_path, changes, says):
    method = small_released()
    before = method.train_net.classifier.weight.data().asnumpy()
    with pytest.raises(WeightsError, match=says):
        warn.load_released(method, write_state(released, tmp_path / 'warn.params', **changes))
    np.testing.assert_array_equal(method.train_net.classifier.weight.data().asnumpy(), before)


def test_released_weights_are_for_released_nets():
    with pytest.raises(ConfigError, match='the released code.s weights are for warn_wideresnet'):
        warn.load_released(create(), 'warn.pth')


# Trainable parameters and GMAC of one image as the released code computes it, measured on it.
COUNTS = {
    ('28_10', 0, 10): (36_479_194, 5.243), ('28_10', 0, 100): (36_536_884, 5.243),
    ('28_10', 2, 10): (36_895_872, 5.296), ('28_10', 2, 100): (40_063_962, 5.695),
    ('28_10', 3, 10): (36_965_634, 5.367), ('28_10', 3, 100): (40_652_124, 6.296),
    ('40_10', 3, 10): (56_328_194, 8.198), ('40_10', 3, 100): (60_014_684, 9.127),
}


@pytest.mark.parametrize('size, depth, classes', COUNTS)
def test_parameters_and_multiplications(size, depth, classes):
    backbone, _ = wide_resnet.build(f"warn_wideresnet{size}{'' if depth else '_base'}", 'gap')
    backbone.collect_params().initialize = None  # 57 million numbers are counted, not drawn
    base = multiply_adds(backbone, 3, 32, 32) + 640 * classes
    if depth == 0:
        count, total = parameters(backbone) + 641 * classes, base
    else:
        stages = backbone.stage_names[::-1][:depth]
        net = warn.Warn(backbone, classes, stages, warn.Options(depth=depth))
        count, total = parameters(net), base
        for stage in stages:
            place = backbone.stage_names.index(stage)
            side = 32 // backbone.strides[place]
            total += multiply_adds(Literal(getattr(net, f'attend_{stage}')), backbone.channels[place], side, side)
        # Our own convolutions are those of the masks. (Averages under masks, as many again, are not counted.)
        masks = sum(9 * 4 * c * (32 // s) ** 2 for c, s in list(zip(backbone.channels, backbone.strides))[::-1][:depth])
        assert multiply_adds(net, 3, 32, 32) == base + masks + 640 * (depth + 1)
    assert (count, round(total / 1e9, 3)) == COUNTS[size, depth, classes]


# --- limits and switches ---------------------------------------------------------------------

def test_a_shut_module_leaves_the_plain_network():
    """All gates on the classifier: the network without attention (end of Sec. 3.5)."""
    method = create(global_gate_norm=False)
    plain = methods.create('finetune', method.train_net.body, CLASSES)
    for ours, theirs in ((plain.net.classifier.weight, method.train_net.classifier.weight),
                         (plain.net.classifier.bias, method.train_net.classifier.bias)):
        ours.set_data(theirs.data())
    for stage in method.stages:  # modules that say what the classifier says would be as good
        module = getattr(method.train_net, f'attend_{stage}')
        module.output_weight.set_data(nd.zeros(module.output_weight.shape))
    with autograd.predict_mode():
        scores, expected = method.net(images()), plain.net(images())
        gates = outputs_of(method, images())['gates'].asnumpy()
    # Modules of zeros say log(1/K) of every class: what is left is the classifier's log-probability times its gate.
    logs = nd.log_softmax(expected).asnumpy() * gates[:, -1:] - np.log(CLASSES) * (1 - gates[:, -1:])
    np.testing.assert_allclose(scores.asnumpy(), logs, atol=1e-5)
    np.testing.assert_array_equal(scores.asnumpy().argmax(1), expected.asnumpy().argmax(1))


@pytest.mark.parametrize('options', [
    {'mask': 'sigmoid'}, {'gates': False}, {'global_gate': 'sigmoid'}, {'global_gate_norm': False},
    {'combine': 'logits'}, {'combine': 'probs'}, {'combine': 'linear'}, {'combine': 'linear', 'gates': False},
    {'combine': 'probs', 'gates': False}, {'regulariser': 0}, {'block_gradient': True}, {'depth': 4, 'width': 1},
    {'stages': ['stage2', 'stage4']}], ids=str)
def test_each_switch_trains_and_gives_probabilities(options):
    method = create(**options)
    phase, = method.phases(1)
    phases.enter(phase, method.train_net, True)
    labels = nd.array([0, 1, 2])
    with autograd.record():
        outputs = outputs_of(method, images())
        terms = method.losses(outputs, labels, method.phases(1)[0])
        total = weighted_sum(terms, phase, labels, None)
    total.backward()
    assert np.isfinite(total.asnumpy()).all()
    assert ('gates' in outputs) == (options.get('gates', True) and options.get('combine') != 'linear')
    assert ('mask_overlap' in terms) == (options.get('regulariser', 1) > 0 and options.get('width', 4) > 1)
    with autograd.predict_mode():
        np.testing.assert_allclose(probabilities(method.net(images())).sum(1), 1, atol=1e-6)
    assert min(values.asnumpy().min() for values in method.explain(images()).maps.values()) >= 0


def test_each_switch_is_another_network():
    scores = []
    for options in ({}, {'mask': 'sigmoid'}, {'gates': False}, {'global_gate': 'sigmoid'}, {'combine': 'logits'},
                    {'combine': 'probs'}, {'depth': 1}, {'width': 2}):
        with autograd.predict_mode():
            scores.append(create(**options).net(images()).asnumpy())
    for index, values in enumerate(scores):
        assert all(np.abs(values - other).max() > 1e-4 for other in scores[:index]), index


def test_probs_score_the_logarithm_of_the_mixture():
    method = create(combine='probs')
    with autograd.predict_mode():
        scores = method.net(images())
    np.testing.assert_allclose(nd.exp(scores).asnumpy(), probabilities(scores), rtol=1e-4)
    labels = nd.array([0, 1, 2])
    loss = method.losses(outputs_of(method, images()), labels, method.phases(1)[0])['cross_entropy'].asnumpy()
    np.testing.assert_allclose(loss, -nd.pick(scores, labels).asnumpy(), atol=1e-4)


def test_log_probs_are_trained_without_a_second_softmax():
    method = create()
    with autograd.predict_mode():
        outputs = outputs_of(method, images())
    sums = nd.exp(outputs['logits']).sum(axis=1).asnumpy()
    assert (sums <= 1 + 1e-6).all() and sums.min() < 0.999
    nll = method.losses(outputs, nd.array([0, 1, 2]), method.phases(1)[0])['nll'].asnumpy()
    np.testing.assert_allclose(nll, -outputs['logits'].asnumpy()[range(3), range(3)], rtol=1e-6)
    # What it exceeds the cross-entropy of the probability by.
    entropy = -np.log(probabilities(outputs['logits'])[range(3), range(3)])
    np.testing.assert_allclose(nll - entropy, -np.log(sums), atol=1e-5)


def test_blocked_gradients_reach_the_modules_alone():
    gradients = {}
    for blocked in (True, False):
        method = create(block_gradient=blocked, gates=False)
        method.train_net.classifier.weight.set_data(nd.zeros(method.train_net.classifier.weight.shape))
        with autograd.record():
            attended = outputs_of(method, images())['logits'][:, 0].sum()
        attended.backward()
        gradients[blocked] = [np.abs(p.grad().asnumpy()).max() for p in (
            method.train_net.body.stem[0].weight, method.train_net.attend_stage4.output_weight)]
    assert gradients[True][0] == 0 < min(gradients[True][1], *gradients[False])


# --- as configured ---------------------------------------------------------------------------

def test_modules_learn_faster():
    method = create(lr_mult=7)
    phase, = method.phases(3)
    phases.enter(phase, method.train_net, False)
    for name, parameter in structural(method.train_net).items():
        assert parameter.lr_mult == (1 if name.startswith('body.') else 7), name
    assert any(name.startswith('attend_stage3.') for name in structural(method.train_net))


def test_output_convolutions_have_a_rate_of_their_own():
    method = create(lr_mult=7, output_lr_mult=0.5)
    phases.enter(method.phases(3)[0], method.train_net, False)
    rates = {name: parameter.lr_mult for name, parameter in structural(method.train_net).items()}
    assert rates['attend_stage4.output_weight'] == rates['attend_stage3.output_weight'] == 3.5
    for name in ('attend_stage4.attention_weight', 'attend_stage4.gate_weight', 'classifier.weight'):
        assert rates[name] == 7


def test_adam_moves_a_score_of_a_module_nine_times_as_far_as_one_of_the_classifier():
    """Why there is output_lr_mult: an input of ones, one step of all weights by the rate."""
    inputs = {name: np.prod(parameter.shape[1:]) for name, parameter in structural(create().train_net).items()
              if name in ('attend_stage4.output_weight', 'classifier.weight')}
    assert inputs['attend_stage4.output_weight'] == 9 * inputs['classifier.weight']


@pytest.mark.parametrize('options, stages', [
    ({'depth': 1}, ['stage4']), ({'depth': 3}, ['stage4', 'stage3', 'stage2']),
    ({'stages': ('stage1', 'stage3')}, ['stage3', 'stage1'])])
def test_where_modules_attach(options, stages):
    method = create(**options)
    assert list(method.stages) == stages
    assert method.outputs == ('logits', 'gates', *(f'masks of {stage}' for stage in stages))
    shapes = {name: values.shape for name, values in outputs_of(method, images()).items()}
    for stage in stages:
        side = 64 // dict(zip(method.train_net.body.stage_names, method.train_net.body.strides))[stage]
        assert shapes[f'masks of {stage}'] == (3, 4, side, side)
    assert shapes['gates'] == (3, len(stages) + 1)


@pytest.mark.parametrize('options, says', [
    ({'depth': 5}, 'method.depth: 5 is more than the 4 stages of mobilenetv2_0.25'),
    ({'stages': ('stage5',)}, "method.stages: mobilenetv2_0.25 has no stage 'stage5'; did you mean"),
    ({'stages': ('stage4', 'stage4')}, 'is empty or names a stage twice')])
def test_stages_that_are_not_there(options, says):
    with pytest.raises(ConfigError, match=says):
        create(**options)


def test_maps_and_values():
    method = create(width=2)
    maps, values = method.explain(images()).maps, method.explain(images()).fractions
    assert list(maps) == ['stage4 head 1', 'stage4 head 2', 'stage3 head 1', 'stage3 head 2']
    for mask in maps.values():
        np.testing.assert_allclose(mask.asnumpy().sum((1, 2)), 1, rtol=1e-5)
    assert {title: list(bars) for title, bars in values.items()} == {
        'outputs': ['stage4', 'stage3', 'classifier'], 'stage4': ['head 1', 'head 2'],
        'stage3': ['head 1', 'head 2']}
    for bars in values.values():
        np.testing.assert_allclose(sum(share.asnumpy() for share in bars.values()), np.ones(3), rtol=1e-5)
    without = create(gates=False, width=2).explain(images()).fractions
    assert list(without) == ['stage4', 'stage3']
    np.testing.assert_allclose(without['stage3']['head 2'].asnumpy(), 0.5)


@pytest.mark.parametrize('side', [32, 75])
def test_images_of_any_size(side):
    method = create(depth=4)
    method.net.hybridize()
    assert method.net(images(side)).shape == (3, CLASSES)


def test_modules_on_linear_bottlenecks_are_behind_a_rectification_of_their_own():
    for backbone, rectified in (('mobilenetv2_0.25', {'stage3'}), ('resnet18_v1', set()), ('resnet18_v2', set())):
        net = methods.create('warn', backbones.get(backbone), 3, depth=2).train_net
        assert {name[len('rectify_'):] for name in net._children if name.startswith('rectify_')} == rectified, backbone

"""CRA-CNN: what is deployed, where the window starts, who is paired with whom, the rhythm, and what degenerates."""
import json
import math
import re

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet import autograd

from gluon_fgvc import backbones, deploy, methods
from gluon_fgvc.config import EvalView
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.step import weighted_sum
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.cra_cnn import different_label_pairs, permuted_pairs
from gluon_fgvc.nn import complexity
from gluon_fgvc.nn.parameters import structural

CLASSES = 3
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


def create(backbone='cluttered_cnn', method='cra_cnn', **options):
    mx.random.seed(0)
    np.random.seed(0)
    options = {'size': 32, **options} if method == 'cra_cnn' else options
    return methods.create(method, backbones.get(backbone), CLASSES, **options)


def photographs(count=4, side=64, seed=0):
    coarse = mx.nd.array(np.random.RandomState(seed).normal(size=(count, 3, 8, 8)))
    return mx.nd.contrib.BilinearResize2D(coarse, height=side, width=side)


def outputs_of(method, images):
    return dict(zip(method.outputs, method.train_net(images)))


def learn_windows(method, seed=1):
    """Give the layer of the windows weights, so that they differ from image to image."""
    weight = method.train_net.gamma.weight
    weight.set_data(mx.nd.array(np.random.RandomState(seed).normal(size=weight.shape) * 2))


def gradients(method, images, labels, terms=None, hybridized=False):
    """Return (losses, dict of parameter → gradient) of the sum of ``terms``, by default of all, weighted."""
    parameters = structural(method.train_net)
    phase = method.phases(1)[0]
    learning = phases.enter(phase, method.train_net, hybridized)
    for name in learning:
        parameters[name].grad()[:] = 0
    with autograd.record():
        losses = method.losses(outputs_of(method, images), labels, method.phases(1)[0])
        counted = {name: values for name, values in losses.items() if terms is None or name in terms}
        weights = {name: factor for name, factor in phase.loss_weights.items() if name in counted}
        total = weighted_sum(counted, methods.Phase('some terms', 1, loss_weights=weights), labels, None)
    total.backward()
    return losses, {name: parameters[name].grad().asnumpy() for name in learning}


# --- what is deployed ------------------------------------------------------------------------

def canonical(path):
    """A symbol file without the names of its operators, which count up from one network to the next."""
    graph = json.loads(path.read_text())
    names = {node['name']: node['name'] if node['op'] == 'null' else f'op{number}'
             for number, node in enumerate(graph['nodes'])}
    for node in graph['nodes']:
        node['name'] = re.sub(r'^classifier\d+_dense\d+_', 'classifier_', names[node['name']])
    return graph


@pytest.mark.parametrize('backbone', ['mobilenetv2_0.25', 'cluttered_cnn'])
def test_exported_it_is_the_plain_backbone(backbone, tmp_path):
    graphs, sizes, pixels = [], [], list(np.random.RandomState(1).randint(0, 256, (2, 64, 64, 3)).astype('uint8'))
    for method in ('finetune', 'cra_cnn'):
        net = create(backbone, method).net
        net.hybridize()
        deploy.export(net, tmp_path / method, classes=['a', 'b', 'c'], eval_view=EvalView(resize=(64, 64)),
                      input_size=(64, 64), mean=(0.5,) * 3, std=(0.25,) * 3, method=method, images=pixels)
        graphs.append(canonical(next((tmp_path / method).glob('*symbol.json'))))
        sizes.append(next((tmp_path / method).glob('*.params')).stat().st_size)
    assert graphs[0] == graphs[1]
    assert sizes[0] == sizes[1]


def test_it_costs_what_the_backbone_costs():
    plain, regulated = (create(method=name).net for name in ('finetune', 'cra_cnn'))
    assert complexity.parameters(plain) == complexity.parameters(regulated)
    assert complexity.multiply_adds(plain, 3, 64, 64) == complexity.multiply_adds(regulated, 3, 64, 64)


def test_the_classification_term_alone_is_plain_fine_tuning():
    labels = mx.nd.array([0, 2, 1, 0])
    plain, method = create(method='finetune'), create()
    for name, parameter in structural(plain.train_net).items():
        parameter.set_data(structural(method.train_net)[name].data())
    expected, found = {}, gradients(method, photographs(), labels, {'classification'})[1]
    phases.enter(plain.phases(1)[0], plain.train_net, False)
    with autograd.record():
        loss = plain.losses({'logits': plain.train_net(photographs())}, labels, plain.phases(1)[0])['cross_entropy']
    loss.backward()
    for name, parameter in structural(plain.train_net).items():
        if parameter.grad_req != 'null':
            expected[name] = parameter.grad().asnumpy()
    for name, gradient in found.items():
        if name in expected:
            np.testing.assert_allclose(gradient, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            assert not gradient.any() and name.startswith(('gamma.', 'regulation.')), name


# --- two streams -----------------------------------------------------------------------------

@pytest.mark.parametrize('backbone', ['mobilenetv2_0.25', 'cluttered_cnn'])
def test_the_second_stream_starts_as_a_copy_with_parameters_of_its_own(backbone):
    method = create(backbone)
    first, second = (structural(body) for body in (method.net.body, method.train_net.regulation.body))
    assert first.keys() == second.keys()
    for name, parameter in first.items():
        assert parameter is not second[name] and parameter.name != second[name].name
        np.testing.assert_array_equal(parameter.data().asnumpy(), second[name].data().asnumpy(), err_msg=name)
    names = [parameter.name for parameter in structural(method.train_net).values()]
    assert len(set(names)) == len(names)


def test_a_twin_of_another_head_and_stride():
    backbone = backbones.get('mobilenetv2_0.25', global_pool='isqrt_cov', output_stride=16)
    other = backbones.twin(backbone)
    assert other.strides == backbone.strides and other.pool_units == backbone.pool_units
    images = photographs(1)
    np.testing.assert_array_equal(other.pool(other(images)).asnumpy(), backbone.pool(backbone(images)).asnumpy())


@pytest.mark.parametrize('expected', [(0, 0, 0.5, 0), (0.2, -0.1, 0.75, 0.4)])
def test_every_window_starts_as_expected(expected):
    method = create(expected=expected)
    outputs = outputs_of(method, photographs())
    np.testing.assert_allclose(outputs['window'].asnumpy(), [expected] * 4, atol=1e-6)
    restriction = method.losses(outputs, mx.nd.zeros(4), method.phases(1)[0])['restriction']
    np.testing.assert_allclose(restriction.asnumpy(), 0, atol=2e-6)


def test_the_regulation_stream_sees_the_half_in_the_middle():
    """49 pixels, the window 25: at scale 1/2 these are the middle ones."""
    method = create(size=25)
    images = photographs(2, 49)
    with autograd.predict_mode():
        seen = method.train_net.regulation(images[:, :, 12:37, 12:37])
        outputs = outputs_of(method, images)
    np.testing.assert_allclose(outputs['attention_scores'].asnumpy(), seen.asnumpy(), atol=1e-3)
    np.testing.assert_array_equal(outputs['attention'].asnumpy(), outputs['attention_scores'].asnumpy())
    assert create(features='pooled').train_net(images)[2].shape == (2, method.net.body.pool_units)


@pytest.mark.parametrize('term, reaches', [
    ('classification', {'body', 'classifier'}),
    ('attention', {'body', 'gamma', 'regulation'}),
    ('contrastive', {'body', 'gamma', 'regulation'}),
    ('restriction', {'body', 'gamma'})])
def test_whom_each_term_teaches(term, reaches):
    method = create(thresholds=(0.01, 0.01, 0.01, 0.01), margin=50)
    learn_windows(method)
    found = gradients(method, photographs(), mx.nd.array([0, 2, 1, 0]), {term})[1]
    assert {name.split('.')[0] for name, gradient in found.items() if gradient.any()} == reaches


def test_terms_by_hand():
    method = create(margin=1.5)
    labels = mx.nd.array([0, 2, 1])
    outputs = {'logits': mx.nd.array(np.eye(3)), 'attention_scores': mx.nd.zeros((3, 3)),
               'attention': mx.nd.array([[0], [2], [9]]), 'redundancy': mx.nd.array([[1], [4], [9]]),
               'window': mx.nd.array([[0, 0, 0.5, 0], [0.5, 0, 0.5, 0], [0, 0, 0, 4]]),
               'draws': mx.nd.array([0.2, 0.7, 0.9])}
    losses = {name: values.asnumpy() for name, values in method.losses(outputs, labels, method.phases(1)[0]).items()}
    right, wrong = np.log(np.e + 2) - 1, np.log(np.e + 2)
    np.testing.assert_allclose(losses['classification'], [right, wrong, wrong], rtol=1e-5)
    np.testing.assert_allclose(losses['attention'], [np.log(3)] * 3, rtol=1e-5)
    np.testing.assert_allclose(losses['restriction'], [0, 0.5, np.hypot(0.5, 4)], atol=1e-5)
    # Images 0 and 1 are the pair: their redundancies are 3 apart, 1 and 2 from their own attention.
    np.testing.assert_allclose(losses['contrastive'], [3 - 1 + 1.5 + 3 - 2 + 1.5], rtol=1e-5)


# --- pairs -----------------------------------------------------------------------------------

def as_pairs(first, second):
    return list(zip(first.asnumpy().astype(int).tolist(), second.asnumpy().astype(int).tolist()))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.integers(2, 17), st.integers(0, 2 ** 31 - 1))
def test_permuted_pairs_are_disjoint_and_leave_an_odd_one_out(count, seed):
    pairs = as_pairs(*permuted_pairs(mx.nd.array(np.random.RandomState(seed).uniform(size=count))))
    assert len(pairs) == count // 2
    assert len({image for pair in pairs for image in pair}) == 2 * (count // 2)


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 4), min_size=2, max_size=17), st.integers(0, 2 ** 31 - 1))
def test_pairs_of_two_classes_are_as_many_as_there_can_be(labels, seed):
    draws = mx.nd.array(np.random.RandomState(seed).uniform(size=len(labels)))
    first, second, counts = different_label_pairs(draws, mx.nd.array(labels))
    pairs, counts = as_pairs(first, second), counts.asnumpy()
    assert len({image for pair in pairs for image in pair}) == 2 * len(pairs) == 2 * (len(labels) // 2)
    assert [labels[i] != labels[j] for i, j in pairs] == counts.astype(bool).tolist()
    most = max(labels.count(label) for label in labels)
    if 2 * most <= len(labels) + len(labels) % 2:
        assert counts.all()
    soft = different_label_pairs(draws, mx.nd.one_hot(mx.nd.array(labels), 5))
    assert as_pairs(*soft[:2]) == pairs


def test_every_two_classes_meet_and_every_two_images():
    met, permuted = set(), set()
    random = np.random.RandomState(0)
    for _ in range(200):
        draws = mx.nd.array(random.uniform(size=6))
        first, second, _ = different_label_pairs(draws, mx.nd.array([0, 0, 1, 1, 2, 2]))
        met |= {frozenset(pair) for pair in as_pairs(first, second)}
        permuted |= {frozenset(pair) for pair in as_pairs(*permuted_pairs(draws))}
    assert len(met) == 12 and len(permuted) == 15


@pytest.mark.parametrize('pairs', ['permutation', 'different_label'])
def test_pairs_are_drawn_from_the_seed_compiled_or_not(pairs):
    labels, drawn, losses = mx.nd.array([0, 1, 2, 0, 1, 2]), [], []
    for hybridized in (False, True):
        method = create(pairs=pairs)
        learn_windows(method)
        method.train_net.hybridize(hybridized, static_alloc=hybridized, static_shape=hybridized)
        for seed in (3, 4, 3):
            mx.random.seed(seed)
            with autograd.record():
                outputs = outputs_of(method, photographs(6))
                losses.append(float(method.losses(outputs, labels, method.phases(1)[0])['contrastive'].asscalar()))
            drawn.append(outputs['draws'].asnumpy())
    for values in (drawn, losses):
        np.testing.assert_array_equal(values[0], values[2])
        np.testing.assert_allclose(values[:3], values[3:], rtol=1e-4)
    assert (drawn[0] != drawn[1]).all() and losses[0] != losses[1]


# --- the rhythm ------------------------------------------------------------------------------

def test_the_published_rhythm():
    """50 epochs, then 45 without restriction and 45 with it by turns, 230 in all."""
    found = create().phases(230)
    assert [(phase.name, phase.epochs, phase.loss_weights['restriction']) for phase in found] == [
        ('start', 50, 1), ('off', 45, 0), ('on', 45, 1), ('off', 45, 0), ('on', 45, 1)]
    assert all(phase.trainable == '.*' and not phase.fresh_optimizer for phase in found)
    assert all(phase.loss_weights[term] == 1 for phase in found for term in phase.loss_weights if term != 'restriction')
    assert [phase.epochs for phase in create().phases(60)] == [50, 10]
    assert [phase.epochs for phase in create(rhythm_start=0, rhythm=2).phases(5)] == [0, 2, 2, 1]


def test_no_rhythm_is_one_phase():
    weights = dict(classification_weight=2, attention_weight=3, restriction_weight=4, contrastive_weight=5)
    phase, = create(rhythm_off=(), **weights).phases(230)
    assert phase.loss_weights == {key[:-len('_weight')]: value for key, value in weights.items()}
    assert phase.epochs == 230


def test_a_rhythm_of_freezing():
    method = create(rhythm_off=(), rhythm_frozen=r'body\.(pool1|pool2)\..*', rhythm_start=1, rhythm=1)
    start, off, on = method.phases(3)
    everything = set(phases.enter(start, method.train_net, False))
    rest = set(phases.enter(off, method.train_net, False))
    assert everything - rest == {name for name in everything if name.startswith(('body.pool1.', 'body.pool2.'))}
    assert everything - rest and any(name.startswith('regulation.body.pool1.') for name in rest)
    assert set(phases.enter(on, method.train_net, False)) == everything
    assert off.loss_weights == on.loss_weights


@pytest.mark.parametrize('options, says', [
    ({'expected': (0.5, 0, 0.5, 0)}, 'method.expected: 0.5 cannot be reached, it must be within alpha_location 0.5'),
    ({'expected': (0, 0, 0.9, 0), 'alpha_scale': 0.8}, 'method.expected: 0.9 cannot be reached, .* alpha_scale 0.8'),
    ({'rhythm_frozen': '('}, "method.rhythm_frozen: '\\(' is not a regular expression"),
    ({'rhythm_frozen': 'body.stage9.*'}, "method.rhythm_frozen: 'body.stage9.\\*' matches no parameter")])
def test_options_that_cannot_be(options, says):
    with pytest.raises(ConfigError, match=says):
        create(**options)


# --- what degenerates ------------------------------------------------------------------------

def black(count, value):
    """Black as Normalize gives it, (0 - mean) / std, about -2 for ImageNet's.

    At 0, deep networks with a BatchNorm in every layer have no finite gradient, plain fine-tuning included.
    """
    return mx.nd.ones((count, 3, 64, 64)) * value


@each_way
@pytest.mark.parametrize('backbone, features', [('mobilenetv2_0.25', 'logits'), ('cluttered_cnn', 'pooled')])
@pytest.mark.parametrize('images, window', [
    (photographs(1), None), (None, None), (photographs(3), (0, 0, 0, 0)), (None, (0, 0, 0, 0)),
    (photographs(4), (30, -30, 30, 1e3))], ids=['one image', 'black', 'scale 0', 'black at scale 0', 'far outside'])
@pytest.mark.filterwarnings('ignore:one image on a device')
def test_losses_and_gradients_are_finite(hybridized, backbone, features, images, window):
    method = create(backbone, features=features)
    if images is None:
        images = black(3, -2 if backbone == 'mobilenetv2_0.25' else 0)
    if window:
        method.train_net.gamma.bias.set_data(mx.nd.array(window))
    losses, found = gradients(method, images, mx.nd.arange(len(images)) % CLASSES, hybridized=hybridized)
    for name, values in {**losses, **found}.items():
        values = values if isinstance(values, np.ndarray) else values.asnumpy()
        assert np.isfinite(values).all(), name
    if len(images) == 1:
        assert losses['contrastive'].asnumpy() == [0]
    assert found['classifier.bias'].any() and found['regulation.classifier.bias'].any()


def test_one_image_has_no_pair_and_says_so():
    method = create()
    with pytest.warns(UserWarning, match='one image on a device has no other to be contrasted with'):
        method.losses(outputs_of(method, photographs(1)), mx.nd.zeros(1), method.phases(1)[0])


def test_one_class_has_no_pair_of_two():
    method = create(pairs='different_label')
    learn_windows(method)
    losses, found = gradients(method, photographs(), mx.nd.ones(4), {'contrastive'})
    assert losses['contrastive'].asnumpy() == [0]
    assert not any(gradient.any() for gradient in found.values())


# --- pictures --------------------------------------------------------------------------------

def test_the_window_and_what_is_left_complete_each_other():
    method = create()
    method.train_net.gamma.bias.set_data(mx.nd.array([0, 0, math.atanh(0.5), math.pi / 4]))
    images = photographs(2)
    found = method.explain(images)
    grid, region = found.grids['attention'].asnumpy(), found.regions['redundancy'].asnumpy()
    assert grid.shape == (2, 2, 32, 32) and region.shape == (2, 64, 64)
    corners = grid[0][:, [0, 0, -1, -1], [0, -1, 0, -1]].T
    np.testing.assert_allclose(corners, np.array([[0, -1], [1, 0], [-1, 0], [0, 1]]) * math.sqrt(0.5), atol=1e-5)
    assert not region[0, 32, 32] and region[0, 0, 0] and not region[0, 12, 32] and region[0, 12, 12]
    assert set(np.unique(region)) == {0, 1}


@pytest.mark.parametrize('hybridized, centred', [(False, False), (True, False), (True, True)])
def test_the_gradient_through_the_window_is_scaled_for_the_classification_stream_alone(hybridized, centred):
    labels, found = mx.nd.array([0, 2, 1, 0]), {}
    for factor in (1, 0.25, 0):
        method = create(gamma_gradient=factor, centred_window=centred)
        weight = method.train_net.gamma.weight
        weight.set_data(mx.nd.random.normal(0, 0.01, weight.shape))
        found[factor] = gradients(method, photographs(), labels, {'attention'}, hybridized)[1]
    for name, whole in found[1].items():
        share = 0.25 if name.startswith('body.') else 1
        tolerance = {'rtol': 1e-3, 'atol': 1e-4 * max(np.abs(whole).max(), 1e-3)}
        np.testing.assert_allclose(found[0.25][name], share * whole, err_msg=name, **tolerance)
        if name.startswith('body.'):
            assert not found[0][name].any(), name


def test_a_centred_window_comes_from_what_images_do_not_share():
    """In a batch, a step of Γ's weights moves the windows of no two images alike: what it adds has a mean of 0."""
    plain, centred = create(), create(centred_window=True)
    assert set(centred.train_net._collect_params_with_prefix()) - set(plain.train_net._collect_params_with_prefix()) \
        == {f'centre.{name}' for name in ('gamma', 'beta', 'running_mean', 'running_var')}
    seen, images = [], photographs(8)
    for method in plain, centred:
        method.train_net.gamma.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].flatten().asnumpy()))
        with mx.autograd.record():
            method.train_net.propose(images)
    pooled, normal = seen
    varies = pooled.std(axis=0) > 1e-3
    assert varies.sum() > 10
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=1e-5)
    expected = (pooled - pooled.mean(axis=0)) / np.sqrt(pooled.var(axis=0) + 1e-5) / math.sqrt(pooled.shape[1])
    np.testing.assert_allclose(normal[:, varies], expected[:, varies], atol=1e-4)

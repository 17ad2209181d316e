"""What every method promises (gluon_fgvc/methods/base.py), on a small backbone; a new method is found by its file."""
import dataclasses
import importlib
import json
import warnings

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc import backbones, deploy, methods
from gluon_fgvc.config import SGD, EvalView
from gluon_fgvc.engine import optim, phases
from gluon_fgvc.engine.monitor import Monitor
from gluon_fgvc.engine.step import Shard, Step, named, weighted_sum
from gluon_fgvc.methods.base import Explanation, Method
from gluon_fgvc.nn.parameters import compile_net, structural, walk
from tests.rounding import assert_fused_alike

IMAGES, CLASSES, SIDE = 3, 4, 64
EPOCHS = (0, 1, 2, 3, 7, 30)
# Options that make a method small enough; the other methods run with their defaults.
SMALL = {'cra_cnn': {'size': 32}, 'pmg': {'features': 32},
         'tasn': {'attention_backbone': 'mobilenetv2_0.25', 'attention_size': 64, 'attention_channels': 16,
                  'sampled_size': 64},
         'ssn': {'saliency_backbone': 'mobilenetv2_0.25', 'saliency_size': 64, 'sampled_size': 64}}

each_method = pytest.mark.parametrize('name', methods.available())
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])


def create(name, ctx=mx.cpu()):
    """Build method ``name``, always with the same parameters."""
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create(name, backbones.get('mobilenetv2_0.25', ctx=ctx), CLASSES, **SMALL.get(name, {}))


def photographs(seed=0):
    """Return normalised images (N,3,H,W)."""
    return mx.nd.array(np.random.RandomState(seed).normal(size=(IMAGES, 3, SIDE, SIDE)))


def labels(ctx=mx.cpu()):
    return mx.nd.array(np.arange(IMAGES) % CLASSES, ctx=ctx)


def hybridize(method, on):
    for net in (method.net, method.train_net):
        compile_net(net, on)


def outputs_of(method, images):
    mx.nd.waitall()  # in prediction oneDNN reorders weights in place: no two blocks on the same ones at a time
    outputs = named(method.outputs, method.train_net(images))
    if not autograd.is_recording():
        mx.nd.waitall()
    return outputs


@each_method
def test_options_are_documented_and_have_defaults(name):
    module = importlib.import_module(f'gluon_fgvc.methods.{name}')
    assert module.__doc__ and module.Method.__doc__ and issubclass(module.Method, Method)
    assert dataclasses.is_dataclass(module.Options) and module.Options.__dataclass_params__.frozen
    assert module.Options.__doc__ and not module.Options.__doc__.startswith('Options(')  # what dataclass writes
    for field in dataclasses.fields(module.Options):
        assert field.metadata.get('doc'), f'{field.name} has no documentation'
        assert field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING, field.name


@pytest.fixture(autouse=True)
def no_oneDNN_slice(monkeypatch):
    """Fail where an array is cut along its channels by an index, which only some processors can (nn/channels.py)."""
    whole = mx.nd.NDArray.__getitem__

    def get(array, key):
        keys = key if isinstance(key, tuple) else (key,)
        assert len(keys) == 1 or array.ndim == 1, f'an NDArray of shape {array.shape} is indexed by {key}'
        return whole(array, key)
    monkeypatch.setattr(mx.nd.NDArray, '__getitem__', get)


@each_method
def test_graphs_cut_channels_in_plain_memory_only(name):
    method = create(name)
    for net in (method.net, method.train_net):
        outputs = net(mx.sym.var('data'))
        symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
        nodes = json.loads(symbol.tojson())['nodes']
        for node in nodes:
            if node['op'] == 'slice':
                assert nodes[node['inputs'][0][0]]['op'] == 'Pad', node['name']


@each_method
def test_both_networks_share_their_parameters(name):
    """Checkpoints keep the parameters of train_net, so net must have no others."""
    method = create(name)
    trained = {id(parameter) for parameter in structural(method.train_net).values()}
    assert [key for key, parameter in structural(method.net).items() if id(parameter) not in trained] == []


@each_method
def test_parameters_live_where_the_backbone_does(name):
    contexts = [mx.cpu(0), mx.cpu(1)]
    method = create(name, contexts)
    for key, parameter in structural(method.train_net).items():
        assert parameter.list_ctx() == contexts, key
    outputs = outputs_of(method, photographs().as_in_context(contexts[1]))
    for values in method.losses(outputs, labels(contexts[1]), method.phases(1)[0]).values():
        assert values.context == contexts[1]


@each_method
@each_way
def test_outputs_and_losses(name, hybridized):
    method = create(name)
    phase = method.phases(1)[0]
    hybridize(method, hybridized)
    with autograd.record():
        outputs = outputs_of(method, photographs())
        assert outputs['logits'].shape == (IMAGES, CLASSES)
        assert all(values.shape[0] == IMAGES for values in outputs.values())
        losses = method.losses(outputs, labels(), phase)
        soft = method.losses(outputs, mx.nd.one_hot(labels(), CLASSES), phase)
    assert losses and losses.keys() == soft.keys()
    for term, values in losses.items():
        assert values.shape in ((IMAGES,), (1,)) and np.isfinite(values.asnumpy()).all(), term
        np.testing.assert_allclose(soft[term].asnumpy(), values.asnumpy(), rtol=1e-5, atol=1e-6, err_msg=term)
    again = method.losses(outputs, labels() * 0 + CLASSES - 1, phase)  # some term must look at the labels
    assert any(not np.allclose(again[term].asnumpy(), losses[term].asnumpy()) for term in losses)


@each_method
@each_way
def test_net_gives_the_scores_of_train_net(name, hybridized):
    method = create(name)
    hybridize(method, hybridized)
    with autograd.predict_mode():
        scores = method.net(photographs())
        expected = outputs_of(method, photographs())['logits']
        probabilities = mx.nd.softmax(scores).asnumpy()
    assert scores.shape == (IMAGES, CLASSES)
    np.testing.assert_allclose(scores.asnumpy(), expected.asnumpy(), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)
    assert np.ptp(probabilities, axis=0).max() > 0  # images can be told apart


@each_method
@each_way
def test_every_parameter_learns_in_some_phase(name, hybridized):
    method, learned = create(name), set()
    parameters = structural(method.train_net)
    for parameter in parameters.values():  # a layer of zeros keeps those before it from learning in the first step
        if parameter._differentiable:
            parameter.set_data(parameter.data() + 1e-3 * mx.nd.random.normal(shape=parameter.shape))
    for phase in method.phases(max(EPOCHS)):
        learning = phases.enter(phase, method.train_net, hybridized)
        for key in learning:
            parameters[key].grad()[:] = float('nan')  # and so it stays where the losses do not reach
        with autograd.record():
            terms = method.losses(outputs_of(method, photographs()), labels(), phase)
            total = weighted_sum(terms, phase, labels(), None)
        total.backward()
        for key in learning:
            gradient = parameters[key].grad().asnumpy()
            assert np.isfinite(gradient).all(), f"phase '{phase.name}': gradient of {key}"
            if gradient.any():
                learned.add(key)
    can_learn = {key for key, parameter in parameters.items()
                 if parameter._differentiable and not isinstance(parameter, mx.gluon.Constant)}
    assert sorted(can_learn - learned) == []


@each_method
@pytest.mark.parametrize('epochs', EPOCHS)
def test_phases_add_up(name, epochs):
    method = create(name)
    timeline = phases.timeline(method.phases(epochs), epochs)
    assert len(timeline) == epochs
    assert all(first <= epoch < first + length for epoch, (_, first, length) in enumerate(timeline))


@each_method
@each_way
def test_explain(name, hybridized):
    method = create(name)
    hybridize(method, hybridized)
    found = method.explain(photographs())
    assert isinstance(found, Explanation) and found.maps
    for title, values in found.maps.items():
        values = values.asnumpy()
        assert values.ndim == 3 and len(values) == IMAGES and min(values.shape[1:]) > 1, title
        assert np.isfinite(values).all() and (values >= 0).all() and values.any(), title
    for title, group in found.fractions.items():
        for key, values in group.items():
            values = values.asnumpy()
            assert values.shape == (IMAGES,) and (0 <= values).all() and (values <= 1).all(), (title, key)
    for title, values in found.grids.items():
        assert values.shape[:2] == (IMAGES, 2) and values.ndim == 4 and np.isfinite(values.asnumpy()).all(), title
    for title, values in found.regions.items():
        assert values.shape == (IMAGES, SIDE, SIDE) and set(np.unique(values.asnumpy())) <= {0, 1}, title
    assert found.seen_through is None or found.seen_through in found.grids


@each_method
@each_way
def test_what_is_deployed_gives_the_logits_of_net(name, hybridized):
    method = create(name)
    hybridize(method, hybridized)
    with autograd.predict_mode():
        expected = method.net(photographs()).asnumpy()
        np.testing.assert_allclose(method.deployed()(photographs()).asnumpy(), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(method.net(photographs()).asnumpy(), expected)  # which it has left alone


def take_step(method, phase):
    """Enter ``phase`` and take one step; return the names of what learns and of what moved, and the monitor's row."""
    learning = phases.enter(phase, method.train_net, True)
    parameters = structural(method.train_net)
    trainer = optim.make_trainer(parameters, SGD(lr=1e-2), 'device')
    before = {key: parameter.data().asnumpy() for key, parameter in parameters.items()}
    monitor = Monitor(f"epoch 1, phase '{phase.name}'")
    shard = Shard(photographs(), labels(), labels())
    method.step(Step(method, phase, method.train_net, trainer, [shard], monitor, 0))
    mx.nd.waitall()
    moved = {key for key, parameter in parameters.items() if (parameter.data().asnumpy() != before[key]).any()}
    return set(learning), moved, monitor.row()


def distinct_phases(method):
    return dict((phase.name, phase) for phase in method.phases(max(EPOCHS))).values()


def statistics_among(names):
    return {name for name in names if name.endswith(('running_mean', 'running_var'))}


@each_method
def test_steps_train_what_the_first_phase_says(name):
    """In each phase, one step from one batch moves what may learn, and nothing else; all losses are watched."""
    method = create(name)
    for phase in distinct_phases(method):
        learning, moved, row = take_step(method, phase)
        statistics = statistics_among(moved)
        assert moved - statistics <= learning and moved & learning, phase.name
        assert not (statistics and phase.batch_norm == 'fixed'), phase.name
        assert np.isfinite(row['train_loss']) and 0 <= row['train_top1'] <= 1


@each_method
def test_held_statistics_stay_in_every_phase(name):
    """`backbone.batch_norm: fixed`: no statistic of a pretrained backbone moves; those that the method adds do."""
    method = create(name)
    own = {f'{path}.{key}' for path, block in walk(method.train_net) if isinstance(block, backbones.Backbone)
           for key in block._collect_params_with_prefix()}
    added = statistics_among(structural(method.train_net)) - own
    for _, block in walk(method.train_net):
        if isinstance(block, backbones.Backbone):
            block.pretrained = True
    backbones.hold_pretrained_statistics(method.train_net)
    seen = set()
    for phase in distinct_phases(method):
        learning, moved, _ = take_step(method, phase)
        assert not statistics_among(moved) & own and moved & learning, phase.name
        seen |= moved
    assert not added or added & seen


@each_method
def test_split(name):
    method = create(name)
    if method.split() is None:
        pytest.skip('features cannot be reused')
    trunk, top = method.split()
    with autograd.predict_mode():
        found = named(method.outputs, top(trunk(photographs())))
        expected = outputs_of(method, photographs())
    for key, values in expected.items():
        np.testing.assert_allclose(found[key].asnumpy(), values.asnumpy(), rtol=1e-5, atol=1e-5, err_msg=key)


@each_method
@pytest.mark.parametrize('bake', [False, True])
def test_export_computes_the_same(name, bake, tmp_path):
    method = create(name)
    hybridize(method, True)  # as that of an opened run is
    with autograd.train_mode():  # running statistics are then not the ones of the start
        outputs_of(method, photographs())
    pixels = np.random.RandomState(1).randint(0, 256, (2, SIDE, SIDE, 3)).astype('uint8')
    exported = deploy.export(method.deployed(), tmp_path / 'model', classes=[str(k) for k in range(CLASSES)],
                             eval_view=EvalView(resize=(SIDE, SIDE)), input_size=(SIDE, SIDE), mean=(0.5,) * 3,
                             std=(0.25,) * 3, method=name, images=list(pixels), bake_preprocessing=bake,
                             bake_softmax=bake)
    assert exported.images == 2 and exported.difference <= 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter('error', UserWarning)  # that the graph cannot be fused
        fused, plain = (deploy.Predictor(tmp_path / 'model', engine=engine).predict_batch(pixels)
                       for engine in ('mxnet_fused', 'mxnet'))
    images = mx.nd.array((pixels / 255 - 0.5) / 0.25).transpose((0, 3, 1, 2))
    assert_fused_alike(method.deployed(), images, fused, plain)

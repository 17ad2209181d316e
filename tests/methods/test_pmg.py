"""PMG: jigsaws are the image in another order, each update reaches its part of the network, and all learn in turn."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc import backbones, methods
from gluon_fgvc.config import SGD
from gluon_fgvc.engine import optim, phases
from gluon_fgvc.engine.monitor import Monitor
from gluon_fgvc.engine.step import Shard, Step
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.methods.pmg import jigsaw
from gluon_fgvc.nn.class_activation import class_activation
from gluon_fgvc.nn.parameters import compile_net, structural

CLASSES = 3


def create(backbone='mobilenetv2_0.25', **options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create('pmg', backbones.get(backbone), CLASSES, features=8, **options)


def images(count=2, side=64):
    return mx.nd.array(np.random.RandomState(0).normal(size=(count, 3, side, side)))


def tiles(array, pieces):
    """Return the multiset of pieces of (N,C,H,W) as a sorted list of bytes."""
    count, channels, height, width = array.shape
    return sorted(array[:, :, y:y + height // pieces, x:x + width // pieces].tobytes()
                  for y in range(0, height, height // pieces) for x in range(0, width, width // pieces))


def test_four_pieces_by_hand(monkeypatch):
    # In the order of these numbers the pieces are 3, 0, 2, 1.
    monkeypatch.setattr(mx.nd.random, 'uniform', lambda **_: mx.nd.array([0.2, 0.9, 0.5, 0.1]))
    image = mx.nd.arange(16).reshape((1, 1, 4, 4))
    np.testing.assert_array_equal(jigsaw(image, 2)[0, 0].asnumpy(), [[10, 11, 0, 1], [14, 15, 4, 5],
                                                                       [8, 9, 2, 3], [12, 13, 6, 7]])


@given(pieces=st.integers(1, 4), height=st.integers(1, 3), width=st.integers(1, 3), count=st.integers(1, 3),
       seed=st.integers(0, 9))
def test_a_jigsaw_has_the_pieces_of_the_image(pieces, height, width, count, seed):
    mx.random.seed(seed)
    array = np.random.RandomState(seed).rand(count, 2, height * pieces, width * pieces).astype('float32')
    found = jigsaw(mx.nd.array(array), pieces).asnumpy()
    assert tiles(found, pieces) == tiles(array, pieces)
    if pieces == 1:
        np.testing.assert_array_equal(found, array)


def test_jigsaws_differ_between_steps_and_repeat_with_the_seed():
    made = []
    for seed in (1, 1, 2):
        mx.random.seed(seed)
        made.append(jigsaw(images(), 8).asnumpy())
    np.testing.assert_array_equal(made[0], made[1])
    assert (made[0] != made[2]).any()


def test_what_cannot_be_cut_is_told():
    with pytest.raises(ConfigError, match='method.pieces: images of 63 x 63 cannot be cut into 8 x 8 equal pieces'):
        jigsaw(images(side=63), 8)
    with pytest.raises(ConfigError, match='method.stages: 5 is more than the 4 stages of mobilenetv2_0.25'):
        create(stages=5)


def test_logits_are_the_mean_of_all_classifiers():
    method = create()
    with mx.autograd.predict_mode():
        logits, *others = method.train_net(images())
        np.testing.assert_array_equal(method.net(images()).asnumpy(), logits.asnumpy())
    assert method.outputs == ('logits', 'stage2', 'stage3', 'stage4', 'joint') and len(others) == 4
    np.testing.assert_allclose(logits.asnumpy(), np.mean([values.asnumpy() for values in others], axis=0), rtol=1e-5,
                               atol=1e-6)


def test_the_joint_classifier_alone():
    method = create(deploy=['joint'])
    with mx.autograd.predict_mode():
        logits, *_, joint = method.train_net(images())
        np.testing.assert_array_equal(logits.asnumpy(), joint.asnumpy())
    symbol = method.net(mx.sym.var('images'))
    # The heads of the stages are computed, their classifiers are not.
    drawn = {name: any(parameter.name in symbol.list_arguments()
                       for parameter in getattr(method.train_net, name).collect_params().values())
             for name in ('features_stage2', 'classify_stage2', 'classify_stage4', 'classify_jointly')}
    assert drawn == {'features_stage2': True, 'classify_stage2': False, 'classify_stage4': False,
                     'classify_jointly': True}
    mean = create()  # the same start: the key draws no numbers
    with mx.autograd.predict_mode():
        np.testing.assert_array_equal(mean.train_net(images())[-1].asnumpy(), joint.asnumpy())


def test_the_mean_of_two_classifiers():
    method = create(deploy=['joint', 'stage4'])
    with mx.autograd.predict_mode():
        logits, _, _, last, joint = method.train_net(images())
    np.testing.assert_allclose(logits.asnumpy(), (last + joint).asnumpy() / 2, rtol=1e-6)
    with pytest.raises(ConfigError, match="method.deploy: no classifier 'stage1'.*allowed: stage2, stage3, "):
        create(deploy=['stage1'])


@pytest.mark.parametrize('hybridized', [False, True])
def test_class_activation_is_the_gradient_of_the_score(hybridized):
    method = create(stages=1)
    compile_net(method.net, hybridized)
    found = class_activation(method.net, images(), classes=mx.nd.array([1, 1])).asnumpy()
    # The same with the network behind the last map in training mode under fixed statistics, where nothing is dropped.
    phases.enter(Phase('held', 1, batch_norm='fixed'), method.train_net, False)
    body, head = method.train_net.body, method.train_net.features_stage4
    maps = body.stage_maps(images())[-1]
    maps.attach_grad()
    with mx.autograd.record():
        vector = head(maps)
        scores = (method.train_net.classify_stage4(vector) + method.train_net.classify_jointly(vector)) / 2
        score = scores[:, 1].sum()
    score.backward()
    weights = maps.grad.sum(axis=(2, 3), keepdims=True)
    np.testing.assert_allclose(found, (maps * weights).sum(axis=1).asnumpy(), rtol=1e-4, atol=1e-5)


def test_the_updates_of_one_step(monkeypatch):
    """Granularities 8, 4, 2, 1 (Sec. 3.3), each reaching what lies below its head and nothing else."""
    method = create()
    seen, moved = [], []
    monkeypatch.setattr('gluon_fgvc.methods.pmg.jigsaw', lambda images, pieces: seen.append(pieces) or images)
    phase = method.phases(1)[0]
    phases.enter(phase, method.train_net, True)
    parameters = structural(method.train_net)
    trainer = optim.make_trainer(parameters, SGD(lr=1e-2), 'device')
    step = Step(method, phase, method.train_net, trainer, [Shard(images(), mx.nd.array([0, 1]), mx.nd.array([0, 1]))],
                Monitor("epoch 1, phase 'all'"), 0)
    update = step.update

    def watched(*arguments, **named):
        before = {key: parameter.data().asnumpy() for key, parameter in parameters.items()}
        update(*arguments, **named)
        mx.nd.waitall()
        moved.append({key.split('.')[1] if key.startswith('body') else key.split('.')[0] for key, parameter
                      in parameters.items() if (parameter.data().asnumpy() != before[key]).any()})
    step.update = watched
    method.step(step)
    body = ['stem', 'stage1', 'stage2', 'stage3', 'stage4']
    assert seen == [8, 4, 2]
    assert moved == [{*body[:3], 'features_stage2', 'classify_stage2'},
                     {*body[:4], 'features_stage3', 'classify_stage3'}, {*body, 'features_stage4', 'classify_stage4'},
                     {*body, *(f'features_{stage}' for stage in method.stages), 'classify_jointly'}]


def test_losses_of_an_update_are_those_it_has_outputs_for():
    method, phase = create(joint_weight=2.0), create().phases(1)[0]
    even, labels = mx.nd.zeros((2, CLASSES)), mx.nd.array([0, 1])
    terms = method.losses({'stage3': even}, labels, phase)
    assert list(terms) == ['stage3']
    np.testing.assert_allclose(terms['stage3'].asnumpy(), np.log(3), rtol=1e-5)
    joint = method.losses({'logits': even, 'joint': even}, labels, phase)
    np.testing.assert_allclose(joint['joint'].asnumpy(), 2 * np.log(3), rtol=1e-5)  # β

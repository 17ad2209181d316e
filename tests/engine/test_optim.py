"""Learning-rate schedules against values worked by hand, and optimizer states through numpy."""
from dataclasses import replace

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon

from gluon_fgvc import config
from gluon_fgvc.engine import optim
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.nn.parameters import sha256_of, structural, to_numpy


@pytest.mark.parametrize('schedule, position, expected', [
    (config.Constant(), 7.5, 2.0),
    (config.Constant(warmup=2), 0.0, 0.0), (config.Constant(warmup=2), 1.0, 1.0), (config.Constant(warmup=2), 2.0, 2.0),
    (config.Step(every=3, factor=0.5), 2.99, 2.0), (config.Step(every=3, factor=0.5), 3.0, 1.0),
    (config.Step(every=3, factor=0.5), 9.5, 0.25),
    (config.Step(at=(2, 5), factor=0.1), 1.9, 2.0), (config.Step(at=(2, 5), factor=0.1), 2.0, 0.2),
    (config.Step(at=(2, 5), factor=0.1), 5.0, 0.02),
    (config.Cosine(), 0.0, 2.0), (config.Cosine(), 5.0, 1.0), (config.Cosine(), 10.0, 0.0),
    (config.Cosine(final=0.1), 10.0, 0.2), (config.Cosine(warmup=2), 6.0, 1.0), (config.Cosine(warmup=2), 1.0, 1.0),
    (config.Poly(power=2), 5.0, 0.5), (config.Poly(power=1, final=0.5), 5.0, 1.5), (config.Poly(), 10.0, 0.0),
    (config.Cosine(warmup=10), 10.0, 2.0),  # the warm-up takes the whole stretch
])
def test_learning_rate_by_hand(schedule, position, expected):
    assert optim.learning_rate(schedule, 2.0, position, 10) == pytest.approx(expected, abs=1e-12)


def small_net():
    mx.random.seed(3)
    net = gluon.nn.HybridSequential()
    net.add(gluon.nn.Dense(4, in_units=3, activation='relu'), gluon.nn.Dense(2, in_units=4))
    net.initialize(mx.init.Normal(0.5))
    return net


def steps(net, trainer, count, first=0):
    for step in range(first, first + count):
        x = mx.nd.array(np.random.RandomState(step).randn(5, 3))
        with autograd.record():
            loss = (net(x) ** 2).sum(axis=1)
        loss.backward()
        trainer.step(5)


OPTIMIZERS = [config.SGD(lr=0.1, momentum=0.9, wd=0.01), config.SGD(lr=0.1, momentum=0.0), config.NAG(lr=0.1),
              config.Adam(lr=0.01, wd=0.01, clip_gradient=0.5), config.AdamW(lr=0.01, wd=0.1)]


@pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=lambda o: f'{o.name}-{getattr(o, "momentum", "")}')
def test_restored_states_continue_bit_for_bit(optimizer):
    net = small_net()
    trainer = optim.make_trainer(structural(net), optimizer, 'device')
    steps(net, trainer, 3)
    arrays, counts = optim.states(trainer, structural(net))
    at_three = to_numpy(net)
    steps(net, trainer, 3, first=3)

    other = small_net()
    for name, parameter in structural(other).items():
        parameter.set_data(mx.nd.array(at_three[name]))
    trainer = optim.make_trainer(structural(other), optimizer, 'device')
    optim.restore_states(trainer, structural(other), arrays, counts)
    steps(other, trainer, 3, first=3)
    assert sha256_of(to_numpy(other)) == sha256_of(to_numpy(net))


def test_states_are_named_by_structure_and_counted():
    net = small_net()
    trainer = optim.make_trainer(structural(net), config.Adam(lr=0.01), 'device')
    steps(net, trainer, 2)
    arrays, counts = optim.states(trainer, structural(net))
    assert set(arrays) == {f'{layer}.{kind}/{slot}' for layer in '01' for kind in ('weight', 'bias') for slot in '01'}
    assert set(counts.values()) == {2} and set(counts) == set(structural(net))


@pytest.mark.parametrize('spoil, message', [
    (lambda a, c: a.update({'2.weight/0': a['0.weight/0']}), "no parameter '2.weight'"),
    (lambda a, c: c.update({'x': 1}), "no parameter 'x'"),
    (lambda a, c: a.pop('0.weight/1'), "state 1 of '0.weight' is missing"),
    (lambda a, c: a.update({'0.weight/0': np.zeros((2, 2), 'f4')}), 'another shape')])
def test_foreign_states_are_refused(spoil, message):
    net = small_net()
    trainer = optim.make_trainer(structural(net), config.Adam(lr=0.01), 'device')
    steps(net, trainer, 1)
    arrays, counts = optim.states(trainer, structural(net))
    spoil(arrays, counts)
    with pytest.raises(CheckpointError, match=message):
        optim.restore_states(optim.make_trainer(structural(net), config.Adam(lr=0.01), 'device'), structural(net),
                             arrays, counts)


def test_adam_by_hand():
    """One step of Adam on one weight with gradient g moves it by lr · g/|g| (the bias corrections cancel)."""
    weight = gluon.Parameter('w', shape=(1,))
    weight.initialize(mx.init.Constant(1.0))
    trainer = optim.make_trainer({'w': weight}, config.Adam(lr=0.1, epsilon=1e-12), 'device')
    with autograd.record():
        loss = 3 * weight.data()
    loss.backward()
    trainer.step(1)
    assert weight.data().asscalar() == pytest.approx(0.9, abs=1e-6)


@pytest.mark.parametrize('decay', [0.0, 0.3])
def test_adamw_by_hand(decay):
    """Three steps on one weight, in float64: decay takes lr · wd of the weight and does not enter the moments."""
    weight = gluon.Parameter('w', shape=(1,))
    weight.initialize(mx.init.Constant(2.0))
    trainer = optim.make_trainer({'w': weight}, config.AdamW(lr=0.1, wd=decay, epsilon=1e-12), 'device')
    expected, mean, variance = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0, 0.5), 1):
        with autograd.record():
            loss = gradient * weight.data()
        loss.backward()
        trainer.step(1)
        mean, variance = 0.9 * mean + 0.1 * gradient, 0.999 * variance + 0.001 * gradient ** 2
        expected -= 0.1 * decay * expected
        expected -= 0.1 * (mean / (1 - 0.9 ** step)) / (variance / (1 - 0.999 ** step)) ** 0.5
        assert weight.data().asscalar() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('optimizer', [config.SGD(lr=0.1, momentum=0, wd=0.5), config.Adam(lr=0.1, wd=0.5),
                                       config.AdamW(lr=0.1, wd=0.5)], ids=lambda o: o.name)
def test_norms_and_biases_are_spared_where_it_is_said(optimizer):
    """Gradients are zero, so that what moves is moved by weight decay alone."""
    for decay_norms in (True, False):
        net = gluon.nn.HybridSequential()
        net.add(gluon.nn.Conv2D(2, 1, in_channels=3), gluon.nn.BatchNorm(in_channels=2))
        net.initialize(mx.init.One())
        for parameter in net.collect_params('.*(bias|beta)').values():
            parameter.set_data(mx.nd.ones(parameter.shape))
        parameters = structural(net)
        trainer = optim.make_trainer(parameters, replace(optimizer, decay_norms=decay_norms), 'device')
        with autograd.record():
            loss = 0 * net(mx.nd.ones((1, 3, 2, 2))).sum()
        loss.backward()
        trainer.step(1)
        moved = {name for name, parameter in parameters.items()
                 if parameter.grad_req != 'null' and (parameter.data() != 1).asnumpy().any()}
        assert moved == ({'0.weight', '0.bias', '1.gamma', '1.beta'} if decay_norms else {'0.weight'})

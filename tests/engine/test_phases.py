"""Phases on the time line, and what entering one does to a network."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc.engine import phases
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn.normalize import Normalize
from gluon_fgvc.nn.parameters import structural
from tests.engine import toy


def test_timeline_by_hand():
    a, b, c = Phase('a', 2), Phase('b', 1, fresh_optimizer=True), Phase('c', 3)
    assert phases.timeline([a, b, c], 6) == [(a, 0, 2), (a, 0, 2), (b, 2, 4), (c, 2, 4), (c, 2, 4), (c, 2, 4)]
    first = Phase('f', 1, fresh_optimizer=True)
    assert phases.timeline([first, first], 2) == [(first, 0, 1), (first, 1, 1)]
    assert phases.timeline([], 0) == []
    with pytest.raises(ConfigError, match='train.epochs is 5, but the phases of the method last 6'):
        phases.timeline([a, b, c], 5)


def initialised():
    mx.random.seed(1)
    net = toy.Net(2)
    net.initialize(mx.init.Xavier())
    return net


@pytest.mark.parametrize('hybridize', [False, True])
def test_switching_back_and_forth(hybridize):
    """Entering a phase changes exactly what learns, whatever phase came before, compiled or not."""
    net, images = initialised(), mx.nd.random.uniform(shape=(4, 3, 6, 6))
    named = structural(net)
    wanted = {'head': {'classifier.weight', 'classifier.bias'},
              'all': {name for name in named if 'running' not in name}}
    for phase in (Phase('head', 1, r'classifier\..*', batch_norm='fixed'), Phase('all', 1),
                  Phase('head', 1, r'classifier\..*', batch_norm='fixed')):
        assert set(phases.enter(phase, net, hybridize)) == wanted[phase.name]
        before = net.bn.running_mean.data().asnumpy().copy()
        with autograd.record():
            loss = net(images).sum()
        loss.backward()
        mx.nd.waitall()
        moved = (net.bn.running_mean.data().asnumpy() != before).any()
        assert moved == (phase.batch_norm == 'moving')
        for name, parameter in named.items():
            assert (parameter.grad_req == 'write') == (name in wanted[phase.name])


def test_constants_stay_without_a_word(recwarn):
    net = Normalize((0, 0, 0), (1, 1, 1))
    net.initialize()
    with pytest.raises(ConfigError, match='matches only parameters that have no gradient'):
        phases.enter(Phase('all', 1), net, False)
    assert not [warning for warning in recwarn if 'Constant' in str(warning.message)]


@pytest.mark.parametrize('mode', ['fixed', 'moving'])
@pytest.mark.parametrize('hybridize', [False, True])
def test_numeric_gradients_in_both_batch_norm_modes(mode, hybridize):
    net = initialised()
    phases.enter(Phase('x', 1, batch_norm=mode), net, hybridize)
    images = mx.nd.array(np.random.RandomState(0).uniform(size=(4, 3, 5, 5)))

    def value():
        with autograd.record():
            loss = (net(images) ** 2).sum()
        return loss

    loss = value()
    loss.backward()
    for name in ('conv.weight', 'bn.gamma', 'bn.beta', 'classifier.weight'):
        parameter = structural(net)[name]
        gradient, kept = parameter.grad().asnumpy().copy(), parameter.data().asnumpy().copy()
        direction = np.random.RandomState(1).randn(*kept.shape).astype('float32')
        step = 1e-2 / np.linalg.norm(direction)
        ends = []
        for sign in (1, -1):
            parameter.set_data(mx.nd.array(kept + sign * step * direction))
            ends.append(value().asscalar())
        parameter.set_data(mx.nd.array(kept))
        assert (ends[0] - ends[1]) / (2 * step) == pytest.approx((gradient * direction).sum(), rel=2e-2, abs=2e-2)


def test_lr_mult_is_reset_by_the_next_phase():
    net = initialised()
    phases.enter(Phase('a', 1, lr_mult={r'classifier\..*': 10.0}), net, True)
    assert structural(net)['classifier.weight'].lr_mult == 10.0
    phases.enter(Phase('b', 1), net, True)
    assert structural(net)['classifier.weight'].lr_mult == 1.0

"""Channels are cut out of whatever layout oneDNN keeps them in, on every kind of processor.

oneDNN's own slice can end the process, so each sweep runs in a child; on a machine with AVX-512 also as on lesser ones.
"""
import json
import os
import subprocess
import sys
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc.machine import processor
from gluon_fgvc.nn.channels import channel

ROOT = Path(__file__).parents[2]
MODES = [isa for isa in ('AVX2', 'SSE41') if processor.onednn_choice() != isa and processor.onednn_choice() != 'none']

# {net}: what is made of a convolution's output `y`, {first} and {last}. Compared with NumPy on the plain output.
SWEEP = '''
import itertools, json, sys, warnings
import gluon_fgvc, mxnet as mx, numpy as np
from mxnet import autograd, nd
from mxnet.gluon import HybridBlock, nn
from gluon_fgvc.nn.attend_rectify import _window
from gluon_fgvc.nn.channels import channel
warnings.simplefilter('ignore')

def pad(F, x):
    return F.pad(x, mode='constant', pad_width=(0, 0, 0, 0, 1, 1, 1, 1))

CUTS = {
    'slice': (lambda F, y, a, b: F.slice(y, begin=(None, a), end=(None, b)), lambda y, a, b: y[:, a:b]),
    'index': (lambda F, y, a, b: y[:, a], lambda y, a, b: y[:, a]),
    'channel': (lambda F, y, a, b: channel(F, y, a), lambda y, a, b: y[:, a]),
    'slice_axis': (lambda F, y, a, b: F.slice_axis(y, axis=1, begin=a, end=b), lambda y, a, b: y[:, a:b]),
    'window': (lambda F, y, a, b: _window(F, pad(F, y), 0, 2, a, b),
               lambda y, a, b: np.pad(y, ((0, 0), (0, 0), (1, 1), (1, 1)))[:, a:b, :-2, 2:]),
    'split': (lambda F, y, a, b: F.concat(*reversed(list(F.split_v2(y, (b,), axis=1))), dim=1),
              lambda y, a, b: np.concatenate([y[:, b:], y[:, :b]], 1)),
    'concat': (lambda F, y, a, b: F.concat(F.slice_axis(y, axis=1, begin=a, end=b), y, dim=1),
               lambda y, a, b: np.concatenate([y[:, a:b], y], 1)),
}

class Net(HybridBlock):
    def __init__(self, channels, cut, first, last):
        super().__init__()
        self.cut, self.first, self.last = cut, first, last
        with self.name_scope():
            self.conv = nn.Conv2D(channels, 3, padding=1, in_channels=8)

    def hybrid_forward(self, F, x):
        return self.cut(F, self.conv(x), self.first, self.last)

x, bad = nd.random.normal(shape=(2, 8, 6, 6)), []
for name, channels in itertools.product(sys.argv[1:], range(1, 34)):
    cut, expected = CUTS[name]
    pairs = {(0, channels), (0, 1), (channels - 1, channels), (channels // 2, channels // 2 + 1),
             (channels // 3, channels)}
    for first, last in sorted(pairs):
        if name == 'split' and last == channels:
            continue
        net = Net(channels, cut, first, last)
        net.initialize(mx.init.Xavier())
        plain = net.conv(x).asnumpy()
        for mode in ('imperative', 'compiled', 'static'):
            if name == 'index' and mode != 'imperative':
                continue  # symbols have no such index
            net.hybridize(mode != 'imperative', static_alloc=mode == 'static', static_shape=mode == 'static')
            for backward in (False, True, False, True):
                try:
                    if not backward:
                        found, right = net(x).asnumpy(), expected(plain, first, last)
                    else:
                        with autograd.record():
                            net(x).sum().backward()
                        one = np.eye(channels).reshape(channels, channels, 1, 1) * np.ones((1, 1, 6, 6))
                        found = net.conv.bias.grad().asnumpy() / 2
                        right = expected(one, first, last).reshape(channels, -1).sum(axis=1)
                    if not np.allclose(found, right, rtol=1e-4, atol=1e-4):
                        bad.append([name, channels, first, last, mode, backward, 'other numbers'])
                except mx.MXNetError as error:
                    bad.append([name, channels, first, last, mode, backward, str(error).splitlines()[-1]])
print(json.dumps(bad))
'''


def sweep(isa, *cuts):
    """Return (exit code, failures) of some ways to cut channels, over 1 … 33 of them."""
    environment = {**os.environ, **(processor.emulation(isa) if isa else {}), 'PYTHONPATH': str(ROOT)}
    done = subprocess.run([sys.executable, '-c', SWEEP, *cuts], env=environment, stdout=subprocess.PIPE, text=True)
    return done.returncode, json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 else None


@pytest.mark.parametrize('isa', [None, *(pytest.param(isa, marks=[pytest.mark.slow] * (isa == 'SSE41'))
                                         for isa in MODES)])
def test_these_are_right_for_any_number_of_channels(isa):
    assert sweep(isa, 'channel', 'slice_axis', 'window', 'split', 'concat') == (0, [])


@pytest.mark.parametrize('cut', ['slice', 'index'])
def test_these_are_not_which_is_why_they_are_not_used(cut):
    """Should MXNet learn to, this test tells, and `channel` can go."""
    code, failures = sweep(MODES[0] if MODES else None, cut)
    assert code < 0 or any('sub-memory' in failure[-1] for failure in failures)


def test_channel():
    x = mx.nd.arange(24).reshape((2, 3, 4))
    np.testing.assert_array_equal(channel(mx.nd, x, 1).asnumpy(), [[4, 5, 6, 7], [16, 17, 18, 19]])
    x.attach_grad()
    with mx.autograd.record():
        channel(mx.nd, x, 2).sum().backward()
    np.testing.assert_array_equal(x.grad.asnumpy()[:, :, 0], [[0, 0, 1]] * 2)

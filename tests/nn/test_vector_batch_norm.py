"""BatchNorm of vectors equals the formula, and a network that has it behind maps of one pixel does not die."""
import subprocess
import sys

import numpy as np
from mxnet import autograd, nd

from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm
from tests.small_run import ROOT

# A process of its own: what oneDNN has prepared belongs to a thread, and the end of it would be that of the tests.
DEADLY = '''
import gluon_fgvc
from mxnet import nd
from gluon_fgvc import backbones, methods
method = methods.create('pmg', backbones.get('mobilenetv2_0.25'), 2, features=16)
for count in (2, 3):
    print(method.net(nd.ones((count, 3, 32, 32))).shape)
'''


def test_it_equals_the_formula():
    x = np.random.RandomState(0).normal(3, 2, (8, 5)).astype('float32')
    block = VectorBatchNorm(in_channels=5)
    block.initialize()
    with autograd.record():
        out = block(nd.array(x))
    out.backward()  # which moves the statistics
    nd.waitall()
    np.testing.assert_allclose(out.asnumpy(), (x - x.mean(0)) / np.sqrt(x.var(0) + 1e-5), atol=1e-5)
    np.testing.assert_allclose(block.running_mean.data().asnumpy(), 0.1 * x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(block(nd.array(x)).asnumpy(),
                               (x - 0.1 * x.mean(0)) / np.sqrt(0.9 + 0.1 * x.var(0) + 1e-5), rtol=1e-4, atol=1e-5)


def test_behind_maps_of_one_pixel():
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', DEADLY], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.split('\n')[:2] == ['(2, 2)', '(3, 2)'], done.stderr

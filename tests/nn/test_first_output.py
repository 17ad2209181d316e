"""The deployed view of a network: its first output, whatever the others are made of."""
import warnings

import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.nn import FirstOutput


class Two(HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.first, self.second = nn.Dense(2, in_units=3), nn.Dense(2, in_units=3)

    def hybrid_forward(self, F, x):
        return [self.first(x), self.second(x)]


def test_compiled_it_is_the_first_output_and_says_nothing_of_the_second():
    net = Two()
    net.initialize()
    x = mx.nd.arange(6).reshape((2, 3))
    deployed = FirstOutput(net)
    deployed.hybridize()
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        found = deployed(x)
    np.testing.assert_array_equal(found.asnumpy(), net(x)[0].asnumpy())
    assert set(deployed._collect_params_with_prefix()) == set(net._collect_params_with_prefix())

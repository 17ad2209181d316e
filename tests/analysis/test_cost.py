"""Costs that can be counted by hand."""
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.analysis.cost import multiply_accumulates, parameters


class Net(HybridBlock):
    def __init__(self):
        super().__init__()
        with self.name_scope():
            self.conv = nn.Conv2D(6, (3, 5), strides=2, padding=(1, 2), groups=2, in_channels=4)
            self.bn = nn.BatchNorm(in_channels=6)
            self.dense = nn.Dense(7, in_units=6 * 4 * 3)

    def hybrid_forward(self, F, x):
        x = self.bn(self.conv(x))                                                # (N,6,4,3)
        flat = F.reshape(x, (0, 0, -1))
        return [self.dense(x), F.batch_dot(flat, flat, transpose_b=True), F.batch_dot(flat, flat, transpose_a=True)]


def test_by_hand():
    net = Net()
    assert parameters(net) == (6 * 2 * 3 * 5 + 6) + 2 * 6 + (72 * 7 + 7)
    convolution, linear, first, second = 6 * 12 * 2 * 15, 72 * 7, 6 * 6 * 12, 12 * 12 * 6
    assert multiply_accumulates(net, (1, 4, 8, 6)) == convolution + linear + first + second
    assert multiply_accumulates(net, (3, 4, 8, 6)) == 3 * (convolution + linear + first + second)


def test_a_shared_parameter_counts_once():
    net = nn.HybridSequential()
    dense = nn.Dense(4, in_units=4, use_bias=False)
    net.add(dense, dense)
    assert parameters(net) == 16 and multiply_accumulates(net, (1, 4)) == 32

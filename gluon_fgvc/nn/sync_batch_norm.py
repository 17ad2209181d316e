"""BatchNorm over the images of all devices of the process (Ioffe and Szegedy 2015; over devices, Peng et al. 2018)."""
from mxnet.gluon import nn

from gluon_fgvc.nn.held_statistics import is_held
from gluon_fgvc.nn.parameters import walk
from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm


class SyncBatchNorm(nn.BatchNorm):
    """A BatchNorm that has been told, by :func:`synchronise`, over how many devices it takes mean and variance.

    Inputs and outputs (N,C,…), as BatchNorm's; gradients flow through the common statistics to all devices.
    """

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        settings = {key: value for key, value in self._kwargs.items() if key != 'axis'}
        return F.contrib.SyncBatchNorm(x, gamma, beta, running_mean, running_var, ndev=self.devices, key=self.prefix,
                                       name='fwd', **settings)


def synchronise(net, devices):
    """Turn every BatchNorm of ``net`` into one over ``devices`` devices, in place; parameters and names stay.

    Layers whose statistics are held have none of a batch, and are left alone.

    :returns: how many there are.
    """
    layers = [block for _, block in walk(net) if type(block) in (nn.BatchNorm, VectorBatchNorm)
              and block._kwargs['axis'] == 1 and not is_held(block)]
    for block in layers:
        block.__class__, block.devices = SyncBatchNorm, devices
    return len(layers)

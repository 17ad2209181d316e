"""BatchNorm of vectors, in a form that cannot end the process."""
from mxnet.gluon import nn


class VectorBatchNorm(nn.BatchNorm):
    """BatchNorm whose inputs and outputs are vectors (N,C).

    MXNet keeps what oneDNN has prepared for a BatchNorm under a key in which maps (N,C,1,1), as small images leave
    them, in oneDNN's layout equal vectors (N,C). A network with both, of as many channels and in one thread, ended the
    process. As maps of one pixel vectors have a key of their own; a map that is one pixel is another one for oneDNN.
    """

    def hybrid_forward(self, F, x, gamma, beta, running_mean, running_var):
        pixels = F.reshape(x, shape=(0, -1, 1, 1))                                         # (N,C,1,1)
        return F.flatten(super().hybrid_forward(F, pixels, gamma, beta, running_mean, running_var))

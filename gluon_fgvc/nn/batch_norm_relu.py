"""A BatchNorm and a ReLU in front of what is made for rectified features."""
from mxnet.gluon import nn


class BatchNormReLU(nn.HybridSequential):
    """BatchNorm and ReLU: whatever the scale and sign of a map, what comes out is of order 1 and not negative.

    Modules that read a map in the middle of a network are specified for one after BN-ReLU. The blocks of MobileNetV2
    and EfficientNet end linear: the third stage of a pretrained EfficientNet-Lite0 has a root mean square of 5.8 and
    values down to -33, with which a softmax over places is one-hot before anything is learnt.

    :param channels: C.

    Input and output: (N,C,h,w). Gradient flows to the input, gamma and beta.
    """

    def __init__(self, channels, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.add(nn.BatchNorm(in_channels=channels), nn.Activation('relu'))

"""Pixels to network input, as a block, so that it can run on the device and be exported with the net."""
from mxnet import nd
from mxnet.gluon import HybridBlock


class Normalize(HybridBlock):
    """``(x / 255 - mean) / std`` per channel, with the layout changed from NHWC to NCHW.

    :param mean, std: three numbers each, RGB on [0, 1].

    Input: images (N,H,W,3), uint8 or float, 0 to 255. Output: (N,3,H,W) float32.
    """

    def __init__(self, mean, std, **kwargs):
        super().__init__(**kwargs)
        self.mean, self.std = tuple(mean), tuple(std)
        with self.name_scope():
            # One multiply and one add: x * scale + shift.
            self.scale = self.params.get_constant('scale', nd.array([1 / (255 * s) for s in std]).reshape((1, 3, 1, 1)))
            self.shift = self.params.get_constant(
                'shift', nd.array([-m / s for m, s in zip(mean, std)]).reshape((1, 3, 1, 1)))
        self.initialize()

    def hybrid_forward(self, F, images, scale, shift):
        images = F.transpose(F.cast(images, 'float32'), axes=(0, 3, 1, 2))  # (N,3,H,W)
        return F.broadcast_add(F.broadcast_mul(images, scale), shift)

"""Pictures that a channel answers to most: gradient ascent on its mean activation, from noise (paper, Sec. 5.2)."""
import cv2
import mxnet as mx
import numpy as np
from mxnet import autograd

from gluon_fgvc.explain.channels import map_of
from gluon_fgvc.nn import as_in_prediction
from gluon_fgvc.nn.channels import channel as one_channel
from gluon_fgvc.nn.parameters import contexts_of

BLURS = ('gaussian', 'bilateral')


def maximise(net, layer, channel, side, mean, std, *, steps=40, rate=0.3, blur='gaussian', seed=0):
    """Return the picture that gradient ascent arrives at, uint8 RGB (side,side,3), and the activations on the way.

    Step i adds ``rate`` times the gradient over (its standard deviation + 1e-8), so that its size does not matter,
    and then blurs, which keeps the picture from filling with fine noise.

    :param net: HybridBlock, normalised images (N,3,H,W) → anything; it is left unhybridized.
    :param layer: structural name of a layer whose output is a map (N,C,h,w).
    :param channel: index of the channel whose mean over the map is maximised, behind the layer's BatchNorm and before
        its activation, so that there is a gradient where a ReLU has none (:func:`~.channels.map_of`).
    :param mean, std: 3-tuples, RGB on [0, 1], of the normalisation; the noise is gray with deviation 0.05.
    :param blur: 'gaussian' with σ = 15 / (i + 1) pixels, or 'bilateral' (9 pixels wide, σ = 0.3 in colour, of images
        on [0, 1], and 3 in space), which keeps edges.
    :returns: (picture, activations (steps,) before each step).
    :raises ValueError: for an unknown blur.
    """
    if blur not in BLURS:
        raise ValueError(f"blur '{blur}' is none of {', '.join(BLURS)}")
    mean, std = np.array(mean, 'float32'), np.array(std, 'float32')
    ctx = contexts_of(net)[0]
    rng = np.random.default_rng(seed)
    picture = (0.5 + 0.05 * rng.standard_normal((side, side, 3))).astype('float32')  # on [0, 1]
    net.hybridize(False)
    with as_in_prediction(net):  # the graph is of it
        block = map_of(net, layer)
    activations = []
    for step in range(steps):
        images = mx.nd.array(((picture - mean) / std).transpose(2, 0, 1)[None], ctx=ctx)
        images.attach_grad()
        with autograd.record():
            activation = one_channel(mx.nd, block(images), channel).mean()
        activation.backward()
        activations.append(activation.asscalar())
        gradient = images.grad[0].asnumpy().transpose(1, 2, 0)
        picture = picture + rate * std * gradient / (gradient.std() + 1e-8)
        picture = blurred(np.clip(picture, 0, 1), step, blur)
    return np.round(255 * picture).astype('uint8'), np.array(activations)


def blurred(picture, step, blur):
    """Return ``picture`` (H,W,3), float32 on [0, 1], as step ``step`` leaves it."""
    if blur == 'gaussian':
        return cv2.GaussianBlur(picture, (0, 0), 15 / (step + 1))
    return cv2.bilateralFilter(picture, 9, 0.3, 3)

"""The attention-redundancy transformer (ART) of CRA-CNN (BMVC 2020), Sec. 3.1: an image in two parts."""
import mxnet as mx
from mxnet import nd
from mxnet.gluon import HybridBlock

from gluon_fgvc.nn.spatial_transformer import affine_sample, pixel_centres


class SimilarityTransform(HybridBlock):
    """Cuts a window out of an image, moved, scaled and turned, and takes it away from what is left.

    Beside :class:`~gluon_fgvc.nn.SpatialTransformer`, with the same first two outputs. The window is bounded (Eq. 6):
    its centre stays on the image, it is no larger than the image, and its shape is the image's.

    :param size: (height, width) of the outputs in pixels; None keeps that of the images.
    :param location: α_p, the farthest that the window's centre moves; 1 is the image's border.
    :param scale: α_s, the largest magnitude of the scale; at 1 and angle 0 the window is the whole image.

    Inputs: images (N,C,H,W); gamma (N,4), unbounded: x location, y location, scale, angle in radians. Outputs:

    - attention (N,C,height,width), the window (:func:`~gluon_fgvc.nn.spatial_transformer.affine_sample`);
    - theta (N,2,3), where it lies (Eq. 4);
    - redundancy (N,C,height,width), the image resized bilinearly (align_corners=True), 0 inside the window (Eq. 5);
    - parameters (N,4), :func:`bounded` of gamma, for the restriction loss.

    Gradient flows to gamma through all but the redundancy, and to the images through both pictures. Float32 only,
    as the sampler is. A scale of 0 shows one place of the image everywhere; its gradient is finite.
    """

    def __init__(self, size=None, location=0.5, scale=1.0, **kwargs):
        super().__init__(**kwargs)
        for name, value in (('location', location), ('scale', scale)):
            if not 0 <= value <= 1:
                raise ValueError(f'{name} {value} is not in [0, 1]')
        self.size, self.location, self.scale = size, location, scale

    def hybrid_forward(self, F, images, gamma):
        parameters = bounded(gamma, self.location, self.scale)
        theta = similarity(parameters)
        resized = images
        if self.size is not None:
            resized = F.contrib.BilinearResize2D(images, height=self.size[0], width=self.size[1], align_corners=True)
        redundancy = F.broadcast_mul(resized, 1 - _mask(F, parameters, images, self.size))
        return [affine_sample(F, images, theta, self.size), theta, redundancy, parameters]


def bounded(gamma, location=0.5, scale=1.0):
    """Return Γ_res = [α_p tanh γ1, α_p tanh γ2, α_s tanh γ3, γ4] (N,4) of ``gamma`` (N,4), Eq. 6."""
    F = _namespace(gamma)
    x, y, s, angle = _columns(F, gamma)
    return F.concat(location * F.tanh(x), location * F.tanh(y), scale * F.tanh(s), angle, dim=1)


def similarity(parameters):
    """Return theta (N,2,3) = [[s cosθ, -s sinθ, t_x], [s sinθ, s cosθ, t_y]] of (t_x, t_y, s, θ) (N,4), Eq. 4."""
    F = _namespace(parameters)
    x, y, scale, angle = _columns(F, parameters)
    cosine, sine = scale * F.cos(angle), scale * F.sin(angle)
    return F.reshape(F.concat(cosine, -sine, x, sine, cosine, y, dim=1), (0, 2, 3))


def redundancy_mask(parameters, size):
    """Return which pixels of an image of ``size`` a window covers: (N,1,height,width), 1 inside and 0 outside.

    A pixel at p is inside iff both components of R(θ)ᵀ(p - t) are at most |s|, borders included. This is the exact
    intersection of Eq. 5; the released code rounds the window's corners to pixels instead, which differs.

    :param parameters: (N,4) t_x, t_y, s, θ, such as :func:`bounded` gives; NDArray or Symbol. No gradient flows back.
    :param size: (height, width) in pixels, whose centres reach from -1 to 1.
    """
    return _mask(_namespace(parameters), parameters, parameters, size)


def _mask(F, parameters, like, size):
    y, x = pixel_centres(F, like, size)
    shift_x, shift_y, scale, angle = (F.reshape(column, (-1, 1, 1))
                                      for column in _columns(F, F.BlockGrad(parameters)))
    dx = F.broadcast_sub(F.reshape(x, (1, 1, -1)), shift_x)                                # (N,1,w)
    dy = F.broadcast_sub(F.reshape(y, (1, -1, 1)), shift_y)                                # (N,h,1)
    cosine, sine, half = F.cos(angle), F.sin(angle), F.abs(scale)
    u = F.broadcast_add(F.broadcast_mul(cosine, dx), F.broadcast_mul(sine, dy))            # (N,h,w)
    v = F.broadcast_sub(F.broadcast_mul(cosine, dy), F.broadcast_mul(sine, dx))
    inside = F.broadcast_lesser_equal(F.broadcast_maximum(F.abs(u), F.abs(v)), half)
    return F.expand_dims(inside, axis=1)


def _columns(F, values):
    return tuple(F.slice_axis(values, axis=1, begin=i, end=i + 1) for i in range(4))      # (N,1) each


def _namespace(values):
    return mx.sym if isinstance(values, mx.sym.Symbol) else nd

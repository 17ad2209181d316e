"""Spatial transformer networks (Jaderberg et al., NIPS 2015): cut out of an image what a network asks for."""
import mxnet as mx
from mxnet import nd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm

MODES = ('affine', 'location')
ZOOM = {'affine': 1.0, 'location': 0.5}  # scale of the window; that of 'location' is Sec. 4.3 of the paper
CELLS = 4    # cells a side in which the localisation network keeps places apart
HIDDEN = 64  # units of its hidden layer


def affine_sample(F, images, theta, size=None):
    """Return ``images`` (N,C,H,W) sampled at :func:`affine_grid`, (N,C,height,width) (Eq. 3 and 5 of the paper).

    Between pixels it is interpolated bilinearly, and beyond the image it is 0. Gradient flows to images and theta.
    """
    return F.BilinearSampler(images, affine_grid(F, images, theta, size))


def affine_grid(F, images, theta, size=None):
    """Return where the affine windows ``theta`` look, for each place of the output (Eq. 1 of the paper).

    Output place (x, y) shows input place theta · (x, y, 1), in coordinates that reach from -1, the centre of the
    first pixel, to 1, that of the last (align_corners=True). The identity is [[1, 0, 0], [0, 1, 0]].

    :param images: (N,C,H,W), for their size, type and device.
    :param theta: (N,2,3), rows x and y, on the images' device and of their type.
    :param size: (height, width) of the output in pixels; None keeps that of ``images``, whatever it is.
    :returns: (N,2,height,width), x before y. Gradient flows to theta.
    """
    y, x = pixel_centres(F, images, size)
    x, y = F.reshape(x, (1, 1, -1)), F.reshape(y, (1, -1, 1))
    rows = []
    for row in (0, 1):
        numbers = F.slice_axis(theta, axis=1, begin=row, end=row + 1)                     # (N,1,3)
        along_x, along_y, shift = (F.slice_axis(numbers, axis=2, begin=i, end=i + 1) for i in range(3))  # (N,1,1)
        moved = F.broadcast_add(F.broadcast_mul(along_y, y), shift)                       # (N,h,1)
        rows.append(F.broadcast_add(F.broadcast_mul(along_x, x), moved))                  # (N,h,w)
    return F.stack(*rows, axis=1)


def pixel_centres(F, images, size=None):
    """Return y (height,) and x (width,), from -1 to 1, of an output of ``size``, by default that of ``images``."""
    if size is None:
        return tuple(_coordinates(F, F.contrib.arange_like(images, axis=axis)) for axis in (2, 3))
    like = {} if F is mx.sym else {'ctx': images.context, 'dtype': images.dtype}
    return tuple(_coordinates(F, F.arange(pixels, **like)) for pixels in size)


def _coordinates(F, numbers):
    """Spread 0, 1, …, n-1 over [-1, 1]; a single one is at -1."""
    return F.broadcast_div(2 * numbers, F.maximum(F.max(numbers), 1)) - 1


class SpatialTransformer(HybridBlock):
    """Localisation network, grid generator and sampler in one: images in, windows of them out.

    :param mode: 'affine' learns all six numbers; 'location' fixes the 2×2 part and learns where the window lies.
    :param size: (height, width) of the windows; None makes them as large as the images.
    :param zoom: the width and height of the window, in those of the image, with which 'affine' starts, as large as it
        ever is, and which 'location' keeps; in (0, 1], and below 1 for 'location'. None is 1, the identity, and 0.5.
    :param channels: of the localisation network's 3×3 convolutions, each with BatchNorm, ReLU and a 2×2 pool.
    :param in_channels: of the images.

    The localisation network averages its last map over 4×4 cells, so images may have any size of at least
    ``2^len(channels)`` pixels, and ends in a linear layer of 64 and one of zeros, so that training starts from the
    bias alone, at the centre. (The paper gives neither its layers nor their sizes for images with clutter.) Two things
    are ours:

    - The hidden 64 numbers are centred and scaled, h = tanh(BatchNorm(linear)) / √64. After a ReLU 84 to 88 % of |h|²
      is common to all images, and a step moves all windows together 48 to 72 times as far as a bias would.
    - No window leaves the image, beyond which there is nothing to learn from. The reach of a row of the 2×2 part is
      r = |a| + |b|; rows that reach further than ``zoom`` are shortened to it, and the window lies at
      m·u / (m + |u|), u what is learnt and m = 1 - r the room that is left. So windows with a zoom of 1 have to shrink
      before they can move. Gradient passes the shortening as if r were a constant: a window at its largest can always
      come back.

    Input: images (N,in_channels,H,W). Outputs: windows (N,in_channels,height,width); theta (N,2,3). Gradient flows
    to the images through both.

    :raises ValueError: for an unknown mode, or a zoom out of range.
    """

    def __init__(self, mode='affine', size=None, zoom=None, channels=(16, 32, 32), in_channels=3, **kwargs):
        super().__init__(**kwargs)
        if mode not in MODES:
            raise ValueError(f"mode '{mode}' is not {' or '.join(map(repr, MODES))}")
        zoom = ZOOM[mode] if zoom is None else zoom
        if not 0 < zoom <= 1 or zoom == 1 and mode == 'location':
            raise ValueError(f"zoom {zoom} must be above 0 and at most 1, and below 1 for mode 'location'")
        self.mode, self.size, self.zoom = mode, size, zoom
        with self.name_scope():
            self.localisation = nn.HybridSequential(prefix='')
            for before, after in zip((in_channels, *channels), channels):
                self.localisation.add(
                    nn.Conv2D(after, 3, padding=1, use_bias=False, in_channels=before),
                    nn.BatchNorm(in_channels=after), nn.Activation('relu'), nn.MaxPool2D(2))
            self.hidden = nn.Dense(HIDDEN, use_bias=False, in_units=channels[-1] * CELLS * CELLS)
            self.centre = VectorBatchNorm(center=False, scale=False, in_channels=HIDDEN)
            start = [zoom, 0, 0, 0, zoom, 0] if mode == 'affine' else [0, 0]
            self.window = nn.Dense(len(start), in_units=HIDDEN, weight_initializer='zeros',
                                   bias_initializer=mx.init.Constant(nd.array(start)))

    def hybrid_forward(self, F, images):
        cells = F.contrib.AdaptiveAvgPooling2D(self.localisation(images), output_size=CELLS)
        learnt = self.window(F.tanh(self.centre(self.hidden(cells))) / HIDDEN ** 0.5)
        if self.mode == 'location':
            theta = self._placed(F, learnt)
        else:
            theta = _kept_inside(F, F.reshape(learnt, (0, 2, 3)), self.zoom)
        return affine_sample(F, images, theta, self.size), theta

    def _placed(self, F, learnt):
        x, y = (F.slice_axis(_bounded(F, learnt, 1 - self.zoom), axis=1, begin=i, end=i + 1) for i in range(2))
        zoom, zero = F.ones_like(x) * self.zoom, F.zeros_like(x)
        return F.reshape(F.concat(zoom, zero, x, zero, zoom, y, dim=1), (0, 2, 3))


def _kept_inside(F, learnt, largest):
    """Return the theta (N,2,3) of windows inside the image: the last axis of ``learnt`` (N,2,3) is a, b and u."""
    part, u = F.slice_axis(learnt, axis=2, begin=0, end=2), F.slice_axis(learnt, axis=2, begin=2, end=3)
    reach = F.sum(F.abs(part), axis=2, keepdims=True)                                     # (N,2,1)
    excess = F.BlockGrad(F.maximum(reach / largest, 1))
    room = 1 - F.broadcast_div(reach, excess)
    return F.concat(F.broadcast_div(part, excess), _bounded(F, u, F.relu(room)), dim=2)


def _bounded(F, u, room):
    """Return u / (1 + |u| / room): ``u`` near 0, and never as far out as ``room``, a number or an array like ``u``.

    Its gradient dies away slowly: one tenth is left at u = 2·room, where tanh would leave one in fourteen, and one in
    a hundred at u = 9·room. A window that was led to the edge comes back.
    """
    return room * u / (room + F.abs(u) + 1e-6)

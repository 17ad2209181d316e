"""Samplers that enlarge what an attention map marks: inverse-transform (TASN), cropping, saliency kernel (SSN).

Zheng et al., "Looking for the Devil in the Details: Learning Trilinear Attention Sampling Network for
Fine-grained Image Recognition", CVPR 2019, Sec. 3.2 and Table 3; Recasens et al., "Learning to Zoom: a
Saliency-Based Sampling Layer for Neural Networks", ECCV 2018.

All three are called ``sampler(images (N,C,H,W), attention (N,1,h,w)) → (N,C,O,O)``, and ``sampler.grid`` of the
same arguments gives where they look: (N,2,O,O), x before y, -1 and 1 at the centres of the outermost pixels (the
convention of ``F.BilinearSampler``). Maps are non-negative; of zeros, constants, single peaks and values up to
float32's largest the grid is finite. Images and maps are square, of any size, in batches of any size; others are a
ValueError or, inside a compiled network, an error of MXNet's shape inference. Only built-in operators are used, so
that the graphs export.
"""
import numpy as np
from mxnet import nd
from mxnet.gluon import HybridBlock

_LARGEST = 3e38   # just below float32's largest
_TINY = 1e-12     # keeps divisions by the sum or maximum of an all-zero map finite


class _Sampler(HybridBlock):
    """Reads the image bilinearly where ``grid``, a block of the same inputs, says; zero outside of the image."""

    def __init__(self, grid, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.grid = grid

    def forward(self, images, attention):
        if isinstance(images, nd.NDArray):  # the sizes of Symbols are not known
            for name, value in (('images', images), ('attention', attention)):
                if value.ndim != 4 or value.shape[2] != value.shape[3] or value.shape[2] < 2:
                    raise ValueError(f'{type(self).__name__}: {name} of shape {value.shape}; the sampler takes square '
                                     f'ones of at least 2 x 2: images (N,C,H,H), attention (N,1,h,h)')
        return super().forward(images, attention)

    def hybrid_forward(self, F, images, attention):
        # Always 0; but where the image is not square, shape inference refuses the difference.
        square = F.sum(F.contrib.arange_like(images, axis=2) - F.contrib.arange_like(images, axis=3))
        return F.BilinearSampler(images, self.grid(images, F.broadcast_add(attention, square)))  # (N,C,O,O)


def _check_size(out_size):
    if out_size < 2:
        raise ValueError(f'out_size {out_size} must be at least 2')


def _meshgrid(F, x, y, out_size):
    """Return (N,2,O,O) of coordinates ``x`` (N,1,O) for columns and ``y`` (N,1,O) for rows."""
    x = F.broadcast_axis(F.expand_dims(x, 2), axis=2, size=out_size)  # (N,1,O,O)
    y = F.broadcast_axis(F.expand_dims(y, 3), axis=3, size=out_size)
    return F.concat(x, y, dim=1)


# --- TASN ------------------------------------------------------------------------------------

class AttentionSampler(_Sampler):
    """Spends output pixels in proportion to attention, in rows and columns apart (TASN, Eq. 4 and 5, Fig. 4).

    The largest attention of each row gives a density over y, that of each column one over x. Both are equalised,
    which makes the enlargement isotropic and bounds it near ``dense`` + 1, and their cumulative sums are inverted
    at O equal steps. A constant map samples at i·(H-1)/O pixels, i = 0…O-1: the last row and column of the image
    are not reached, unlike in a resize with aligned corners.

    :param out_size: O, the side of the sampled image in pixels.
    :param dense: bound on the density, in multiples of the uniform one, of the first round of equalising.
    :param iters: rounds of equalising; 0 leaves the densities as they are.
    :param mode: 'exact' works at the image's resolution, on the map enlarged with aligned corners; 'fast' at the
        map's, with densities averaged between neighbouring cells (trapezoids); 'native' at the map's, without,
        which shifts what is sampled by half a cell of the map.
    :param square: square the map, in mode 'exact' after enlarging it, as the released code does with structure maps.

    Gradient flows to the images only; to the attention it is exactly zero. Differs from the released code, whose
    first row and column lie outside of the image and are black.

    :raises ValueError: for another mode or a parameter out of range; when called on what is not square.
    """

    def __init__(self, out_size, dense=4.0, iters=5, mode='exact', square=False, **kwargs):
        super().__init__(_InverseTransform(out_size, dense, iters, mode, square), **kwargs)


class _InverseTransform(HybridBlock):
    """The grid of :class:`AttentionSampler`."""

    MODES = ('exact', 'fast', 'native')

    def __init__(self, out_size, dense, iters, mode, square, **kwargs):
        super().__init__(**kwargs)
        _check_size(out_size)
        if mode not in self.MODES:
            raise ValueError(f"mode '{mode}' is none of {', '.join(self.MODES)}")
        if not dense > 0:
            raise ValueError(f'dense {dense} must be above 0')
        if iters < 0:
            raise ValueError(f'iters {iters} must be at least 0')
        self._out_size, self._dense, self._iters, self._mode, self._square = out_size, dense, iters, mode, square

    def hybrid_forward(self, F, images, attention):
        attention = F.clip(F.BlockGrad(attention), 0, _LARGEST)
        attention = F.reshape(F.slice_axis(attention, axis=1, begin=0, end=1), (0, -3, -1))     # (N,h,h)
        peak = F.max(attention, axis=(1, 2), keepdims=True)
        attention = F.broadcast_div(attention, F.maximum(peak, _TINY))  # sums cannot overflow
        maxima = (_enlarged_maxima if self._mode == 'exact' else _maxima)(F, images, attention)
        density = self._equalised(F, F.square(maxima) if self._square else maxima)              # (N,2,n)
        if self._mode == 'fast':
            before, after = (F.slice_axis(density, axis=2, begin=b, end=e) for b, e in ((0, -1), (1, None)))
            mass = 0.5 * (before + after)
        else:
            mass = F.slice_axis(density, axis=2, begin=1, end=None)
        return self._inverse(F, mass)

    def _equalised(self, F, maxima):
        """Clip the two densities (N,2,n) at a common bound and spread what is lost evenly, ``iters`` times.

        A density is given in multiples of the uniform one, so it averages 1; it is a sampled image's pixels per
        pixel of a plain resize.
        """
        density = F.broadcast_div(maxima, F.maximum(F.mean(maxima, axis=2, keepdims=True), _TINY))
        for k in range(self._iters):
            bound = F.min(F.max(density, axis=2, keepdims=True), axis=1, keepdims=True)         # (N,1,1)
            density = F.broadcast_minimum(density, F.minimum(bound, self._dense) if k == 0 else bound)
            density = F.broadcast_add(density, 1 - F.mean(density, axis=2, keepdims=True))
        return density

    def _inverse(self, F, mass):
        """Return the grid from the masses (N,2,n-1) between neighbouring nodes.

        The inverse of the cumulative sum C, by linear interpolation, at t is Σ_j clip((t - C_{j-1}) / mass_j, 0, 1)
        nodes; no search is needed.
        """
        ends = F.cumsum(mass, axis=2)
        total = F.slice_axis(ends, axis=2, begin=-1, end=None)                                  # (N,2,1)
        steps = F.reshape(F.arange(self._out_size), (1, 1, -1)) / self._out_size                # (1,1,O)
        t = F.expand_dims(F.broadcast_mul(total, steps), 3)                                     # (N,2,O,1)
        starts, slopes = (F.expand_dims(x, 2) for x in (ends - mass, 1 / F.maximum(mass, _TINY)))
        parts = F.clip(F.broadcast_mul(F.broadcast_sub(t, starts), slopes), 0, 1)               # (N,2,O,n-1)
        y, x = F.split(2 * F.mean(parts, axis=3) - 1, num_outputs=2, axis=1)                    # (N,1,O)
        return _meshgrid(F, x, y, self._out_size)


def _maxima(F, images, attention):
    """Return (N,2,h): the maxima of the rows (over the width, for y) and of the columns of (N,h,h)."""
    return F.stack(F.max(attention, axis=2), F.max(attention, axis=1), axis=1)


def _enlarged_maxima(F, images, attention):
    """Return (N,2,H): :func:`_maxima` of ``attention`` (N,h,h) after enlarging it to the images with aligned corners.

    Between two cells an enlarged row is a straight line, so its maximum over all pixels is one over the pixels next
    to cells. The enlarged map, 250 times as large, is never made.
    """
    pixels = F.contrib.arange_like(images, axis=2)                                             # (H,)
    cells = F.contrib.arange_like(attention, axis=1)                                           # (h,)
    last_pixel, last_cell = (F.max(x, axis=0, keepdims=True) for x in (pixels, cells))         # (1,)
    cells_a_pixel = F.broadcast_div(last_cell, F.maximum(last_pixel, 1))
    centres = F.broadcast_mul(cells, F.broadcast_div(last_pixel, F.maximum(last_cell, 1)))     # cells, in pixels
    beside_cells = F.concat(F.floor(centres), F.ceil(centres), dim=0)                          # (2h,)

    def weights(pixels):
        """Return (1,·,h): bilinear weights of the cells at ``pixels``."""
        places = F.expand_dims(F.broadcast_mul(pixels, cells_a_pixel), 1)
        distances = F.abs(F.broadcast_sub(places, F.expand_dims(cells, 0)))
        return F.expand_dims(F.relu(1 - distances), 0)

    batch = F.slice_axis(attention, axis=2, begin=0, end=1)                                    # (N,h,1)
    everywhere = F.broadcast_like(weights(pixels), batch, lhs_axes=(0,), rhs_axes=(0,))        # (N,H,h)
    beside = F.broadcast_like(weights(beside_cells), batch, lhs_axes=(0,), rhs_axes=(0,))      # (N,2h,h)
    rows = F.batch_dot(F.batch_dot(everywhere, attention), beside, transpose_b=True)           # (N,H,2h)
    columns = F.batch_dot(F.batch_dot(everywhere, attention, transpose_b=True), beside, transpose_b=True)
    return F.stack(F.max(rows, axis=2), F.max(columns, axis=2), axis=1)


# --- baselines of Table 3 --------------------------------------------------------------------

class UniformSampler(_Sampler):
    """Cuts out the tight box of the map's cells of at least ``threshold`` times its maximum, and resizes it.

    The cells divide the image evenly; the resize is bilinear with pixel centres half a pixel from the box's edges.
    The aspect of the box is not kept. Of a constant map, zero included, the box is the whole image.

    :param out_size: O, the side of the result in pixels.
    :param threshold: share of the maximum, in (0, 1].

    Gradient flows to the images only. The paper gives no threshold.

    :raises ValueError: for parameters out of range; when called on what is not square.
    """

    def __init__(self, out_size, threshold=0.5, **kwargs):
        super().__init__(_TightBox(out_size, threshold), **kwargs)


class _TightBox(HybridBlock):
    """The grid of :class:`UniformSampler`."""

    def __init__(self, out_size, threshold, **kwargs):
        super().__init__(**kwargs)
        _check_size(out_size)
        if not 0 < threshold <= 1:
            raise ValueError(f'threshold {threshold} must be in (0, 1]')
        self._out_size, self._threshold = out_size, threshold

    def hybrid_forward(self, F, images, attention):
        attention = F.clip(F.BlockGrad(attention), 0, _LARGEST)
        attention = F.reshape(F.slice_axis(attention, axis=1, begin=0, end=1), (0, -3, -1))     # (N,h,h)
        maxima = _maxima(F, images, attention)                                                  # (N,2,h)
        bound = self._threshold * F.max(maxima, axis=2, keepdims=True)
        inside = F.broadcast_greater_equal(maxima, bound)                                       # (N,2,h)
        numbers = F.contrib.arange_like(maxima, axis=2) + 1
        count = F.max(numbers, axis=0, keepdims=True)                                           # (1,): h
        numbers, count = (F.reshape(value, (1, 1, -1)) for value in (numbers, count))
        end = F.max(F.broadcast_mul(inside, numbers), axis=2, keepdims=True)                    # (N,2,1), in cells
        start = F.broadcast_sub(count, F.max(F.broadcast_mul(inside, F.broadcast_sub(count, numbers) + 1), axis=2,
                                             keepdims=True))
        centres = (F.reshape(F.arange(self._out_size), (1, 1, -1)) + 0.5) / self._out_size      # (1,1,O)
        places = F.broadcast_add(start, F.broadcast_mul(end - start, centres))
        shares = F.broadcast_div(places, count)                                                 # of the image, (N,2,O)
        pixels = F.reshape(F.max(F.contrib.arange_like(images, axis=2), axis=0, keepdims=True), (1, 1, 1)) + 1
        # Pixel p has its centre at (p + 1/2) / H of the image.
        grid = F.broadcast_div(2 * F.broadcast_mul(shares, pixels) - 1, F.maximum(pixels - 1, 1)) - 1
        y, x = F.split(F.clip(grid, -1, 1), num_outputs=2, axis=1)
        return _meshgrid(F, x, y, self._out_size)


class SaliencySampler(_Sampler):
    """Pulls every sampling point towards the salient places around it (SSN, Eq. 3 and 4).

    The map is brought to ``cells`` x ``cells`` bilinearly, made a distribution S, extended by its border values and
    blurred with a Gaussian G: point = (G∗(S·p)) / (G∗S), p the cells' places. The points are enlarged to O x O.
    Both resizes take cells and pixels for tiles of the square (``align_corners=False``), as the released code's did.

    :param out_size: O, the side of the result in pixels.
    :param cells: side of the grid of points.
    :param fwhm: full width at half maximum of G in cells; G has 2·cells - 1 on a side.
    :param mass: how a map becomes S: 'softmax', as in the paper, for the unbounded output of a saliency network,
        or 'sum', division by the sum, for maps that are an amount of attention already.

    Gradient flows to the images and to the map. Differs from the released code in that the blur, which is
    separable, and the border are two matrices, and in 'sum'.

    :raises ValueError: for parameters out of range; when called on what is not square.
    """

    def __init__(self, out_size, cells=31, fwhm=13.0, mass='softmax', **kwargs):
        super().__init__(_SaliencyKernel(out_size, cells, fwhm, mass), **kwargs)


class _SaliencyKernel(HybridBlock):
    """The grid of :class:`SaliencySampler`."""

    def __init__(self, out_size, cells, fwhm, mass, **kwargs):
        super().__init__(**kwargs)
        _check_size(out_size)
        if cells < 2 or not fwhm > 0:
            raise ValueError(f'cells {cells} must be at least 2 and fwhm {fwhm} above 0')
        if mass not in ('softmax', 'sum'):
            raise ValueError(f"mass '{mass}' is neither 'softmax' nor 'sum'")
        self._out_size, self._cells, self._mass = out_size, cells, mass
        places = np.arange(1 - cells, 2 * cells - 1)                       # with the border, on one axis
        kernel = np.exp(-4 * np.log(2) * (np.arange(cells)[:, None] - places) ** 2 / fwhm ** 2)
        kernel[np.abs(np.arange(cells)[:, None] - places) >= cells] = 0
        border = np.eye(cells)[np.clip(places, 0, cells - 1)]              # repeats the outermost cells
        with self.name_scope():
            self.blur = self.params.get_constant('blur', nd.array((kernel @ border)[None]))
            self.blur_of_place = self.params.get_constant(
                'blur_of_place', nd.array(((kernel * places / (cells - 1)) @ border)[None]))
        self.initialize()

    def hybrid_forward(self, F, images, attention, blur, blur_of_place):
        shape = (-1, self._cells * self._cells)
        attention = F.clip(F.slice_axis(attention, axis=1, begin=0, end=1), -_LARGEST, _LARGEST)
        saliency = _resized(F, attention, self._cells)
        if self._mass == 'softmax':
            saliency = F.softmax(F.reshape(saliency, shape), axis=1)
        else:
            saliency = F.relu(F.reshape(saliency, shape))
            saliency = F.broadcast_div(saliency, F.maximum(F.max(saliency, axis=1, keepdims=True), _TINY)) + _TINY
            saliency = F.broadcast_div(saliency, F.sum(saliency, axis=1, keepdims=True))
        saliency = F.reshape(saliency, (-1, self._cells, self._cells))                          # (N,g,g), rows are y

        def filtered(over_y, over_x):
            over_y, over_x = (F.broadcast_like(m, saliency, lhs_axes=(0,), rhs_axes=(0,)) for m in (over_y, over_x))
            return F.batch_dot(F.batch_dot(over_y, saliency), over_x, transpose_b=True)

        total = filtered(blur, blur) + 1e-30
        points = F.stack(filtered(blur, blur_of_place) / total, filtered(blur_of_place, blur) / total, axis=1)
        points = F.clip(2 * points - 1, -1, 1)                                                  # (N,2,g,g)
        return _resized(F, points, self._out_size)


def _resized(F, maps, side):
    """Return ``maps`` (N,C,h,h) as (N,C,side,side), bilinearly: pixels tile the square, corners are not aligned."""
    return F.contrib.BilinearResize2D(maps, height=side, width=side, align_corners=False)

"""The samplers against worked examples, the released numbers and a second implementation in numpy."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from mxnet import autograd, gluon

from gluon_fgvc.nn import AttentionSampler, SaliencySampler, UniformSampler

FILE = Path(__file__).parent / 'files' / 'sampler_small_A.npz'  # from the released code, with the first node at 0
MODES = ('exact', 'fast', 'native')
EACH = [*(lambda out, mode=mode: AttentionSampler(out, mode=mode) for mode in MODES), UniformSampler, SaliencySampler,
        lambda out: SaliencySampler(out, mass='sum')]
each_sampler = pytest.mark.parametrize('make', EACH, ids=[*MODES, 'uniform', 'ssn', 'ssn-sum'])


def array(values):
    """Return NDArray (1,1,h,w) of a matrix, or (N,C,h,w) as it is."""
    values = np.asarray(values, 'float32')
    return mx.nd.array(values if values.ndim == 4 else values[None, None])


def ramp(side):
    """Return the image 10·y + x."""
    return array(10 * np.arange(side)[:, None] + np.arange(side))


def pixels(sampler, images, attention):
    """Return the places (2,O), x and y, in pixels, of a sampler whose rows and columns are independent."""
    grid = sampler.grid(images, attention)[0].asnumpy()
    assert (grid[0] == grid[0, :1]).all() and (grid[1] == grid[1, :, :1]).all()
    return (np.stack([grid[0, 0], grid[1, :, 0]]) + 1) / 2 * (images.shape[2] - 1)


def reference(attention, side, out, dense=4.0, iters=5, square=False):
    """Return the places (2,O) of the attention sampler in float64; on the enlarged map if ``side`` is not its own."""
    places = np.arange(side) * (len(attention) - 1) / (side - 1)
    enlarge = np.maximum(0, 1 - np.abs(places[:, None] - np.arange(len(attention))))
    attention = enlarge @ np.asarray(attention, 'float64') @ enlarge.T
    if square:
        attention = attention ** 2
    masses = [attention.max(axis=1), attention.max(axis=0)]
    masses = [mass / max(mass.sum(), 1e-300) * out for mass in masses]
    for k in range(iters):
        bound = min(mass.max() for mass in masses)
        if k == 0:
            bound = min(bound, dense * out / side)
        masses = [np.minimum(mass, bound) for mass in masses]
        masses = [mass + (out - mass.sum()) / side for mass in masses]
    y, x = (np.interp(np.arange(out) * mass[1:].sum() / out, np.append(0, mass[1:].cumsum()), np.arange(side))
            for mass in masses)
    return np.stack([x, y])


def blobs(count, side=28):
    """Yield maps with one to three Gaussian bumps, as attention has them."""
    rng = np.random.RandomState(0)
    y, x = np.mgrid[:side, :side]
    for _ in range(count):
        values = np.full((side, side), 0.02)
        for _ in range(rng.randint(1, 4)):
            cy, cx, sigma, height = *rng.uniform(4, side - 4, 2), rng.uniform(2.5, 5), rng.uniform(0.3, 1)
            values += height * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 2 / sigma ** 2)
        yield values


# --- attention -------------------------------------------------------------------------------

def test_released_numbers():
    data = np.load(FILE)
    sampler = AttentionSampler(4, dense=4, iters=5, mode='native')
    images, attention = array(data['img']), array(data['att'])
    grid = sampler.grid(images, attention)[0].asnumpy()
    np.testing.assert_allclose(grid[0, 0], data['gx_torch'][0], atol=1e-6)
    np.testing.assert_allclose(grid[1, :, 0], data['gy_torch'][0], atol=1e-6)
    np.testing.assert_allclose(sampler(images, attention).asnumpy(), data['out_torch'], atol=1e-4)


def test_worked_example_a():
    sampler, images = AttentionSampler(4, dense=4, iters=5, mode='native'), ramp(8)
    attention = array([[1, 1, 1, 1], [1, 2, 6, 1], [1, 2, 4, 1], [1, 1, 1, 1]])
    np.testing.assert_allclose(pixels(sampler, images, attention), [
        [0, 2.16705, 3.266712, 4.277664], [0, 1.069444, 2.138889, 3.645833]], atol=1e-5)
    np.testing.assert_allclose(sampler(images, attention)[0, 0, 1].asnumpy(),
                               [10.694444, 12.861495, 13.961157, 14.972108], atol=1e-4)


def test_worked_example_b():
    sampler, images = AttentionSampler(5, dense=1.5, mode='native'), ramp(10)
    attention = array(0.5 + np.array([[0, 0, 1, 0, 0], [0, 1, 2, 1, 0], [1, 2, 9, 2, 1], [0, 1, 2, 1, 0],
                                      [0, 0, 1, 0, 0]]))
    np.testing.assert_allclose(pixels(sampler, images, attention), [[0, 2.035075, 3.249590, 4.367213, 6.293284]] * 2,
                               atol=1e-5)
    assert float(sampler(images, attention)[0, 0, 1, 1].asscalar()) == pytest.approx(22.385821, abs=1e-4)


def test_rows_and_columns_are_not_mixed_up():
    """Attention at the right edge, half-way down, draws x to the right and y to the middle."""
    attention = np.full((9, 9), 0.1)
    attention[4, 8] = 1
    x, y = pixels(AttentionSampler(16, mode='exact'), ramp(33), array(attention))
    assert (x > 28).sum() == 6 and np.diff(x)[-1] < np.diff(x)[0] / 2
    assert abs(np.median(y) - 16) < 1.5 and np.diff(y)[7] < np.diff(y)[0] / 2 > np.diff(y)[8]


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('value', [0, 1, 3e38])
def test_constant_maps_sample_evenly(mode, value):
    found = pixels(AttentionSampler(8, mode=mode), ramp(33), array(np.full((5, 5), value)))
    np.testing.assert_allclose(found, [np.arange(8) * 32 / 8] * 2, atol=1e-4)


@pytest.mark.parametrize('square', [False, True])
@pytest.mark.parametrize('cells, side, out', [(7, 64, 32), (28, 96, 48), (5, 5, 9), (40, 24, 16), (2, 33, 8)])
def test_exact_is_the_map_enlarged_with_aligned_corners(cells, side, out, square):
    """Also where the map is larger than the image; the enlarged map itself is made by the reference only."""
    rng = np.random.RandomState(cells)
    sampler = AttentionSampler(out, mode='exact', square=square)
    for attention in (rng.uniform(0.05, 1, (cells, cells)), 0.05 + np.eye(cells), *blobs(2, cells)):
        found = pixels(sampler, mx.nd.zeros((1, 1, side, side)), array(attention))
        np.testing.assert_allclose(found, reference(attention, side, out, square=square), atol=2e-3)


def test_fast_is_about_a_pixel_and_a_half_off_native_half_a_cell():
    """Of 448 px with maps of 28 cells. Where almost nothing is sampled, between peaks, fast can be 8 px off."""
    errors = {mode: [] for mode in MODES}
    for attention in blobs(12):
        expected = reference(attention, 448, 56)
        for mode in MODES:
            found = pixels(AttentionSampler(56, mode=mode), mx.nd.zeros((1, 1, 448, 448)), array(attention))
            errors[mode].append(np.abs(found - expected))
    largest = {mode: np.max(values, axis=(1, 2)) for mode, values in errors.items()}
    assert largest['exact'].max() < 0.01
    assert 1 < np.median(largest['fast']) < 1.6 and np.mean(errors['fast']) < 0.7 and largest['fast'].max() < 8
    assert 7 < np.median(largest['native']) < 9 and np.mean(errors['native']) > 5  # half a cell is 8.3 px


@pytest.mark.parametrize('mode', MODES)
@given(attention=arrays('float32', (6, 6), elements=st.floats(0, 1000, width=32)))
def test_grids_run_forward_inside_the_image(mode, attention):
    found = pixels(AttentionSampler(12, mode=mode), mx.nd.zeros((1, 1, 30, 30)), array(attention))
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 29 + 1e-3
    assert (np.diff(found, axis=1) > -1e-3).all()


@given(attention=arrays('float32', (6, 6), elements=st.floats(0.125, 1000, width=32)), factor=st.floats(1e-6, 1e6))
def test_only_proportions_count(attention, factor):
    sampler, images = AttentionSampler(12), mx.nd.zeros((1, 1, 30, 30))
    np.testing.assert_allclose(pixels(sampler, images, array(attention * np.float32(factor))),
                               pixels(sampler, images, array(attention)), atol=1e-2)


@given(attention=arrays('float32', (6, 6), elements=st.floats(0.125, 1000, width=32)))
def test_transposing_the_map_swaps_x_and_y(attention):
    sampler, images = AttentionSampler(12), mx.nd.zeros((1, 1, 30, 30))
    np.testing.assert_allclose(pixels(sampler, images, array(attention.T)),
                               pixels(sampler, images, array(attention))[::-1], atol=1e-3)


def test_the_density_is_bounded():
    """A single peak is not enlarged beyond dense + 1 times the plain resize."""
    attention = np.zeros((28, 28))
    attention[10, 12] = 1
    for dense in (1.5, 4):
        found = pixels(AttentionSampler(112, dense=dense), mx.nd.zeros((1, 1, 448, 448)), array(attention))
        assert 0.9 * dense < (448 / 112) / np.diff(found, axis=1).min() <= dense + 1.05


# --- uniform ---------------------------------------------------------------------------------

def test_uniform_cuts_the_tight_box_and_resizes_it():
    """Cells of 4 px of a 16 px image: rows 1 and 2, column 3, so y from 4 to 12 and x from 12 to 16."""
    attention = np.zeros((4, 4))
    attention[1, 3], attention[2, 3], attention[0, 0] = 1, 0.5, 0.49
    x, y = pixels(UniformSampler(4), ramp(16), array(attention))
    np.testing.assert_allclose(y, 4 + np.array([1, 3, 5, 7]) * 8 / 8 - 0.5, atol=1e-5)
    np.testing.assert_allclose(x, 12 + np.array([1, 3, 5, 7]) * 4 / 8 - 0.5, atol=1e-5)
    cut = UniformSampler(4)(ramp(16), array(attention))[0, 0].asnumpy()
    np.testing.assert_allclose(cut, 10 * y[:, None] + x, atol=1e-4)


def test_uniform_takes_the_whole_image_of_a_constant_map():
    for value in (0, 1, 3e38):
        x, y = pixels(UniformSampler(4), ramp(8), array(np.full((3, 3), value)))
        np.testing.assert_allclose(x, [0.5, 2.5, 4.5, 6.5], atol=1e-5)
        np.testing.assert_allclose(y, x)


def test_uniform_threshold():
    attention = np.array([[0.3, 0, 0], [0, 1, 0.6], [0, 0, 0]])
    for threshold, x0, x1 in ((0.2, 0, 9), (0.5, 3, 9), (0.7, 3, 6)):
        x, _ = pixels(UniformSampler(2, threshold), mx.nd.zeros((1, 1, 9, 9)), array(attention))
        np.testing.assert_allclose(x, [x0 + (x1 - x0) / 4 - 0.5, x0 + 3 * (x1 - x0) / 4 - 0.5], atol=1e-5)


# --- saliency --------------------------------------------------------------------------------

def saliency_reference(saliency, cells, fwhm):
    """Return the points (2,g,g) in [-1, 1] with loops over a padded map, as the paper's Eq. 3 and 4 say."""
    pad = cells - 1
    padded = np.pad(saliency, pad, mode='edge')
    axis = np.arange(-pad, pad + 1)
    kernel = np.exp(-4 * np.log(2) * (axis[:, None] ** 2 + axis ** 2) / fwhm ** 2)
    places = (np.arange(cells + 2 * pad) - pad) / (cells - 1)
    points = np.zeros((2, cells, cells))
    for i in range(cells):
        for j in range(cells):
            weights = padded[i:i + 2 * pad + 1, j:j + 2 * pad + 1] * kernel
            points[0, i, j] = (weights * places[j:j + 2 * pad + 1]).sum() / weights.sum()
            points[1, i, j] = (weights * places[i:i + 2 * pad + 1][:, None]).sum() / weights.sum()
    return np.clip(2 * points - 1, -1, 1)


@pytest.mark.parametrize('mass', ['softmax', 'sum'])
def test_saliency_against_loops(mass):
    attention = np.random.RandomState(0).uniform(0, 3, (9, 9))
    saliency = np.exp(attention) / np.exp(attention).sum() if mass == 'softmax' else attention / attention.sum()
    found = SaliencySampler(9, cells=9, fwhm=4, mass=mass).grid(ramp(20), array(attention))[0].asnumpy()
    np.testing.assert_allclose(found, saliency_reference(saliency, 9, 4), atol=1e-5)


def test_saliency_enlarges_its_points_as_tiles():
    """Pixel i of 9 has its centre at (i + 1/2) · 5/9 - 1/2 cells; beyond the outermost centres points repeat."""
    coarse = SaliencySampler(5, cells=5).grid(ramp(20), array(np.eye(5)))[0].asnumpy()
    fine = SaliencySampler(9, cells=5).grid(ramp(20), array(np.eye(5)))[0].asnumpy()
    places = (np.arange(9) + 0.5) * 5 / 9 - 0.5
    rows = np.apply_along_axis(lambda line: np.interp(places, np.arange(5), line), 1, coarse)
    np.testing.assert_allclose(fine, np.apply_along_axis(lambda line: np.interp(places, np.arange(5), line), 2, rows),
                               atol=1e-6)


def test_saliency_draws_points_to_the_peak():
    attention = np.zeros((31, 31))
    attention[20, 8] = 50
    grid = SaliencySampler(31).grid(ramp(62), array(attention))[0].asnumpy()
    away = np.stack(np.meshgrid(np.linspace(-1, 1, 31), np.linspace(-1, 1, 31)))
    peak = away[:, 20, 8][:, None, None]
    assert np.abs(grid - peak).mean() < 0.5 * np.abs(away - peak).mean()


def test_saliency_has_a_gradient_to_the_map():
    """By finite differences, in the middle of the cells of the image where the bilinear reading is smooth."""
    rng = np.random.RandomState(0)
    images, attention = array(rng.uniform(0, 1, (1, 1, 12, 12))), array(rng.uniform(0, 1, (1, 1, 5, 5)))
    images = mx.nd.contrib.BilinearResize2D(images, height=96, width=96)  # smooth
    sampler, weights = SaliencySampler(5, cells=5, fwhm=2), array(rng.normal(size=(1, 1, 5, 5)))
    attention.attach_grad()
    with autograd.record():
        total = (sampler(images, attention) * weights).sum()
    total.backward()
    step, found = 1e-2, attention.grad[0, 0].asnumpy()
    for i, j in ((0, 0), (2, 3), (4, 4), (1, 2)):
        values = []
        for sign in (1, -1):
            moved = attention.asnumpy()
            moved[0, 0, i, j] += sign * step
            values.append(float((sampler(images, array(moved)) * weights).sum().asscalar()))
        assert (values[0] - values[1]) / 2 / step == pytest.approx(found[i, j], rel=0.1, abs=2e-3)
    assert np.abs(found).max() > 0.01


# --- all -------------------------------------------------------------------------------------

@each_sampler
@pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])
def test_shapes_and_finite_values_for_every_map(make, hybridized):
    sampler = make(6)
    sampler.hybridize(hybridized)
    peak = np.eye(49)[24].reshape(7, 7)
    maps = [np.zeros((7, 7)), np.ones((7, 7)), peak, peak[::-1] * 3e38, np.full((7, 7), 3e38), np.full((7, 7), 1e-38),
            np.full((7, 7), np.inf)]
    images = mx.nd.random.normal(shape=(len(maps), 3, 20, 20))
    together = sampler(images, array(np.stack(maps)[:, None])).asnumpy()
    assert together.shape == (len(maps), 3, 6, 6) and np.isfinite(together).all()
    for i, attention in enumerate(maps):  # any batch size, each image by itself
        alone = sampler(images[i:i + 1], array(attention)).asnumpy()
        np.testing.assert_allclose(alone[0], together[i], atol=1e-5)


@each_sampler
def test_gradient_to_the_images(make):
    """It is the transposed reading: a sum of outputs weighted by w has the gradient that gives <w, S·v> for every v."""
    rng = np.random.RandomState(0)
    sampler, attention = make(6), array(rng.uniform(0, 1, (2, 1, 5, 5)))
    images, other, weights = (array(rng.normal(size=(2, 3, side, side))) for side in (16, 16, 6))
    images.attach_grad()
    attention.attach_grad()
    attention.grad[:] = 7
    with autograd.record():
        total = (sampler(images, attention) * weights).sum()
    total.backward()
    expected = float((sampler(other, attention) * weights).sum().asscalar())
    assert float((images.grad * other).sum().asscalar()) == pytest.approx(expected, rel=1e-4)
    assert bool(attention.grad.asnumpy().any()) == isinstance(sampler, SaliencySampler)


@each_sampler
def test_export(make, tmp_path):
    sampler = make(6)
    sampler.hybridize()
    images, attention = mx.nd.random.normal(shape=(2, 3, 20, 20)), mx.nd.random.uniform(shape=(2, 1, 5, 5))
    expected = sampler(images, attention).asnumpy()
    sampler.export(str(tmp_path / 'sampler'))
    text = (tmp_path / 'sampler-symbol.json').read_text()
    assert '"Custom"' not in text and '_CustomFunction' not in text
    parameters = tmp_path / 'sampler-0000.params'
    block = gluon.SymbolBlock.imports(str(tmp_path / 'sampler-symbol.json'), ['data0', 'data1'],
                                      str(parameters) if mx.nd.load(str(parameters)) else None)
    np.testing.assert_array_equal(block(images, attention).asnumpy(), expected)
    assert block(images[:1], attention[:1]).shape == (1, 3, 6, 6)


@each_sampler
def test_only_squares(make):
    sampler, square, oblong = make(6), mx.nd.ones((1, 1, 8, 8)), mx.nd.ones((1, 1, 8, 9))
    for images, attention in ((oblong, square), (square, oblong), (square, mx.nd.ones((1, 1, 1, 1)))):
        with pytest.raises(ValueError, match='takes square ones of at least 2 x 2'):
            sampler(images, attention)
    graph = sampler(mx.sym.var('images'), mx.sym.var('attention'))  # within a compiled network
    with pytest.raises(mx.MXNetError):
        graph.infer_shape_partial(images=oblong.shape, attention=square.shape)


@pytest.mark.parametrize('make, says', [
    (lambda: AttentionSampler(4, mode='exakt'), "mode 'exakt' is none of exact, fast, native"),
    (lambda: AttentionSampler(1), 'out_size 1 must be at least 2'), (lambda: AttentionSampler(4, dense=0), 'dense 0'),
    (lambda: AttentionSampler(4, iters=-1), 'iters -1'), (lambda: UniformSampler(4, 0), r'threshold 0 must be in \(0'),
    (lambda: SaliencySampler(4, cells=1), 'cells 1'), (lambda: SaliencySampler(4, mass='max'), "mass 'max' is")])
def test_parameters_out_of_range(make, says):
    with pytest.raises(ValueError, match=says):
        make()

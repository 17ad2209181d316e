import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc import data
from gluon_fgvc.config import EvalView, TrainView
from gluon_fgvc.data import BrokenImage, EvalTransform, TrainTransform
from gluon_fgvc.data.transforms import EIGENVALUES, PRINCIPAL_COLOURS, _recolour, _reduction, resize
from gluon_fgvc.errors import ConfigError, DataError


def rng(seed=0):
    return np.random.default_rng(seed)


def numbered(height, width):
    """(H,W,3) uint8 whose value tells the pixel (up to 256 pixels)."""
    return np.repeat(np.arange(height * width, dtype=np.uint8).reshape(height, width, 1), 3, axis=2)


def first(image):
    return image[..., 0].tolist()


def test_resize_shorter_side_rounds_the_longer_down():
    assert resize(numbered(3, 5), 6).shape == (6, 10, 3)
    assert resize(numbered(7, 3), 2).shape == (4, 2, 3)  # 4.67


def test_resize_exact_ignores_the_aspect():
    assert resize(numbered(3, 5), (4, 2)).shape == (4, 2, 3)


def test_resize_to_the_same_size_changes_nothing():
    image = numbered(3, 5)
    assert resize(image, 3) is image and resize(image, (3, 5)) is image


def test_shrinking_averages_areas():
    image = 4 * numbered(2, 4)  # 0 4 8 12 / 16 20 24 28
    assert first(resize(image, (1, 2))) == [[10, 18]]
    edge = np.array([[0, 0, 0, 100]], np.uint8)[..., None].repeat(3, 2)
    assert first(resize(edge, (1, 1))) == [[25]]  # bilinear interpolation would see the middle two only
    assert first(resize(np.full((4, 4, 3), 9, np.uint8), (2, 2))) == [[9, 9], [9, 9]]


def test_enlarging_is_bilinear():
    image = np.array([[0, 100]], np.uint8)[..., None].repeat(3, 2)
    assert first(resize(image, (1, 4))) == [[0, 25, 75, 100]]


def test_centre_crop_by_hand():
    # rows 1-2 of 5 (room 3, half of it 1), columns 1-2 of 4
    assert first(EvalTransform(EvalView(crop=2))(numbered(5, 4))) == [[5, 6], [9, 10]]


def test_random_crop_reaches_every_place():
    crop = TrainTransform(TrainView(crop=2))
    seen = {first(crop(numbered(4, 4), rng(seed)))[0][0] for seed in range(200)}
    assert seen == {0, 1, 2, 4, 5, 6, 8, 9, 10}


def test_eight_symmetries_are_equally_likely():
    image = numbered(3, 3)
    turn = TrainTransform(TrainView(flip=True, flip_vertical=True, transpose=True))
    results = [str(first(turn(image, rng(seed)))) for seed in range(800)]
    expected = {str(first(np.rot90(variant, k))) for variant in (image, image[:, ::-1]) for k in range(4)}
    counts = [results.count(result) for result in expected]
    assert set(results) == expected and min(counts) > 60  # 100 each, sd 9.4


@pytest.mark.parametrize('key, expected', [('flip', [[2, 1, 0], [5, 4, 3]]), ('flip_vertical', [[3, 4, 5], [0, 1, 2]]),
                                           ('transpose', [[0, 3], [1, 4], [2, 5]])])
def test_each_symmetry_alone(key, expected):
    turn = TrainTransform(TrainView(**{key: True}))
    results = [first(turn(numbered(2, 3), rng(seed))) for seed in range(40)]
    assert expected in results and [[0, 1, 2], [3, 4, 5]] in results
    assert all(result in (expected, [[0, 1, 2], [3, 4, 5]]) for result in results)


VIEWS = st.fixed_dictionaries({}, optional={
    'resize': st.one_of(st.integers(8, 40), st.tuples(st.integers(8, 40), st.integers(8, 40))),
    'crop': st.integers(1, 8)})
RANDOM = st.fixed_dictionaries({}, optional={
    'flip': st.booleans(), 'flip_vertical': st.booleans(), 'rotation': st.floats(0, 180),
    'color_jitter': st.floats(0, 0.9)})
IMAGES = st.builds(lambda h, w, seed: rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8),
                   st.integers(8, 50), st.integers(8, 50), st.integers(0, 99))


@given(VIEWS, IMAGES)
@settings(deadline=None)
def test_train_equals_test_where_nothing_is_random(view, image):
    train, test = TrainTransform(TrainView(**{**view, 'crop': None})), EvalTransform(EvalView(**{**view, 'crop': None}))
    np.testing.assert_array_equal(train(image, None), test(image))
    assert train.output_size == test.output_size


@given(VIEWS, RANDOM, IMAGES, st.integers(0, 99))
@settings(deadline=None)
def test_size_type_determinism_and_untouched_input(view, randomness, image, seed):
    transform, before = TrainTransform(TrainView(**view, **randomness)), image.copy()
    result = transform(image, rng(seed))
    assert result.dtype == np.uint8 and result.flags['C_CONTIGUOUS'] and result.shape[2] == 3
    np.testing.assert_array_equal(result, transform(image, rng(seed)))
    np.testing.assert_array_equal(image, before)
    if transform.output_size:
        assert result.shape[:2] == transform.output_size
    assert transform.output_size == ((view['crop'], view['crop']) if 'crop' in view else
                                     view.get('resize') if isinstance(view.get('resize'), tuple) else None)


@given(IMAGES, st.integers(1, 40), st.integers(0, 99),
       st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
       st.tuples(st.floats(0.1, 9), st.floats(0.1, 9)).map(sorted))
@settings(deadline=None)
def test_random_resized_crop_has_its_size(image, side, seed, scale, ratio):
    view = TrainView(random_resized_crop=side, scale=tuple(scale), ratio=tuple(ratio))
    transform = TrainTransform(view)
    assert transform.output_size == (side, side) and transform(image, rng(seed)).shape == (side, side, 3)


@pytest.mark.parametrize('shape, size, factor', [
    ((600, 800), (600, 800), 1), ((600, 800), (201, 200), 1), ((600, 800), (200, 267), 1), ((600, 800), (200, 266), 2),
    ((600, 800), (100, 133), 4), ((600, 800), (50, 66), 8), ((600, 800), (1, 1), 8)])
def test_pictures_are_decoded_half_as_large_again_as_needed(shape, size, factor):
    assert _reduction(shape, size) == factor


def test_random_resized_crop_of_everything_is_a_resize():
    image = rng().integers(0, 256, (20, 20, 3), dtype=np.uint8)
    view = TrainView(random_resized_crop=10, scale=(1, 1), ratio=(1, 1))
    np.testing.assert_array_equal(TrainTransform(view)(image, rng()), resize(image, (10, 10)))


def test_random_resized_crop_falls_back_to_the_centre():
    # A square as large as the image's area never fits into 2 x 8: the centred 2 x 2 is left.
    view = TrainView(random_resized_crop=2, scale=(1, 1), ratio=(1, 1))
    assert first(TrainTransform(view)(numbered(2, 8), rng())) == [[3, 4], [11, 12]]


def test_random_resized_crop_draws_areas_and_aspects_from_their_ranges():
    marks = np.zeros((100, 100, 3), np.uint8)
    marks[..., 0], marks[..., 1] = np.arange(100)[:, None], np.arange(100)  # each pixel tells row and column
    view = TrainView(random_resized_crop=100, scale=(0.25, 0.5), ratio=(0.5, 2.0))
    parts = [TrainTransform(view)(marks, rng(seed)) for seed in range(200)]
    heights, widths = (np.array([int(p[..., c].max()) - int(p[..., c].min()) + 1 for p in parts]) for c in (0, 1))
    areas, aspects = heights * widths / 1e4, widths / heights
    assert areas.min() > 0.23 and areas.max() < 0.52 and areas.max() - areas.min() > 0.2
    assert aspects.min() > 0.47 and aspects.max() < 2.1 and aspects.min() < 0.6 and aspects.max() > 1.7


def test_rotation_by_hand():
    image = np.zeros((5, 5, 3), np.uint8)
    image[0, 2] = 200  # top centre

    class Always:
        def uniform(self, low, high):
            return high
    turned = TrainTransform(TrainView(rotation=90))(image, Always())
    assert turned[2, 0, 0] == 200 and turned[..., 0].sum() == 200  # counter-clockwise to the left
    half = TrainTransform(TrainView(rotation=180))(image, Always())
    assert half[4, 2, 0] == 200 and half[..., 0].sum() == 200


def test_rotation_reflects_at_the_border():
    flat = np.full((9, 9, 3), 77, np.uint8)
    assert (TrainTransform(TrainView(rotation=45))(flat, rng(3)) == 77).all()


def test_pca_noise_by_hand():
    class Fixed:
        def normal(self, mean, sd, size):
            assert (mean, sd, size) == (0, 0.1, 3)
            return np.array([0.1, 0, -0.2])
    image = np.full((4, 4, 3), 100, np.uint8)
    image[0, 0] = 255, 0, 3
    noisy = TrainTransform(TrainView(pca_noise=0.1))(image, Fixed())
    # 5.546 · (-0.5675, -0.5808, -0.5836) - 0.2296 · (0.4009, -0.8140, 0.4203) = (-3.24, -3.03, -3.33)
    assert noisy[1, 1].tolist() == [97, 97, 97] and noisy[0, 0].tolist() == [252, 0, 0]


@given(strengths=st.lists(st.floats(-3, 3), min_size=3, max_size=3), seed=st.integers(0, 99))
def test_pca_noise_adds_one_colour(strengths, seed):
    image = rng(seed).integers(0, 256, (7, 5, 3), np.uint8)
    colour = PRINCIPAL_COLOURS @ (EIGENVALUES * strengths)
    assert (_recolour(image, strengths) == np.rint(image + colour).clip(0, 255)).all()


def test_pca_noise_spreads_along_the_first_component():
    image = np.full((1, 1, 3), 128, np.uint8)
    transform, generator = TrainTransform(TrainView(pca_noise=0.5)), rng(0)
    assert transform.random
    colours = np.array([transform(image, generator)[0, 0] for _ in range(400)], float) - 128
    assert abs(colours.mean()) < 3 and colours.std(axis=0) == pytest.approx(0.5 * 55.46 * 0.577, rel=0.15)
    assert np.corrcoef(colours.T).min() > 0.9  # mostly brightness


def test_jitter_by_hand():
    image = np.array([[[100, 100, 100], [50, 50, 50]]], np.uint8)

    class Fixed:
        def __init__(self, *factors):
            self.factors = np.array(factors)

        def uniform(self, low, high, size):
            assert (low, high, size) == (0.5, 1.5, 3)
            return self.factors
    jitter = TrainTransform(TrainView(color_jitter=0.5))
    assert first(jitter(image, Fixed(1.5, 1, 1))) == [[150, 75]]
    assert first(jitter(image, Fixed(1, 0.5, 1))) == [[88, 62]]      # mean 75: 87.5 and 62.5, halves to even
    assert first(jitter(image, Fixed(1, 1, 0.5))) == [[100, 50]]     # gray has no saturation to lose
    colour = np.array([[[200, 100, 0]]], np.uint8)                   # gray 0.299*200 + 0.587*100 = 118.5
    assert jitter(colour, Fixed(1, 1, 0.5))[0, 0].tolist() == [159, 109, 59]
    assert jitter(colour, Fixed(1.5, 1, 1))[0, 0].tolist() == [255, 150, 0]


def test_small_image_names_sizes_and_key():
    with pytest.raises(DataError, match=r'the image is 5 x 9 .* smaller than data.eval.crop 6; set data.eval.resize'):
        EvalTransform(EvalView(crop=6))(numbered(5, 9))
    with pytest.raises(DataError, match='smaller than data.train.crop 6'):
        TrainTransform(TrainView(crop=6))(numbered(9, 5), rng())


@pytest.mark.parametrize('view, message', [
    (TrainView(random_resized_crop=8, resize=8), 'random_resized_crop 8 replaces resize 8'),
    (TrainView(random_resized_crop=8, crop=8), 'random_resized_crop 8 replaces crop 8'),
    (TrainView(random_resized_crop=8, scale=(1.0, 0.5)), r'data.train.scale: \[1.0, 0.5\] must not fall'),
    (TrainView(random_resized_crop=8, ratio=(2.0, 0.5)), 'data.train.ratio'),
    (TrainView(resize=8, crop=9), 'data.train.crop 9 is larger than data.train.resize 8'),
    (EvalView(resize=(8, 20), crop=9), r'data.eval.crop 9 is larger than data.eval.resize \[8, 20\]'),
    (TrainView(resize=(8, 9), transpose=True), r'transpose needs square images, not \[8, 9\]'),
])
def test_contradictions(view, message):
    with pytest.raises(ConfigError, match=message):
        (EvalTransform if isinstance(view, EvalView) else TrainTransform)(view)


@pytest.mark.parametrize('view, place, mirror', [
    (EvalView(), (0.5, 0.5), False), (EvalView(resize=24), (0.5, 0.5), False),
    (EvalView(resize=(24, 60)), (0, 0), True), (EvalView(resize=24, crop=16), (0.5, 0.5), False),
    (EvalView(resize=24, crop=16), (1, 0), True), (EvalView(crop=30), (0, 1), False)])
def test_a_box_moves_with_what_it_frames(view, place, mirror):
    """A white rectangle, prepared, is bright where its box has gone, to half a pixel; sizes are foretold."""
    image, (x, y, width, height) = np.zeros((40, 60, 3), np.uint8), (20, 10, 15, 20)
    image[y:y + height, x:x + width] = 255
    transform = EvalTransform(view, place, mirror)
    prepared = transform(image)
    assert transform.size_of(image.shape) == prepared.shape[:2]
    x, y, width, height = transform.box((x, y, width, height), image.shape)
    rows, columns = np.nonzero(prepared[:, :, 0] > 127)
    for bright, start, length, side in ((columns, x, width, prepared.shape[1]), (rows, y, height, prepared.shape[0])):
        assert bright.min() == pytest.approx(max(start, 0), abs=0.51)
        assert bright.max() + 1 == pytest.approx(min(start + length, side), abs=0.51)


def test_a_box_of_an_image_smaller_than_the_crop():
    with pytest.raises(DataError, match='the image is 5 x 9 .*, smaller than data.eval.crop 8'):
        EvalTransform(EvalView(crop=8)).box((0, 0, 1, 1), (5, 9, 3))


# --- several views of one image --------------------------------------------------------------

def test_flip_adds_the_mirror_image():
    plain, mirrored = data.eval_views(EvalView(crop=2), 'flip')
    image = numbered(4, 4)
    assert first(plain(image)) == [[5, 6], [9, 10]]
    assert first(mirrored(image)) == [[6, 5], [10, 9]]


def test_ten_crop_takes_centre_and_corners_and_mirrors_them():
    found = [first(transform(numbered(3, 4))) for transform in data.eval_views(EvalView(crop=2), 'ten_crop')]
    assert found[:5] == [[[1, 2], [5, 6]], [[0, 1], [4, 5]], [[2, 3], [6, 7]], [[4, 5], [8, 9]], [[6, 7], [10, 11]]]
    assert found[5:] == [[row[::-1] for row in view] for view in found[:5]]


def test_multi_scale_keeps_the_part_in_view():
    views = data.eval_views(EvalView(resize=256, crop=224), 'multi_scale')
    assert [view.output_size for view in views] == [(224, 224), (192, 192), (288, 288)]
    image = np.zeros((300, 300, 3), np.uint8)
    image[75:225, 75:225] = 255  # half of the height, whatever the scale
    for view in views:
        shown = view(image)[:, :, 0] > 127
        assert shown.any(axis=1).mean() == pytest.approx(128 / 224, abs=0.02)
    assert [view.output_size for view in data.eval_views(EvalView(resize=(96, 128)), 'multi_scale')] == [
        (96, 128), (64, 96), (128, 160)]


@pytest.mark.parametrize('kind', [None, *data.VIEWS])
def test_the_first_view_is_the_single_one(kind):
    image = rng().integers(0, 256, (80, 90, 3), dtype=np.uint8)
    view = EvalView(resize=72, crop=64)
    np.testing.assert_array_equal(data.eval_views(view, kind)[0](image), EvalTransform(view)(image))


@pytest.mark.parametrize('view, kind, says', [
    (EvalView(resize=64), 'ten_crop', 'ten_crop needs data.eval.crop'),
    (EvalView(crop=64), 'multi_scale', 'multi_scale needs data.eval.resize'),
    (EvalView(crop=64), 'flop', "unknown test-time augmentation 'flop'; did you mean 'flip'?")])
def test_views_that_cannot_be_had(view, kind, says):
    with pytest.raises(ConfigError, match=says.replace('?', r'\?')):
        data.eval_views(view, kind)


# --- padding ---------------------------------------------------------------------------------

def test_padding_mirrors_before_the_crop():
    image = np.arange(6 * 6 * 3, dtype='uint8').reshape(6, 6, 3)
    transform = TrainTransform(TrainView(pad=2, crop=6))
    assert transform.random and transform.output_size == (6, 6)
    mirrored = np.pad(image, ((2, 2), (2, 2), (0, 0)), mode='reflect')
    windows = {mirrored[top:top + 6, left:left + 6].tobytes() for top in range(5) for left in range(5)}
    seen = {transform(image, np.random.default_rng(seed)).tobytes() for seed in range(200)}
    assert seen == windows and len(windows) == 25


@pytest.mark.parametrize('view, says', [
    (TrainView(pad=2), 'pad 2 enlarges images that nothing crops'),
    (TrainView(pad=2, random_resized_crop=8), 'random_resized_crop 8 replaces pad 2'),
    (TrainView(pad=2, resize=8, crop=13), 'crop 13 is larger')])
def test_padding_that_makes_no_sense(view, says):
    with pytest.raises(ConfigError, match=says):
        TrainTransform(view)


@pytest.mark.parametrize('shape', [(1, 1_000_000), (30_000, 1), (2, 2_000_000)])
def test_strips_whose_long_side_would_grow_beyond_bounds_are_refused(shape):
    with pytest.raises(BrokenImage, match='would have more than 100,000,000 pixels; cut it, or set resize'):
        EvalTransform(EvalView(resize=256, crop=224))(np.zeros((*shape, 3), np.uint8))
    assert EvalTransform(EvalView(resize=(32, 32)))(np.zeros((*shape, 3), np.uint8)).shape == (32, 32, 3)

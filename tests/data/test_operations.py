"""Operations on images: limits in which nothing changes, values by hand, and Pillow as a second implementation."""
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance, ImageOps

from gluon_fgvc import config, data
from gluon_fgvc.config.schema import RandAugment as Settings
from gluon_fgvc.data import operations as op
from gluon_fgvc.data import policies
from gluon_fgvc.data.erasing import erase
from gluon_fgvc.data.samplers import AUGMENT, generator

RNG = np.random.default_rng(0)
IMAGE = np.kron(RNG.integers(0, 256, (8, 10, 3)), np.ones((4, 4, 1))).astype('uint8')
PICTURE = Image.fromarray(IMAGE)
IDENTITIES = [(op.shear_x, 0.0), (op.shear_y, 0.0), (op.translate_x, 0.0), (op.translate_y, 0.0), (op.rotate, 0.0),
              (op.brightness, 0.0), (op.contrast, 0.0), (op.colour, 0.0), (op.sharpness, 0.0), (op.posterize, 8),
              (op.solarize, 256)]


@pytest.mark.parametrize('operation, value', IDENTITIES)
def test_at_strength_zero_nothing_changes(operation, value):
    np.testing.assert_array_equal(operation(IMAGE, value), IMAGE)


@pytest.mark.parametrize('ours, pillow, tolerance', [
    (op.equalize, ImageOps.equalize, 0), (op.auto_contrast, ImageOps.autocontrast, 1),
    (lambda x: op.posterize(x, 3), lambda x: ImageOps.posterize(x, 3), 0),
    (lambda x: op.solarize(x, 100), lambda x: ImageOps.solarize(x, 100), 0),
    # Pillow cuts fractions off.
    (lambda x: op.brightness(x, 0.5), lambda x: ImageEnhance.Brightness(x).enhance(1.5), 1),
    (lambda x: op.contrast(x, -0.4), lambda x: ImageEnhance.Contrast(x).enhance(0.6), 1),
    (lambda x: op.colour(x, 0.7), lambda x: ImageEnhance.Color(x).enhance(1.7), 1),
    (lambda x: op.sharpness(x, 0.8), lambda x: ImageEnhance.Sharpness(x).enhance(1.8), 1),
    (lambda x: op.translate_x(x, 4), lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, 0, 4, 0, 1, 0),
                                                           fillcolor=op.GRAY), 0),
    (lambda x: op.translate_y(x, -4), lambda x: x.transform(x.size, Image.Transform.AFFINE, (1, 0, 0, 0, 1, -4),
                                                            fillcolor=op.GRAY), 0),
])
@pytest.mark.parametrize('values', [lambda x: x, lambda x: x // 2 + 40])
def test_as_pillow_does(ours, pillow, tolerance, values):
    image = values(IMAGE)
    found, expected = ours(image), np.asarray(pillow(Image.fromarray(image)))
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= tolerance
    assert (found != image).any()


def test_geometry_by_hand():
    image = np.zeros((5, 5, 3), 'uint8')
    image[0, 2] = 200
    assert op.rotate(image, 90)[2, 0, 0] == 200  # counter-clockwise: the top goes to the left
    assert op.shear_x(image, 0.5)[0, 3, 0] == 200  # the top row, 2 above the centre, is moved by 1
    assert op.shear_y(image.transpose(1, 0, 2), 0.5)[3, 0, 0] == 200
    assert (op.translate_x(image, 1)[:, -1] == op.GRAY).all() and op.translate_x(image, 1)[0, 1, 0] == 200


def test_colour_by_hand():
    image = np.array([[[10, 20, 30], [110, 120, 130]]], 'uint8')
    assert op.brightness(image, 0.5).tolist() == [[[15, 30, 45], [165, 180, 195]]]
    assert op.posterize(image, 1).tolist() == [[[0, 0, 0], [0, 0, 128]]]
    assert op.solarize(image, 30).tolist() == [[[10, 20, 225], [145, 135, 125]]]
    assert op.auto_contrast(image).tolist() == [[[0, 0, 0], [255, 255, 255]]]
    gray = 0.299 * 10 + 0.587 * 20 + 0.114 * 30
    np.testing.assert_allclose(op.colour(image, -1.0)[0, 0], [gray] * 3, atol=0.51)
    # The mean gray is 68.15, so 68: 10 is 58 below it.
    assert op.contrast(image, -0.5)[0, 0, 0] == 68 - 29


def test_a_flat_image_is_left_alone():
    flat = np.full((4, 4, 3), 90, 'uint8')
    for operation in (op.equalize, op.auto_contrast):
        np.testing.assert_array_equal(operation(flat), flat)


POLICIES = [policies.TrivialAugment(), policies.RandAugment(Settings()),
            policies.RandAugment(Settings(operations=3, magnitude=30))]


@settings(max_examples=60)
@given(st.sampled_from(POLICIES), st.integers(1, 40), st.integers(1, 40), st.integers(0, 9999))
def test_policies_depend_on_the_address_alone(policy, height, width, index):
    image = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
    before = image.copy()
    first, second = (policy(image, generator(AUGMENT, 0, 1, index)) for _ in range(2))
    assert first.shape == image.shape and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(image, before)  # it may be in a cache


@pytest.mark.parametrize('policy', POLICIES)
def test_as_many_numbers_are_drawn_whatever_they_are(policy):
    ends = set()
    for seed in range(20):
        rng = CountingGenerator(seed)
        policy(IMAGE, rng)
        ends.add(rng.drawn)
    assert len(ends) == 1


class CountingGenerator:
    def __init__(self, seed):
        self.drawn, self._rng = 0, np.random.default_rng(seed)

    def integers(self, *arguments):
        self.drawn += 1
        return self._rng.integers(*arguments)


def test_every_operation_is_drawn():
    results = {policies.TrivialAugment()(IMAGE, np.random.default_rng(seed)).tobytes() for seed in range(400)}
    assert len(results) > 150  # of 12 with a strength and, mostly, a sign
    assert IMAGE.tobytes() in results


def test_rand_augment_of_magnitude_zero_keeps_all_but_the_two_without_a_strength():
    kept = {op.equalize(IMAGE).tobytes(), op.auto_contrast(IMAGE).tobytes(), IMAGE.tobytes()}
    policy = policies.RandAugment(Settings(operations=1, magnitude=0))
    assert {policy(IMAGE, np.random.default_rng(seed)).tobytes() for seed in range(200)} == kept


def test_erasing():
    image = np.full((30, 40, 3), 7, 'uint8')
    assert erase(image, 0.0, np.random.default_rng(0)) is image
    shares = []
    for seed in range(200):
        erased = erase(image, 1.0, np.random.default_rng(seed))
        rows, columns = np.nonzero((erased != 7).any(axis=2))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        # Three bytes are 7 by chance once in 256³: what changed is a whole rectangle.
        assert len(rows) == height * width and 0.25 < height / width < 4
        shares.append(height * width / 1200)
    assert 0.015 < min(shares) < 0.04 and 0.28 < max(shares) < 0.36
    assert (image == 7).all()
    assert 60 < sum(erase(image, 0.4, np.random.default_rng(seed)) is not image for seed in range(200)) < 100


@pytest.mark.parametrize('workers', [1, 2])
def test_the_loader_gives_the_same_with_any_number_of_workers(tmp_path, workers):
    images = data.ImageSet('train', [f'#{i}' for i in range(12)], np.arange(12) % 2, reader=read)
    view = config.TrainView(crop=16, policy=Settings(), erasing=0.5)

    def batches(workers):
        with data.Loader(images, data.TrainTransform(view), 4, train=True, seed=3, workers=workers) as loader:
            return np.stack([batch.images.asnumpy() for epoch in (0, 1) for batch in loader.epoch(epoch)])

    alone = batches(0)
    np.testing.assert_array_equal(batches(workers), alone)
    assert (alone[:3] != alone[3:]).any()


def read(row):
    return np.random.default_rng(row).integers(0, 256, (20, 20, 3), np.uint8)


def test_a_view_with_either_is_random():
    assert not data.TrainTransform(config.TrainView(resize=8)).random
    assert data.TrainTransform(config.TrainView(resize=8, erasing=0.1)).random
    assert data.TrainTransform(config.TrainView(resize=8, policy=Settings())).random

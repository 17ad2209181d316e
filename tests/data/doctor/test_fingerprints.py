"""Hashes keep what retouching keeps; the search finds what comparing every pair finds; thumbnails decide."""
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.data import Picture
from gluon_fgvc.data.doctor import fingerprints
from tests.data import plant_defects


def thumbnails(*images):
    return np.stack([fingerprints.thumbnail(image) for image in images])


def same(first, second):
    return bool(fingerprints.compare(thumbnails(first), thumbnails(second))[0][0])


def test_a_hash_is_the_signs_of_the_low_frequencies():
    # cos(pi (2x + 1) k / 64) is the k-th column frequency of the transform of 32 pixels and nothing else.
    x = np.arange(32)
    for k, sign in ((3, 1), (5, -1)):
        wave = sign * np.cos(np.pi * (2 * x + 1) * k / 64)
        image = np.repeat(np.uint8(np.round(128 + 100 * wave))[None, :, None], 32, 0).repeat(3, 2)
        coefficients = cv2.dct(image[..., 0].astype(np.float32))[:8, :8]
        assert np.abs(coefficients[0, k]) > 50 * np.abs(np.delete(coefficients.ravel()[1:], k - 1)).max()
        assert fingerprints.perceptual_hash(image)[k - 1] == (sign > 0)  # bit 0 is frequency (0, 1)


@given(st.integers(0, 200), st.floats(0.6, 1.2), st.integers(-20, 20))
def test_brightness_and_contrast_hardly_move_a_hash(index, gain, offset):
    image = plant_defects.picture(0, index).astype(float)
    image = np.uint8(np.round(60 + 140 * (image - image.min()) / np.ptp(image)))  # room at both ends, and no fog
    changed = np.uint8(np.clip(np.round(128 + (image.astype(float) - 128) * gain + offset), 0, 255))
    before, after = fingerprints.perceptual_hash(image), fingerprints.perceptual_hash(changed)
    assert (before != after).sum() <= 6


@given(st.integers(0, 200), st.sampled_from(plant_defects.RETOUCHES[:-1]))
def test_a_retouched_photograph_is_the_same(index, how):
    image = plant_defects.picture(7, index)
    _, content = plant_defects.retouched(np.random.default_rng(index), image, how)
    changed = Picture('retouched', content).pixels()
    assert same(image, changed) and same(changed, image)
    different = fingerprints.perceptual_hash(image) != fingerprints.perceptual_hash(changed)
    assert different.sum() <= fingerprints.RADIUS


def test_one_scene_with_another_subject_is_another_photograph():
    pairs = [(plant_defects.picture(7, k), plant_defects.picture(7, 10_000 + k, k)) for k in range(60)]
    assert not any(same(*pair) for pair in pairs)


def test_a_photograph_is_itself_and_nothing_else():
    images = [plant_defects.picture(7, k) for k in range(40)]
    found = [(i, j) for i in range(40) for j in range(40) if same(images[i], images[j])]
    assert found == [(i, i) for i in range(40)]


def test_blank_images():
    noise = np.random.default_rng(0).normal(0, 1, (2, 64, 64, 3))
    white, gray, again = (np.uint8(np.clip(shade + noise[k], 0, 255)) for k, shade in ((0, 250), (0, 120), (1, 120)))
    assert same(gray, again) and not same(white, gray)
    assert not same(gray, plant_defects.picture(7, 0)) and not same(plant_defects.picture(7, 0), gray)


def test_clipped_highlights_do_not_hide_a_copy():
    ramp = np.tile(np.linspace(20, 235, 96)[None, :, None], (96, 1, 3))
    ramp[30:60, 30:60, 0] = 90
    bright = np.clip(ramp * 1.3 + 10, 0, 255)
    assert same(np.uint8(ramp), np.uint8(bright)) and same(np.uint8(bright), np.uint8(ramp))
    assert not same(np.uint8(ramp), np.uint8(np.clip(ramp + 90, 0, 255)))  # beyond retouching


def test_a_moved_subject_on_white_is_another_photograph():
    left, right = (np.full((96, 96, 3), 240, np.uint8) for _ in range(2))
    cv2.circle(left, (40, 48), 16, (30, 90, 160), -1)
    cv2.circle(right, (56, 48), 16, (30, 90, 160), -1)
    assert not same(left, right) and same(left, left)


@pytest.mark.parametrize('rows', [3, 4096])
def test_the_search_proposes_all_pairs_within_the_radius(monkeypatch, rows):
    monkeypatch.setattr(fingerprints, 'ROWS', rows)
    rng = np.random.default_rng(1)
    hashes = rng.random((20, fingerprints.BITS)) < 0.5
    for row, bits in ((3, 16), (8, 17), (11, 0)):  # at, beyond and within the radius of row 0
        hashes[row] = hashes[0]
        hashes[row, rng.permutation(fingerprints.BITS)[:bits]] ^= True
    expected = {(i, j) for i in range(20) for j in range(i + 1, 20) if (hashes[i] != hashes[j]).sum() <= 16}
    assert {(0, 3), (0, 11)} <= expected and (0, 8) not in expected
    found = [pair for i, j in fingerprints.proposed_pairs(hashes, 16) for pair in zip(i.tolist(), j.tolist())]
    assert len(found) == len(set(found)) and set(found) == expected


def test_near_pairs_compare_what_the_hashes_propose(monkeypatch):
    monkeypatch.setattr(fingerprints, 'PAIRS', 2)
    images = [plant_defects.picture(7, k) for k in (0, 1, 0, 2, 0)]
    hashes = np.stack([fingerprints.perceptual_hash(image) for image in images])
    assert fingerprints.near_pairs(hashes, thumbnails(*images)) == [(0, 2), (0, 4), (2, 4)]


def pairs_of(images):
    hashes = np.stack([fingerprints.perceptual_hash(image) for image in images])
    return fingerprints.near_pairs(hashes, thumbnails(*images))


@pytest.mark.parametrize('count, found', [(fingerprints.CROWD + 1, True), (fingerprints.CROWD + 2, False)])
def test_likeness_to_a_crowd_says_nothing(count, found):
    """Crops of one picture are alike two by two; of six each has five likenesses, of seven more than CROWD."""
    picture = cv2.resize(plant_defects.picture(7, 4), (192, 192))
    crops = [picture[k:180 + k, :180] for k in range(count)]  # each a pixel lower
    assert all(same(one, other) for one in crops for other in crops)
    pairs = pairs_of(crops)
    assert (len(pairs) == count * (count - 1) / 2) == found


def test_a_crowd_of_true_copies_is_found():
    picture = cv2.resize(plant_defects.picture(7, 4), (192, 192), interpolation=cv2.INTER_CUBIC)
    copies = [Picture('copy', plant_defects.encode(picture, 'JPEG', quality=quality)).pixels()
              for quality in range(80, 97, 2)]
    assert len(pairs_of(copies)) == len(copies) * (len(copies) - 1) / 2

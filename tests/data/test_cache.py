import numpy as np

from gluon_fgvc.data.cache import MIB, ImageCache


def test_images_come_back_and_cannot_be_changed(picture):
    cache = ImageCache(3, 1, workers=2)
    assert cache.get(1) is None
    cache.put(1, picture(5, 7), worker=1)
    cache.put(0, picture(4, 4, seed=1)[:, ::-1], worker=1)
    np.testing.assert_array_equal(cache.get(1), picture(5, 7))
    np.testing.assert_array_equal(cache.get(0), picture(4, 4, seed=1)[:, ::-1])
    assert cache.get(2) is None and not cache.get(1).flags.writeable


def test_the_ceiling_holds_for_each_worker_and_smaller_images_still_fit():
    """Half of 1 MiB is room for 416 x 420 x 3 = 524,160 bytes and 128 more."""
    large, small = np.ones((416, 420, 3), np.uint8), np.full((6, 7, 3), 2, np.uint8)
    assert MIB // 2 - large.size == 128
    cache = ImageCache(9, 1, workers=2)
    for index, image, worker in ((0, large, 0), (1, large, 0), (2, small, 0), (3, small, 0), (4, large, 1)):
        cache.put(index, image, worker)
    assert [cache.get(index) is not None for index in range(9)] == [True, False, True, False, True] + [False] * 4
    assert (cache.get(0) == 1).all() and (cache.get(2) == 2).all() and (cache.get(4) == 1).all()


def test_random_puts_never_overlap():
    random = np.random.RandomState(0)
    cache, kept = ImageCache(200, 1, workers=3), {}
    for index in random.permutation(200):
        image = random.randint(0, 256, (*random.randint(1, 60, 2), 3)).astype(np.uint8)
        cache.put(index, image, random.randint(3))
        kept[index] = image
    found = [index for index in kept if cache.get(index) is not None]
    assert 100 < len(found)
    for index in found:
        np.testing.assert_array_equal(cache.get(index), kept[index])

"""Small image files and sets, made where a test needs them."""
import cv2
import numpy as np
import pytest

from gluon_fgvc.data import ImageSet


@pytest.fixture
def picture():
    """picture(height, width, seed) → (H,W,3) uint8 RGB noise, the same for the same arguments."""
    def make(height=12, width=12, seed=0):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return make


@pytest.fixture
def write_image(picture):
    """write_image(path, height, width, seed) writes such noise, making folders as needed; returns the text path."""
    def write(path, height=12, width=12, seed=0):
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), cv2.cvtColor(picture(height, width, seed), cv2.COLOR_RGB2BGR))
        return str(path)
    return write


@pytest.fixture
def image_set(tmp_path, write_image):
    """image_set(n, ...) → ImageSet of n PNG files with labels 0, 1, 2, 0, …"""
    def make(count=10, height=12, width=12, **fields):
        paths = [write_image(tmp_path / 'images' / f'{i}.png', height, width, seed=i) for i in range(count)]
        return ImageSet('train', paths, np.arange(count, dtype=np.int64) % 3, **fields)
    return make

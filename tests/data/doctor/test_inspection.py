"""What one look at an image tells."""
import io

import numpy as np
import pytest
from PIL import Image

from gluon_fgvc.data import ImageSet
from gluon_fgvc.data.doctor.inspection import inspect
from gluon_fgvc.data.findings import KINDS
from tests.data import plant_defects

PICTURE = plant_defects.picture(3, 0)


def inspect_file(path):
    return inspect(ImageSet('train', [path], np.zeros(1, np.int64)), 0)


ICON = Image.fromarray(PICTURE).convert('RGBA')


def gif_with_transparency():
    stream = io.BytesIO()
    Image.fromarray(PICTURE).quantize(16).save(stream, 'GIF', transparency=3)
    return stream.getvalue()


@pytest.mark.parametrize('name, content, kinds', [
    ('a.jpg', plant_defects.encode(PICTURE, 'JPEG'), []),
    ('a.JPEG', plant_defects.encode(PICTURE, 'JPEG'), []),
    ('a', plant_defects.encode(PICTURE, 'PNG'), []),  # no extension claims nothing
    ('a.jpg', plant_defects.encode(PICTURE, 'MPO'), []),  # JPEG with a second picture behind it
    ('a.tif', plant_defects.encode(PICTURE, 'TIFF'), []),
    ('a.jpg', plant_defects.encode(PICTURE, 'PNG'), ['wrong_extension']),
    ('a.jpg', plant_defects.encode(ICON, 'PNG'), ['alpha', 'wrong_extension']),
    ('a.gif', gif_with_transparency(), ['alpha']),
    ('a.webp', plant_defects.encode(ICON, 'WEBP', lossless=True, exact=True), []),  # opaque: WebP drops the channel
    ('a.png', plant_defects.encode(Image.fromarray(np.uint16(PICTURE[..., 0]) * 257), 'PNG'), ['16-bit']),
    ('a.jpg', plant_defects.encode(Image.fromarray(PICTURE).convert('CMYK'), 'JPEG'), ['cmyk']),
    ('a.jpg', b'', ['unreadable']),
    ('a.jpg', b'<html>', ['unreadable']),
    ('a.jpg', plant_defects.encode(PICTURE, 'JPEG')[:-2], ['truncated']),
    ('a.jpg', plant_defects.encode(PICTURE, 'JPEG')[:30], ['truncated']),
    ('a.png', plant_defects.encode(PICTURE, 'PNG')[:-20], ['truncated']),
    ('a.bmp', plant_defects.encode(PICTURE, 'BMP')[:-500], ['truncated']),
    ('a.gif', plant_defects.encode(PICTURE, 'GIF')[:900], ['truncated']),
    ('a.webp', plant_defects.encode(PICTURE, 'WEBP')[:-10], ['truncated']),
])
def test_one_file(tmp_path, name, content, kinds):
    (tmp_path / name).write_bytes(content)
    found = inspect_file(str(tmp_path / name))
    assert [kind for kind, _ in found.problems] == kinds and set(kinds) <= set(KINDS)
    assert found.readable == (not {'unreadable', 'truncated'} & set(kinds))
    if found.readable:
        assert found.size == PICTURE.shape[1::-1] and found.hash.shape == (63,) and found.gray == ('16-bit' in kinds)


def test_a_missing_file_is_unreadable(tmp_path):
    found = inspect_file(str(tmp_path / 'gone.jpg'))
    assert found.problems == (('unreadable', 'No such file or directory'),) and not found.readable


@pytest.mark.parametrize('side, form', [(700, 'JPEG'), (300, 'JPEG'), (700, 'PNG')])
def test_large_files_have_the_fingerprint_of_small_ones(tmp_path, side, form):
    big = Image.fromarray(PICTURE).resize((side, side), Image.Resampling.BICUBIC)
    (tmp_path / 'big').write_bytes(plant_defects.encode(big, form))
    (tmp_path / 'small').write_bytes(plant_defects.encode(big.resize((100, 100), Image.Resampling.BOX), 'PNG'))
    large, small = (inspect_file(str(tmp_path / name)) for name in ('big', 'small'))
    assert large.size == (side, side) and (large.hash != small.hash).sum() <= 4
    assert np.abs(large.thumbnail.astype(int) - small.thumbnail).mean() < 3

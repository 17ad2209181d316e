import io
import os

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFile

from gluon_fgvc.config import EvalView, TrainView
from gluon_fgvc.data import EvalTransform, Picture, TrainTransform, images, read_image
from gluon_fgvc.errors import DataError


def encode(array, form, mode=None, **options):
    image = Image.fromarray(array)
    stream = io.BytesIO()
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


@pytest.fixture
def read(tmp_path):
    def make(content, name='photo.jpg'):
        (tmp_path / name).write_bytes(content)
        return read_image(tmp_path / name)
    return make


@pytest.fixture
def smooth(picture):
    """(48,64,3) uint8 without the fine detail that JPEG would lose."""
    return cv2.resize(picture(3, 4), (64, 48), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize('form', ['PNG', 'BMP', 'TIFF'])
def test_lossless_files_are_read_exactly_in_rgb_order(read, picture, form):
    image = picture(7, 5)
    result = read(encode(image, form))
    assert result.dtype == np.uint8 and result.flags['C_CONTIGUOUS']
    np.testing.assert_array_equal(result, image)


@pytest.mark.parametrize('form, options', [('JPEG', {}), ('JPEG', {'progressive': True}), ('JPEG', {'mode': 'CMYK'}),
                                           ('WEBP', {})])
def test_lossy_files_are_read_closely(read, smooth, form, options):
    assert np.abs(read(encode(smooth, form, quality=95, **options)).astype(int) - smooth).mean() < 4


@pytest.mark.parametrize('form, mode', [('PNG', 'L'), ('JPEG', 'L'), ('PNG', '1'), ('PNG', 'LA'), ('BMP', 'L'),
                                        ('GIF', 'L')])
def test_gray_files_have_three_equal_channels(read, smooth, form, mode):
    result = read(encode(smooth, form, mode))
    assert result.shape == (48, 64, 3) and result.std() > 0
    assert (result[..., 0] == result[..., 1]).all() and (result[..., 0] == result[..., 2]).all()


def test_sixteen_bits_keep_the_upper_eight(read, picture):
    image = picture().astype(np.uint16) << 8 | 200
    np.testing.assert_array_equal(read(cv2.imencode('.png', image[..., ::-1])[1].tobytes()), image >> 8)


def test_sixteen_bits_of_a_form_that_would_be_clipped_are_refused(read, picture):
    with pytest.raises(DataError, match="TIFF with pixels of mode 'I;16' is not supported; convert it to PNG"):
        read(cv2.imencode('.tif', picture()[..., 0].astype(np.uint16) << 8)[1].tobytes())


@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
def test_transparency_is_dropped(read, picture, form):
    image = np.dstack([picture(), picture(seed=1)[..., :1]])
    np.testing.assert_array_equal(read(encode(image, form)), image[..., :3])


@pytest.mark.parametrize('form', ['JPEG', 'WEBP'])
def test_orientation_is_applied(read, smooth, form):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = np.rot90(smooth, -1)
    assert np.abs(read(encode(smooth, form, quality=95, exif=exif)).astype(int) - turned).mean() < 4


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(DataError, match=r"cannot read image '.*/none.jpg': No such file"):
        read_image(tmp_path / 'none.jpg')
    with pytest.raises(DataError, match='Is a directory'):
        read_image(tmp_path)


@pytest.mark.parametrize('content, reason', [(b'', 'it has 0 bytes'), (b'hello, I am text', 'it is not an image'),
                                             (b'\x89PNG\r\n\x1a\n', 'it is truncated'),
                                             (b'\xff\xd8\xff\xd9', 'it is truncated')])
def test_what_is_no_image(read, content, reason):
    with pytest.raises(DataError, match=f"cannot read image '.*photo.jpg': {reason}"):
        read(content)


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'BMP', 'GIF', 'TIFF'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.9])
def test_truncated_files(read, picture, form, share, monkeypatch):
    monkeypatch.setattr(ImageFile, 'LOAD_TRUNCATED_IMAGES', True)  # as importing gluoncv leaves it
    content = encode(picture(60, 80), form)
    with pytest.raises(DataError, match='truncated|not an image'):
        read(content[:int(share * len(content))])


@pytest.mark.parametrize('options', [{}, {'progressive': True}, {'mode': 'L'}])
def test_every_truncation_of_a_jpeg_is_noticed(read, smooth, options):
    content = encode(smooth, 'JPEG', **options)
    for length in range(len(content)):
        with pytest.raises(DataError):
            read(content[:length])


def test_the_end_of_an_embedded_thumbnail_does_not_count(read, smooth):
    content = encode(smooth, 'JPEG')
    thumbnail = encode(smooth[:8, :8], 'JPEG')
    segment = b'\xff\xe1' + (len(thumbnail) + 2).to_bytes(2, 'big') + thumbnail
    with_thumbnail = content[:2] + segment + content[2:]
    np.testing.assert_array_equal(read(with_thumbnail), read(content))
    with pytest.raises(DataError, match='no end marker'):
        read(with_thumbnail[:-300])


def test_bytes_behind_the_end_do_no_harm(read, smooth):
    for form in ('JPEG', 'PNG'):
        content = encode(smooth, form)
        np.testing.assert_array_equal(read(content + b'\0' * 99), read(content))


def test_corrupt_png(read, picture):
    content = bytearray(encode(picture(), 'PNG'))
    content[len(content) // 2] ^= 0xff
    with pytest.raises(DataError, match='corrupt'):
        read(bytes(content))


@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP'])
def test_too_many_pixels_are_refused_before_they_are_decoded(read, picture, monkeypatch, form):
    content = encode(picture(20, 30), form)
    monkeypatch.setattr(images, 'MAX_PIXELS', 600)
    read(content)
    monkeypatch.setattr(images, 'MAX_PIXELS', 599)
    with pytest.raises(DataError, match='30 x 20 are more than 599 pixels'):
        read(content)


@pytest.fixture
def scene(tmp_path):
    """scene(height, width) writes a JPEG with the amplitudes of a photograph, 1 / frequency, and returns its path."""
    def make(height=600, width=800, **options):
        random = np.random.default_rng(height)
        frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width))
        frequency[0, 0] = np.inf
        phases = np.exp(2j * np.pi * random.random((3, *frequency.shape)))
        waves = np.fft.irfft2(phases / frequency, (height, width)).transpose(1, 2, 0)
        waves = waves @ np.array([[1, 1, 1], [0.2, 0, -0.2], [0.1, -0.2, 0.1]])  # colours differ less than brightness
        image = np.clip(128 + 55 * waves / waves.std(), 0, 255).astype(np.uint8)
        (tmp_path / 'scene.jpg').write_bytes(encode(image, 'JPEG', quality=92, **options))
        return tmp_path / 'scene.jpg'
    return make


@pytest.mark.parametrize('factor', [1, 2, 4, 8])
def test_a_jpeg_can_be_had_at_a_fraction(scene, factor):
    picture = Picture(scene(601, 800))
    assert picture.reducible and picture.shape == (601, 800)
    assert picture.pixels(factor).shape == (-(-601 // factor), 800 // factor, 3)


def test_only_a_jpeg_can(tmp_path, picture):
    (tmp_path / 'x.png').write_bytes(encode(picture(64, 64), 'PNG'))
    assert not Picture(tmp_path / 'x.png').reducible
    with pytest.raises(ValueError, match='1/2 of its size'):
        Picture(tmp_path / 'x.png').pixels(2)


@pytest.mark.parametrize('orientation', range(1, 9))
def test_reduced_pixels_are_upright_too(scene, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Picture(scene(484, 646, exif=exif))
    assert picture.shape == ((484, 646) if orientation < 5 else (646, 484))
    full, half = picture.pixels(), picture.pixels(2)
    assert full.shape[:2] == picture.shape and half.shape[:2] == tuple(-(-side // 2) for side in picture.shape)
    shrunk = cv2.resize(full, half.shape[1::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(half.astype(int) - shrunk).mean() < 0.2 * np.abs(half.astype(int) - shrunk[::-1, ::-1]).mean()


def test_an_orientation_that_cannot_be_read_is_the_decoders(read, smooth, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(smooth, 'JPEG', exif=exif)
    start = content.index(b'Exif\0\0') + 6
    for name, broken in (('order.jpg', b'XX' + content[start + 2:]), ('value.jpg', content[start:].replace(
            b'\x12\x01\x03\x00', b'\x12\x01\x07\x00'))):
        image = read(content[:start] + broken, name)
        assert Picture(tmp_path / name).shape == image.shape[:2]


@pytest.mark.parametrize('side', [96, 128, 160])
def test_what_comes_of_reduced_decoding_is_close(side, monkeypatch):
    """The largest mean difference that the toolkit promises is 2 of 255; on the photograph that matplotlib brings."""
    path = os.path.join(matplotlib.get_data_path(), 'sample_data', 'grace_hopper.jpg')  # 606 x 512
    test, train = EvalTransform(EvalView(resize=side)), TrainTransform(TrainView(random_resized_crop=side * 7 // 8))
    factors, pixels = [], Picture.pixels
    monkeypatch.setattr(Picture, 'pixels', lambda self, factor=1: factors.append(factor) or pixels(self, factor))
    differences = [np.abs(test(Picture(path)).astype(int) - test(read_image(path))).mean()]
    for seed in range(20):
        reduced, whole = (train(image, np.random.default_rng(seed)) for image in (Picture(path), read_image(path)))
        differences.append(np.abs(reduced.astype(int) - whole).mean())
    assert differences[0] < 2 and np.mean(differences) < 1 and max(differences) < 2.5
    assert factors[0] == 2 and {1, 2} <= set(factors[2:])

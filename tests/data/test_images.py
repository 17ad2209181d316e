import io
import json
import os
import subprocess
import sys
import warnings

import cv2
import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from gluon_fgvc.config import EvalView, TrainView
from gluon_fgvc.data import EvalTransform, ImageSet, Loader, Picture, TrainTransform, images, read_image
from gluon_fgvc.data.doctor.inspection import inspect
from gluon_fgvc.deploy import ImageClassifier
from gluon_fgvc.errors import DataError
from gluon_fgvc.pages import pictures
from tests.data import odd_images


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


# --- one reading ------------------------------------------------------------------------------

XMP = ('<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
       '<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="{}"/></rdf:RDF></x:xmpmeta>')


def described(form, orientation, said_in):
    """Return an image of ``form`` whose EXIF, XMP, both or two EXIF segments give ``orientation``."""
    exif = Image.Exif()
    exif[0x010f] = 'maker'
    if said_in != 'xmp':
        exif[0x0112] = orientation
    options = {} if said_in == 'xmp' else {'exif': exif}
    if form == 'TIFF':
        if said_in in ('xmp', 'both'):
            options['tiffinfo'] = {700: XMP.format(orientation).encode()}
            if said_in == 'both':
                options['tiffinfo'][0x0112] = orientation
                del options['exif']
        return odd_images.encode(form, **options)
    options.update({'WEBP': {'lossless': True}, 'JPEG': {'quality': 95}}.get(form, {}))
    xmp = XMP.format(orientation if said_in == 'xmp' else orientation % 8 + 1)  # EXIF comes first
    if form == 'WEBP' and said_in in ('xmp', 'both'):
        options['xmp'] = xmp.encode()
    data = odd_images.encode(form, **options)
    if form == 'PNG' and said_in in ('xmp', 'both'):
        data = data[:33] + odd_images.chunk(b'iTXt', b'XML:com.adobe.xmp\0\0\0\0\0' + xmp.encode()) + data[33:]
    if form == 'JPEG' and said_in in ('xmp', 'both'):  # XMP stands first
        segment = b'http://ns.adobe.com/xap/1.0/\0' + xmp.encode()
        data = data[:2] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + data[2:]
    if form == 'JPEG' and said_in == 'two segments':
        exif[0x0112] = orientation % 8 + 1
        segment = exif.tobytes()
        at = data.index(b'\xff\xe1')
        at += 2 + int.from_bytes(data[at + 2:at + 4], 'big')
        data = data[:at] + b'\xff\xe1' + (len(segment) + 2).to_bytes(2, 'big') + segment + data[at:]
    return data


@pytest.mark.parametrize('said_in', ['exif', 'xmp', 'both', 'two segments'])
@pytest.mark.parametrize('form', ['JPEG', 'PNG', 'WEBP', 'TIFF'])
def test_every_container_is_turned_as_pillow_turns_it(read, form, said_in):
    for orientation in range(1, 9):
        data = described(form, orientation, said_in)
        with Image.open(io.BytesIO(data)) as image:
            wanted = np.array(ImageOps.exif_transpose(image).convert('RGB')).astype(int)
        found = read(data)
        assert found.shape == wanted.shape, orientation
        assert np.abs(found - wanted).max() <= (8 if form == 'JPEG' else 0), orientation
        assert Picture('x', data).shape == found.shape[:2]


@pytest.mark.parametrize('change', [lambda tiff: b'XX' + tiff[2:],
                                    lambda tiff: tiff.replace(b'\x12\x01\x03\x00', b'\x12\x01\x07\x00'),
                                    lambda tiff: tiff.replace(b'\x12\x01\x03\x00', b'\x12\x01\x04\x00')])
def test_an_odd_byte_order_or_kind_of_value_is_read_as_pillow_reads_it(read, change):
    exif = Image.Exif()
    exif[0x0112] = 6
    content = odd_images.encode('JPEG', quality=95, exif=exif)
    start = content.index(b'Exif\0\0') + 6
    content = content[:start] + change(content[start:])
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        with Image.open(io.BytesIO(content)) as image:
            try:
                size = ImageOps.exif_transpose(image).size
            except SyntaxError:
                size = image.size
    assert read(content).shape[1::-1] == size
    assert Picture('x', content).reducible


@pytest.mark.parametrize('depth', [8, 16])
def test_the_first_frame_of_an_animated_png(read, depth):
    found = read(odd_images.animated_png(depth), 'x.png')
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, odd_images.pixels())


def test_damage_in_an_animated_png_is_noticed(read):
    content = odd_images.animated_png()
    at = content.index(b'IDAT') + 4
    length = int.from_bytes(content[at - 8:at - 4], 'big')
    data = bytearray(content[at:at + length])
    data[length // 2] ^= 0xff
    with pytest.raises(DataError, match='corrupt'):
        read(content[:at - 8] + odd_images.chunk(b'IDAT', bytes(data)) + content[at + length + 4:], 'x.png')


@pytest.mark.parametrize('name', sorted(odd_images.kinds()))
def test_every_kind_is_eight_bits_in_three_channels(read, name):
    found = read(odd_images.kinds()[name], name)
    assert found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.flags['C_CONTIGUOUS']
    assert sorted(found.shape[:2]) == [odd_images.HEIGHT, odd_images.WIDTH]


@pytest.mark.parametrize('name', [*sorted(odd_images.kinds()), 'text.jpg', 'cut.png', 'cut.gif'])
def test_training_prediction_sheets_and_doctor_see_one_picture(tmp_path, name):
    kinds = odd_images.kinds()
    kinds.update({'text.jpg': b'no image', 'cut.png': kinds['rgb.png'][:-30], 'cut.gif': kinds['still.gif'][:300]})
    (tmp_path / name).write_bytes(kinds[name])
    path = str(tmp_path / name)
    images_, view = ImageSet('train', [path], np.zeros(1, np.int64)), EvalTransform(EvalView())
    inspection, on_page = inspect(images_, 0), pictures.read(path)
    if name.startswith(('text', 'cut')):
        assert on_page is None and not inspection.readable
        for read in (lambda: images_.read(0), lambda: ImageClassifier('ab', view, None).load(path),
                     lambda: next(Loader(images_, view, 1).epoch(0))):
            with pytest.raises(DataError):
                read()
        return
    trained = next(Loader(images_, view, 1).epoch(0)).images.asnumpy()[0]
    np.testing.assert_array_equal(trained, images_.read(0))
    np.testing.assert_array_equal(trained, ImageClassifier('ab', view, None).load(path))
    np.testing.assert_array_equal(trained, on_page)
    assert inspection.size == trained.shape[1::-1]


PEAK = """
import resource, sys
sys.path.insert(0, sys.argv[1])
import odd_images
images = odd_images._reader_alone()
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
height, width = images.Picture(sys.argv[2]).pixels().shape[:2]
print(peak() - before, height * width)
"""


@pytest.mark.slow
@pytest.mark.parametrize('name, options', [
    ('x.jpg', {'progressive': True, 'subsampling': 0}), ('cmyk.jpg', {'progressive': True}), ('x.png', {}),
    ('rgba.png', {'compress_level': 1}), ('x.gif', {}), ('x.webp', {}), ('rgba.webp', {'lossless': True, 'method': 0}),
    ('x.tif', {}), ('rgba.tif', {'compression': 'tiff_lzw'}), ('cmyk.tif', {}), ('x.bmp', {}), ('x.ppm', {})])
def test_reading_takes_no_more_memory_than_the_pixels_need(tmp_path, name, options):
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.fromarray(np.kron(np.random.default_rng(0).integers(0, 255, (375, 500, 3), np.uint8),
                                    np.ones((8, 8, 1), np.uint8)))  # 12 million pixels
    mode = {'cmyk': 'CMYK', 'rgba': 'RGBA'}.get(name.split('.')[0], 'L' if name.endswith('gif') else 'RGB')
    if name.endswith(('jpg', 'png', 'webp', 'tif')):
        options = {**options, 'exif': exif}
    image.convert(mode).save(tmp_path / name, **options)
    done = subprocess.run([sys.executable, '-c', PEAK, os.path.dirname(odd_images.__file__), str(tmp_path / name)],
                          stdout=subprocess.PIPE, check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    used, pixels = map(int, done.stdout.split())
    assert pixels == 12_000_000 and used <= (64 << 20) + 12 * pixels


def mutations(folder, count):
    done = subprocess.run([sys.executable, '-W', 'ignore', odd_images.__file__, folder, str(count), str(1 << 30)],
                          stdout=subprocess.PIPE, check=True, env={**os.environ, 'OMP_NUM_THREADS': '1'})
    found, dead = json.loads(done.stdout)
    assert not dead
    return found


@pytest.fixture
def odd_folder(tmp_path):
    """A folder of odd images: that which ODD_IMAGES names, or one of our own."""
    if 'ODD_IMAGES' in os.environ:
        return os.environ['ODD_IMAGES']
    for name, content in odd_images.kinds().items():
        (tmp_path / name).write_bytes(content)
    return str(tmp_path)


def test_flipped_bits_end_in_pixels_or_words(odd_folder):
    found = mutations(odd_folder, 60)
    assert found['0'] and found['3'] and sum(found.values()) == 60


@pytest.mark.slow
def test_two_thousand_flipped_bits_end_in_pixels_or_words(odd_folder):
    assert sum(mutations(odd_folder, 2000).values()) == 2000


def test_what_a_decoder_prints_gets_the_name_of_the_image(read, smooth, capfd):
    content = encode(smooth, 'JPEG')
    with pytest.warns(images.ImageWarning, match="image '.*photo.jpg': Corrupt JPEG data: 2 extraneous bytes"):
        read(content[:20] + b'xx' + content[20:])  # behind the JFIF segment
    assert capfd.readouterr().err == ''


def test_why_a_decoder_gave_up_is_told(read, picture, capfd):
    content = bytearray(encode(picture(), 'PNG'))
    content[len(content) // 2] ^= 0xff
    with pytest.raises(DataError, match=r'corrupt \(libpng error: .+\)'):
        read(bytes(content))
    assert capfd.readouterr().err == ''


def test_pipes_and_huge_files_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / 'pipe.jpg')
    with pytest.raises(DataError, match='it is no file but a pipe or device'):
        read_image(tmp_path / 'pipe.jpg')
    with open(tmp_path / 'huge.jpg', 'wb') as stream:
        stream.truncate(images.MAX_BYTES + 1)
    with pytest.raises(DataError, match='it has 1,073,741,825 bytes'):
        read_image(tmp_path / 'huge.jpg')


def test_postscript_is_not_handed_to_a_program(read):
    with pytest.raises(DataError, match='it is not an image'):
        read(b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n', 'x.eps')


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

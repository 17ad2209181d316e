"""The predictor's file with one of OpenCV and Pillow alone: it reads and prepares images as with both."""
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from gluon_fgvc.config import EvalView
from gluon_fgvc.data import EvalTransform, Picture
from gluon_fgvc.deploy import single_file
from tests.data import odd_images

# argv: the library that is not there, the folder of predictor.py, images …; what is read goes to read.npz there.
PROGRAM = '''
import sys
sys.modules[sys.argv[1]] = None
sys.path.insert(0, sys.argv[2])
import numpy as np
import predictor
found = {}
for path in sys.argv[3:]:
    name = path.rpartition('/')[2]
    try:
        picture = predictor.Picture(path)
        for reduction in (1, 2, 4, 8) if picture.reducible else (1,):
            found[f'{name} {reduction}'] = picture.pixels(reduction)
        for resize, crop in VIEWS:
            if crop is None or min(picture.shape) >= 24:
                found[f'{name} {resize} {crop}'] = predictor.EvalTransform(predictor.EvalView(resize, crop))(picture)
    except predictor.BrokenImage as error:
        found[f'{name} error'] = str(error)
np.savez(sys.argv[2] + '/read.npz', **found)
'''
# To fewer pixels by whole and broken numbers, to more, and to more of one side only.
VIEWS = [(24, None), (24, 20), (48, 32), ((50, 60), None), ((12, 90), None)]


def photograph(height, width, seed):
    """Return (H,W,3) uint8 with large forms, edges and some grain, as photographs have."""
    rng = np.random.RandomState(seed)
    image = cv2.resize(rng.randint(0, 256, (5, 6, 3)).astype('uint8'), (width, height), interpolation=cv2.INTER_CUBIC)
    cv2.circle(image, (width // 3, height // 2), height // 4, (250, 240, 20), -1)
    return np.clip(image + rng.normal(0, 6, image.shape), 0, 255).astype('uint8')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    """A folder of odd images, and of photographs as JPEG, with their orientations, PNG and WebP."""
    folder = tmp_path_factory.mktemp('images')
    for name, data in odd_images.kinds().items():
        (folder / name).write_bytes(data)
    for number in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = number
        Image.fromarray(photograph(97, 131, number)).save(folder / f'photo{number}.jpg', exif=exif, quality=90)
        Image.fromarray(photograph(61, 80, number)).save(folder / f'photo{number}.png', exif=exif)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
    Image.fromarray(photograph(97, 131, 9)).save(folder / 'xmp.jpg', xmp=xmp)
    Image.fromarray(photograph(400, 300, 10)).save(folder / 'photo.webp', quality=90)
    (folder / 'gray16.png').write_bytes(cv2.imencode('.png', photograph(30, 40, 11)[..., 0].astype('u2') * 257)[1])
    (folder / 'colour16.png').write_bytes(cv2.imencode('.png', photograph(30, 40, 12).astype('u2') * 256 + 200)[1])
    (folder / 'text.jpg').write_bytes(b'a text')
    (folder / 'cut.jpg').write_bytes((folder / 'photo1.jpg').read_bytes()[:900])
    (folder / 'half.jpg').write_bytes(_without_middle((folder / 'photo1.jpg').read_bytes()))
    return folder


def _without_middle(data):
    """Return a JPEG that ends as it should and lacks half of its scan."""
    return data[:len(data) // 2] + data[-2:]


@pytest.fixture(scope='module')
def read(images, tmp_path_factory):
    """Return what the file reads without a library: dict of words → array."""
    def read(absent):
        folder = tmp_path_factory.mktemp('alone')
        single_file.write(folder)
        paths = sorted(os.path.join(images, name) for name in os.listdir(images))
        program = PROGRAM.replace('VIEWS', repr(VIEWS))
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program, absent, folder, *paths],
                              capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': ''}, cwd=folder)
        assert done.returncode == 0, done.stderr
        return dict(np.load(folder / 'read.npz'))
    return read


def expected(images, key):
    """Return what this package reads for a key of PROGRAM's."""
    name, _, rest = key.partition(' ')
    picture = Picture(images / name)
    if rest.isdigit():
        return picture.pixels(int(rest))
    resize, _, crop = rest.rpartition(' ')
    return EvalTransform(EvalView(eval(resize), eval(crop)))(picture)


def test_pillow_alone(images, read):
    """Pixels are the same but for CMYK; scaling, in which OpenCV rounds in between, may differ by one of 255."""
    found, means = read('cv2'), []
    for key, value in found.items():
        if key.endswith('error'):
            continue
        wanted = expected(images, key)
        assert value.dtype == np.uint8 and value.shape == wanted.shape, key
        difference = np.abs(value.astype(int) - wanted)
        scaled, cmyk = key.count(' ') > 1, key.startswith('cmyk')
        assert difference.max() <= (2 if cmyk else int(scaled)), key
        means += [difference.mean()] * (scaled and not cmyk)
    assert max(means) < 0.35  # of drawn ramps, whose values lie half way between two numbers
    print(f'{len(means)} scaled images differ by {np.mean(means):.3f} of 255 in the mean')
    reasons = {key.split()[0]: str(value) for key, value in found.items() if key.endswith('error')}
    assert reasons.keys() == {'text.jpg', 'cut.jpg'} and 'it is not an image' in reasons['text.jpg']
    assert sum(key.endswith('.jpg 8') for key in found) == 15 and len(found) > 200


def test_opencv_alone(images, read):
    """JPEG and PNG are the same, bit for bit; other formats are refused and say what they need."""
    found = read('PIL')
    for key, value in found.items():
        if not key.endswith('error'):
            np.testing.assert_array_equal(value, expected(images, key), key)
    reasons = {key.split()[0]: str(value) for key, value in found.items() if key.endswith('error')}
    assert {name.rpartition('.')[2] for name in reasons} == {'gif', 'webp', 'tif', 'bmp', 'ppm', 'jpg'}
    assert all('pip install pillow' in reason for name, reason in reasons.items() if name != 'cut.jpg')
    turned = [found[f'photo{number}.{form} 1'].shape for number in range(1, 9) for form in ('jpg', 'png')]
    assert turned == 4 * [(97, 131, 3), (61, 80, 3)] + 4 * [(131, 97, 3), (80, 61, 3)]
    assert found['xmp.jpg 1'].shape == (131, 97, 3)


def test_without_both_it_says_what_to_install(tmp_path):
    single_file.write(tmp_path)
    program = "import sys; sys.modules.update(cv2=None, PIL=None); import predictor"
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True, cwd=tmp_path)
    assert 'ImportError: neither OpenCV nor Pillow is installed: pip install' in done.stderr

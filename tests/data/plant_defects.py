"""Make a folder of clean images, plant defects of ten kinds in it, and write down where.

    python -m tests.data.plant_defects OUT --images 10000 --each 20

makes ``OUT/images/{train,val,test}/<class>/<image>`` and ``OUT/truth.json``; tests hold the doctor to it.
Content, places and seeds were fixed before the doctor first ran, and nothing here knows how it works.

The clean images are procedural: scenes, studio shots on white, fog of low contrast, textures. No two are the
same picture, but four in a hundred come in pairs that share the background and differ in the subject, as
photographs of one session do. Among them are progressive JPEGs, JPEGs with EXIF orientation or with bytes
after their end, palette PNGs, WebP and BMP files, and upper-case extensions: none of these is a defect.
"""
import argparse
import io
import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

KINDS = ('unreadable', 'truncated', 'wrong_extension', 'mode', 'small_class', 'class_mismatch', 'duplicate_inside',
         'duplicate_across', 'near_duplicate', 'label_conflict')
SPLITS = ('train',) * 7 + ('val',) + ('test',) * 2  # of ten images of a class


# --- clean pictures --------------------------------------------------------------------------

def noise(rng, height, width, octaves, falloff):
    """Return (H,W) float in about [0, 1]: octaves of smooth noise whose strength falls like natural images'."""
    total = np.zeros((height, width), np.float32)
    for octave in range(1, octaves + 1):
        grid = rng.random((2 ** octave + 1, 2 ** octave + 1), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * falloff ** octave
    low, high = total.min(), total.max()
    return (total - low) / (high - low)


def background(rng, style, height, width):
    """Return (H,W,3) float32, 0 to 255."""
    if style == 'studio':
        shade = noise(rng, height, width, 1, 0.5)[..., None]
        return (232 + 14 * shade + rng.uniform(-4, 4, 3)).astype(np.float32)
    first, second, third = rng.uniform(10, 245, (3, 3)).astype(np.float32)
    if style == 'texture':
        y, x = np.mgrid[:height, :width].astype(np.float32)
        angle, period = rng.uniform(0, np.pi), rng.uniform(6, 30)
        bend = 12 * noise(rng, height, width, 3, 0.5)
        wave = 0.5 + 0.5 * np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle) + bend) / period)
        wave = (0.6 * wave + 0.4 * noise(rng, height, width, 6, 0.7))[..., None]
        return first * wave + second * (1 - wave)
    weight = noise(rng, height, width, 6, rng.uniform(0.45, 0.75))[..., None]
    slope = np.linspace(0, 1, height, dtype=np.float32)[:, None, None] * rng.uniform(0, 0.6)
    return (first * weight + second * (1 - weight)) * (1 - slope) + third * slope


def draw_subject(rng, image, size):
    """Lay a textured shape of ``size`` (share of the shorter side) over ``image``."""
    height, width = image.shape[:2]
    reach = size * min(height, width) / 2
    centre = rng.uniform((0.35 * width, 0.35 * height), (0.65 * width, 0.65 * height))
    angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 12)))
    radii = reach * rng.uniform(0.6, 1.0, len(angles))
    points = np.stack([centre[0] + radii * np.cos(angles), centre[1] + radii * np.sin(angles)], 1)
    mask = np.zeros((height, width), np.float32)
    cv2.fillPoly(mask, [points.round().astype(np.int32)], 1.0, cv2.LINE_AA)
    cv2.ellipse(mask, (int(centre[0]), int(centre[1])), (max(2, int(reach * 0.8)), max(2, int(reach * 0.5))),
                float(rng.uniform(0, 180)), 0, 360, 1.0, -1, cv2.LINE_AA)
    mask = cv2.GaussianBlur(mask, (3, 3), 0)[..., None]
    weight = noise(rng, height, width, 5, 0.7)[..., None]
    one, two = rng.uniform(0, 255, (2, 3)).astype(np.float32)
    return image * (1 - mask) + (one * weight + two * (1 - weight)) * mask


def picture(seed, index, sibling_of=None):
    """Return image ``index`` as (H,W,3) uint8 RGB; a sibling has the background of another and its own subject."""
    scene = np.random.default_rng([seed, 1, index if sibling_of is None else sibling_of])
    style = scene.choice(['scene', 'studio', 'fog', 'texture'], p=[0.55, 0.2, 0.1, 0.15])
    height, width = scene.integers(96, 161, 2)
    image = background(scene, style, height, width)
    rng = np.random.default_rng([seed, 2, index])
    for size in [rng.uniform(0.45, 0.7), *rng.uniform(0.1, 0.3, rng.integers(0, 3))]:
        image = draw_subject(rng, image, size)
    image += rng.normal(0, rng.uniform(0.5, 3), image.shape)  # of the sensor
    if style == 'fog':
        image = 110 + rng.uniform(0, 60) + 0.25 * (image - 128)
    return np.clip(image, 0, 255).astype(np.uint8)


# --- files -----------------------------------------------------------------------------------

# EXIF orientation → what was done to the upright picture.
TURNS = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
         8: Image.Transpose.ROTATE_270}


def encode(pixels, kind, **options):
    """Return the bytes of an image file; ``pixels`` is an array or a Pillow image."""
    stream = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(stream, kind, **options)
    return stream.getvalue()


def clean_file(rng, pixels):
    """Return (extension, bytes) of a flawless file, of some everyday sort."""
    draw, quality = rng.random(), int(rng.integers(82, 96))
    if draw < 0.70:
        return '.jpg', encode(pixels, 'JPEG', quality=quality)
    if draw < 0.75:
        return rng.choice(['.JPG', '.jpeg']), encode(pixels, 'JPEG', quality=quality, progressive=True)
    if draw < 0.78:
        return '.jpg', encode(pixels, 'JPEG', quality=quality) + bytes(rng.integers(0, 200, 64, dtype=np.uint8))
    if draw < 0.81:
        exif, orientation = Image.Exif(), int(rng.integers(1, 9))
        exif[0x0112] = orientation
        stored = Image.fromarray(pixels)  # turned, so that a viewer that obeys the tag shows it upright
        if orientation > 1:
            stored = stored.transpose(TURNS[orientation])
        return '.jpg', encode(stored, 'JPEG', quality=quality, exif=exif.tobytes())
    if draw < 0.93:
        return '.png', encode(pixels, 'PNG')
    if draw < 0.96:
        return '.png', encode(Image.fromarray(pixels).quantize(128), 'PNG')
    if draw < 0.98:
        return '.webp', encode(pixels, 'WEBP', quality=90)
    return '.bmp', encode(pixels, 'BMP')


def retouched(rng, pixels, how):
    """Return (extension, bytes) of the same photograph after everyday processing."""
    height, width = pixels.shape[:2]

    def scaled(image, factor):
        return cv2.resize(image, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)

    def tone(image, gain, shift):
        return np.clip(image.astype(np.float32) * gain + shift, 0, 255).astype(np.uint8)

    if how == 'reencoded':
        return '.jpg', encode(pixels, 'JPEG', quality=int(rng.integers(50, 76)))
    if how == 'resized':
        return '.jpg', encode(scaled(pixels, rng.uniform(0.5, 0.9)), 'JPEG', quality=85)
    if how == 'brightened':
        return '.jpg', encode(tone(pixels, rng.uniform(1.05, 1.15), 5), 'JPEG', quality=85)
    if how == 'contrast':
        gain = rng.choice([0.85, 1.15])
        return '.png', encode(tone(pixels, gain, 128 * (1 - gain)), 'PNG')
    if how == 'cropped':  # 1 to 2 % off each side
        top, left = (max(1, round(side * rng.uniform(0.01, 0.02))) for side in (height, width))
        return '.jpg', encode(pixels[top:height - top, left:width - left], 'JPEG', quality=85)
    if how == 'blurred':
        return '.png', encode(cv2.GaussianBlur(pixels, (0, 0), 0.8), 'PNG')
    assert how == 'all'
    return '.jpg', encode(tone(scaled(pixels, 0.7), 1.08, 4), 'JPEG', quality=70)


RETOUCHES = ('reencoded', 'resized', 'brightened', 'contrast', 'cropped', 'blurred', 'all')


def unreadable(rng, _, number):
    how = ('garbage', 'empty', 'web page')[number % 3]
    content = {'garbage': rng.integers(0, 256, rng.integers(500, 9000), dtype=np.uint8).tobytes(), 'empty': b'',
               'web page': b'<!DOCTYPE html><html><title>404 Not Found</title><p>No such photograph.</html>\n' * 9}[how]
    return how, rng.choice(['.jpg', '.png']), content


def truncated(rng, pixels, number):
    how = ('JPEG', 'PNG', 'JPEG', 'progressive JPEG', 'JPEG', 'WebP')[number % 6]
    extension = {'PNG': '.png', 'WebP': '.webp'}.get(how, '.jpg')
    content = encode(pixels, how.split()[-1].upper(), **({'progressive': True} if how[0] == 'p' else {}))
    return how, extension, content[:int(len(content) * rng.uniform(0.3, 0.97))]


def wrong_extension(_, pixels, number):
    kind, extension = (('PNG', '.jpg'), ('JPEG', '.png'), ('WEBP', '.jpg'), ('BMP', '.jpeg'),
                       ('TIFF', '.jpg'))[number % 5]
    return f'{kind} named {extension}', extension, encode(pixels, kind)


def other_mode(rng, pixels, number):
    image = Image.fromarray(pixels)
    how = ('cmyk', 'alpha', '16-bit', 'gray')[number % 4]
    if how == 'cmyk':
        return how, '.jpg', encode(image.convert('CMYK'), 'JPEG', quality=92)
    if how == 'alpha':
        image.putalpha(Image.fromarray(np.uint8(255 * noise(rng, *pixels.shape[:2], 2, 0.5))))
        return how, '.png', encode(image, 'PNG')
    if how == '16-bit':
        return how, '.png', cv2.imencode('.png', pixels[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    gray = image.convert('L')  # stored as one channel, or as three equal ones
    return how, '.jpg', encode(gray if number % 8 < 4 else gray.convert('RGB'), 'JPEG', quality=90)


FILE_DEFECTS = {'unreadable': unreadable, 'truncated': truncated, 'wrong_extension': wrong_extension,
                'mode': other_mode}


# --- planting --------------------------------------------------------------------------------

def plant(out, images=10_000, each=20, seed=0):
    """Write ``images`` files with ``each`` defects of every kind below ``out``; return the truth.

    A defect is a dict of kind, detail, files (relative, sorted) and classes (for defects of classes).
    """
    out, rng = Path(out), np.random.default_rng([seed, 0])
    folder = out / 'images'
    number_of_classes = int(images ** 0.5)
    names = [f'species_{k:03d}' for k in rng.permutation(number_of_classes + 2 * each)]
    base, odd = names[:number_of_classes], names[number_of_classes:]
    slots, defects = _odd_classes(folder, odd, each)
    slots += [(SPLITS[(i // number_of_classes) % 10], base[i % number_of_classes]) for i in range(images - len(slots))]

    # What a slot holds: ('clean',), ('sibling', i), (kind, number) or ('copy' or a retouch, i).
    content, by_class = [('clean',)] * images, {}
    free = [int(i) for i in rng.permutation(images) if slots[i][1] in set(base)]
    for i in free:
        by_class.setdefault(slots[i][1], []).append(i)
    used = set()

    def take(accept=lambda i: True, among=free):
        i = next(i for i in among if i not in used and accept(i))
        used.add(i)
        return i

    for kind in FILE_DEFECTS:
        for number in range(each):
            content[take()] = (kind, number)
    pairs = []
    for kind in ('duplicate_inside', 'duplicate_across', 'near_duplicate', 'label_conflict'):
        for number in range(each):
            first = take()
            split, name = slots[first]
            across = {'duplicate_inside': False, 'duplicate_across': True}.get(kind, number % 5 < 3)
            if kind == 'label_conflict':
                second = take(lambda i: slots[i][1] != name and (slots[i][0] != split) == across)
            else:
                second = take(lambda i: (slots[i][0] != split) == across, by_class[name])
            near = kind == 'near_duplicate' or kind == 'label_conflict' and number % 2
            how = RETOUCHES[number % len(RETOUCHES)] if near else 'copy'
            content[second] = (how, first)
            pairs.append((kind, f"{how}, {'across' if across else 'inside'}", first, second))
    for _ in range(images // 50):
        first = take()
        content[take()] = ('sibling', first)

    files = {}

    def write(i, extension, data):
        split, name = slots[i]
        path = folder / split / name / f'IMG_{(i * 7919 + 13) % 99991:05d}{extension}'
        path.parent.mkdir(parents=True, exist_ok=True)
        assert not path.exists()
        path.write_bytes(data)
        files[i] = path

    for i, what in enumerate(content):
        own = np.random.default_rng([seed, 3, i])
        if what[0] in ('clean', 'sibling'):
            write(i, *clean_file(own, picture(seed, i, *what[1:])))
        elif what[0] in FILE_DEFECTS:
            kind, number = what
            detail, extension, data = FILE_DEFECTS[kind](own, picture(seed, i), number)
            write(i, extension, data)
            kind = detail if kind == 'mode' else kind
            defects.append(_defect(kind, detail, files=[files[i]], root=folder))
    for kind, detail, first, second in pairs:
        how = detail.split(',')[0]
        if how == 'copy':
            write(second, files[first].suffix, files[first].read_bytes())
        else:
            write(second, *retouched(np.random.default_rng([seed, 3, second]), picture(seed, first), how))
        if kind.startswith('near'):
            kind = f"near_duplicate_{detail.split(', ')[1]}"
        defects.append(_defect(kind, detail, files=[files[first], files[second]], root=folder))
    (out / 'truth.json').write_text(json.dumps({'images': images, 'each': each, 'seed': seed, 'defects': defects},
                                               indent=1) + '\n')
    return defects


def _odd_classes(folder, names, each):
    """Return the slots of the classes that are defects themselves, and those defects."""
    slots, defects = [], []

    def add(name, kind, detail, **counts):
        for split, count in counts.items():
            (folder / split / name).mkdir(parents=True, exist_ok=True)
            slots.extend([(split, name)] * count)
        defects.append(_defect(kind, detail, classes=[name]))

    for number, name in enumerate(names[:each]):
        if number % 4 == 0:
            add(name, 'empty_class', 'in train', train=0, val=2, test=3)
        elif number % 4 == 2:
            add(name, 'empty_class', 'everywhere', train=0, val=0, test=0)
        else:
            add(name, 'one_image_class', 'in train', train=1, val=2, test=2)
    for number, name in enumerate(names[each:2 * each]):
        if number % 3 == 0:
            add(name, 'class_mismatch', 'not in test', train=4, val=2)
        elif number % 3 == 1:
            add(name, 'class_mismatch', 'not in val', train=4, test=2)
        else:
            add(name, 'class_mismatch', 'only in test', test=3)
    return slots, defects


def _defect(kind, detail, files=(), classes=(), root=None):
    return {'kind': kind, 'detail': detail, 'files': sorted(file.relative_to(root).as_posix() for file in files),
            'classes': list(classes)}


def compare(truth, findings):
    """Return the planted defects that were not found, and the findings that were not planted.

    Found means a finding of the same kind with exactly the same files, or the same classes where the defect is
    of a class. Both arguments are lists of dicts like those of :func:`plant`; files must be relative.
    """
    def key(entry):
        return entry['kind'], tuple(sorted(entry['files'])) or tuple(entry['classes'])
    planted, found = {key(entry) for entry in truth}, {key(entry) for entry in findings}
    return ([entry for entry in truth if key(entry) not in found],
            [entry for entry in findings if key(entry) not in planted])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('out', type=Path, help='folder that does not exist yet')
    parser.add_argument('--images', type=int, default=10_000)
    parser.add_argument('--each', type=int, default=20, help='defects of each of the ten kinds')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    args.out.mkdir(parents=True)
    defects = plant(args.out, args.images, args.each, args.seed)
    print(f'{args.images} images with {len(defects)} defects in {args.out}')


if __name__ == '__main__':
    main()

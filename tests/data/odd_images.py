"""Small images of every kind that the reader takes, and files of them with single bits flipped."""
import io
import json
import os
import resource
import struct
import sys
import types
import zlib

import numpy as np

HEIGHT, WIDTH = 24, 40


def pixels(seed=0):
    """Return (HEIGHT,WIDTH,3) uint8 whose eight orientations all differ, with little fine detail."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.dstack([x * 6, y * 10, (x + y) * 2 + 20 * seed]).astype(np.uint8)


def encode(form, mode='RGB', **options):
    """Return the bytes of :func:`pixels` in a format and mode of Pillow."""
    from PIL import Image
    stream = io.BytesIO()
    Image.fromarray(pixels()).convert(mode).save(stream, form, **options)
    return stream.getvalue()


def chunk(kind, data):
    """Return one chunk of a PNG."""
    return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))


def animated_png(depth=8):
    """Return an animated PNG of two frames; the first is :func:`pixels`."""
    frames = []
    for seed in range(2):
        image = pixels(seed)
        rows = image.astype('>u2') * 257 if depth == 16 else image
        frames.append(zlib.compress(b''.join(b'\0' + row.tobytes() for row in rows)))
    out = b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', struct.pack('>IIBBBBB', WIDTH, HEIGHT, depth, 2, 0, 0, 0))
    out += chunk(b'acTL', struct.pack('>II', 2, 0))
    out += chunk(b'fcTL', struct.pack('>IIIIIHHBB', 0, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0)) + chunk(b'IDAT', frames[0])
    out += chunk(b'fcTL', struct.pack('>IIIIIHHBB', 1, WIDTH, HEIGHT, 0, 0, 1, 10, 0, 0))
    return out + chunk(b'fdAT', struct.pack('>I', 2) + frames[1]) + chunk(b'IEND', b'')


def kinds():
    """Return a dict of name → bytes: every container, the colour modes, animations and descriptions."""
    from PIL import Image
    exif = Image.Exif()
    exif[0x0112], exif[0x010f] = 6, 'maker'
    more = [Image.fromarray(pixels(1))]
    return {
        'baseline.jpg': encode('JPEG', quality=95), 'progressive.jpg': encode('JPEG', quality=95, progressive=True),
        'gray.jpg': encode('JPEG', 'L'), 'cmyk.jpg': encode('JPEG', 'CMYK'), 'exif.jpg': encode('JPEG', exif=exif),
        'rgb.png': encode('PNG'), 'rgba.png': encode('PNG', 'RGBA'), 'palette.png': encode('PNG', 'P'),
        'bits.png': encode('PNG', '1'), 'exif.png': encode('PNG', exif=exif), 'gray.png': encode('PNG', 'LA'),
        'animated.png': animated_png(), 'animated16.png': animated_png(16),
        'still.gif': encode('GIF'), 'animated.gif': encode('GIF', save_all=True, append_images=more),
        'lossy.webp': encode('WEBP', quality=95), 'lossless.webp': encode('WEBP', lossless=True, exif=exif),
        'animated.webp': encode('WEBP', save_all=True, append_images=more, quality=95),
        'plain.tif': encode('TIFF'), 'lzw.tif': encode('TIFF', compression='tiff_lzw'), 'exif.tif': encode(
            'TIFF', exif=exif), 'jpeg.tif': encode('TIFF', compression='jpeg'),
        'plain.bmp': encode('BMP'), 'plain.ppm': encode('PPM'),
    }


def read_mutations(folder, count, limit):
    """Read ``count`` mutations of the files in ``folder``, each in a child of ``limit`` bytes of address space.

    :returns: a dict of what became of them → how many, and a list of the mutations in which the child died.
    """
    images = _reader_alone()
    random, files = np.random.RandomState(0), sorted(
        os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)
    found, dead = {}, []
    for number in range(count):
        path = files[number % len(files)]
        with open(path, 'rb') as stream:
            data = bytearray(stream.read())
        # Every other one in the header, where most of what a decoder believes is written.
        bit = random.randint(8 * (min(len(data), 256) if number % 2 else len(data)))
        data[bit // 8] ^= 1 << bit % 8
        child = os.fork()
        if not child:
            _read_and_exit(images, bytes(data), limit)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        found[code] = found.get(code, 0) + 1
        if code not in (0, 3):
            dead.append(f'{os.path.basename(path)}, bit {bit}: {code}')
    return found, dead


def _read_and_exit(images, data, limit):
    """End this process: 0, read; 3, refused in words; 4, another exception; 5, not (H,W,3) uint8."""
    import signal
    code = 4
    try:
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.alarm(60)
        try:
            read = images.Picture('mutated', data).pixels()
            code = 0 if read.dtype == np.uint8 and read.ndim == 3 and read.shape[2] == 3 else 5
        except images.BrokenImage:
            code = 3
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        os._exit(code)


def _reader_alone():
    """Return the module that reads images without MXNet, whose libraries alone fill an address space."""
    import importlib
    root = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.pardir, os.pardir)
    sys.path.insert(0, root)
    for name in ('gluon_fgvc', 'gluon_fgvc.data'):
        package = types.ModuleType(name)
        package.__path__ = [os.path.join(root, *name.split('.'))]
        sys.modules[name] = package
    return importlib.import_module('gluon_fgvc.data.images')


if __name__ == '__main__':
    print(json.dumps(read_mutations(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))

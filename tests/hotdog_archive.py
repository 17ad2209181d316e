"""Make a small ``hotdog.zip`` in the layout of the book's archive: drawn pictures instead of photographs.

    python tests/hotdog_archive.py data/generated/hotdog.zip --train 200 --test 80
"""
import argparse
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np

CLASSES = ('hotdog', 'not-hotdog')


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('archive', type=Path, help='file to write, called hotdog.zip')
    parser.add_argument('--train', type=int, default=200, help='training images of each class; default: %(default)s')
    parser.add_argument('--test', type=int, default=80, help='test images of each class; default: %(default)s')
    parser.add_argument('--side', type=int, default=96, help='shorter side in pixels; default: %(default)s')
    parser.add_argument('--seed', type=int, default=0, help='default: %(default)s')
    args = parser.parse_args(argv)
    write(args.archive, args.train, args.test, args.side, args.seed)
    print(f'{2 * (args.train + args.test)} pictures: {args.archive}')


def write(archive, train, test, side, seed=0, square=False):
    """Write ``archive``; the pictures depend on nothing but the arguments.

    :param train, test: images of each class.
    :param side: the shorter side in pixels; the longer one is up to half as long again, unless ``square``.
    """
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, 'w') as bundle:
        for split_number, (split, count) in enumerate((('train', train), ('test', test))):
            for label, name in enumerate(CLASSES):
                for number in range(count):
                    rng = np.random.default_rng((seed, split_number, label, number))
                    height, width = rng.permutation([side, side if square else int(rng.integers(side, side * 3 // 2))])
                    image = (hotdog, other)[label](int(height), int(width), rng)
                    png = cv2.imencode('.png', cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1].tobytes()
                    # A fixed date, so that equal arguments give an equal file.
                    bundle.writestr(zipfile.ZipInfo(f'hotdog/{split}/{name}/{number}.png', (2020, 1, 1, 0, 0, 0)), png)


def hotdog(height, width, rng):
    """Return (H,W,3) uint8 RGB: a sausage with mustard in a long bun."""
    image, size = _table(height, width, rng), min(height, width)
    centre, angle = _centre(height, width, rng), rng.uniform(0, 180)
    length, breadth = size * rng.uniform(0.36, 0.46), size * rng.uniform(0.16, 0.22)
    _ellipse(image, centre, (length, breadth), angle, _near((205, 150, 85), rng))
    _ellipse(image, centre, (length * 1.05, breadth * 0.45), angle, _near((165, 55, 35), rng))
    along = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    across = np.array([-along[1], along[0]])
    waves = np.linspace(-1, 1, 24)
    points = centre + np.outer(waves * length * 0.9, along) + np.outer(np.sin(waves * 14) * breadth * 0.25, across)
    cv2.polylines(image, [points.astype('int32')], False, _near((235, 195, 40), rng), max(1, size // 32), cv2.LINE_AA)
    return _noisy(image, rng)


def other(height, width, rng):
    """Return (H,W,3) uint8 RGB: a round dish of greens, berries or rice."""
    image, size = _table(height, width, rng), min(height, width)
    centre, radius = _centre(height, width, rng), size * rng.uniform(0.32, 0.45)
    ground, pieces = (((70, 120, 50), (120, 180, 70)), ((60, 60, 130), (120, 70, 150)),
                      ((190, 190, 185), (240, 240, 235)))[rng.integers(3)]
    _ellipse(image, centre, (radius, radius), 0, _near(ground, rng))
    for _ in range(30):
        place = centre + rng.normal(0, radius * 0.4, 2)
        piece = size * rng.uniform(0.02, 0.06, 2) + 1
        _ellipse(image, place, piece, rng.uniform(0, 180), _near(pieces, rng))
    return _noisy(image, rng)


def _table(height, width, rng):
    return np.full((height, width, 3), _near((150, 140, 130), rng, spread=40), 'uint8')


def _centre(height, width, rng):
    return np.array([width, height]) * rng.uniform(0.42, 0.58, 2)


def _near(colour, rng, spread=15):
    return tuple(int(value) for value in np.clip(np.array(colour) + rng.integers(-spread, spread + 1, 3), 0, 255))


def _ellipse(image, centre, axes, angle, colour):
    cv2.ellipse(image, (tuple(map(float, centre)), tuple(2 * float(axis) for axis in axes), float(angle)), colour, -1,
                cv2.LINE_AA)


def _noisy(image, rng):
    return np.clip(image + rng.normal(0, 8, image.shape), 0, 255).astype('uint8')


if __name__ == '__main__':
    sys.exit(main())

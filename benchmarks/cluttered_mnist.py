"""How many images of Cluttered MNIST one process composes in a second; the target is 5,000 with 8 distractors.

The digits are noise: how long composing takes does not depend on what they show.
"""
import time

import numpy as np

from benchmarks.comparison import Comparison
from gluon_fgvc.commands import cli
from gluon_fgvc.data.datasets.cluttered_mnist import DIGIT, Composer

TARGET = 1 / 5000  # seconds an image


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--distractors', type=cli.positive, default=8, metavar='D', help='default: %(default)s')
    parser.add_argument('--images', type=cli.positive, default=5000, metavar='N',
                        help='composed in each turn; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=5, metavar='N', help='turns; default: %(default)s')


class Throughput(Comparison):
    """Seconds an image, held against a number of seconds instead of another contender."""

    def kept(self):
        return self.summary()[0]['seconds']['median'] <= self.target

    def table(self):
        seconds = self.summary()[0]['seconds']
        return [f"{1 / seconds['median']:,.0f} images/s (middle half {1 / seconds['third_quartile']:,.0f} – "
                f"{1 / seconds['first_quartile']:,.0f}); target: at least {1 / self.target:,.0f}, "
                f"{'kept' if self.kept() else 'missed'}"]


def measure(options):
    """Return the :class:`Throughput` of composing; ``options`` are those of :func:`add_options`."""
    digits = np.random.RandomState(0).randint(0, 256, (3000, DIGIT, DIGIT)).astype('uint8')
    compose, samples = Composer(digits, np.arange(options.images) % 3000, options.distractors, (0, 0)), []
    for _ in range(options.rounds):
        start = time.perf_counter()
        for index in range(options.images):
            compose(index)
        samples.append((time.perf_counter() - start) / options.images)
    return Throughput({key: getattr(options, key) for key in ('distractors', 'images', 'rounds')}, 'image',
                      {'composing': samples}, TARGET)

"""What a sampler is worth to networks that are trained already: a TASN run and a plain one, on three views of an image.

Each network sees the validation images resized by the loader of the plain run, resampled evenly by the sampler of the
TASN run, and resampled as its attention says; all have ``method.sampled_size``. The first two differ in how pixels are
read, the last two in where; a network's own view is the one that it was trained on.
"""
from dataclasses import dataclass
from typing import Mapping

import numpy as np
from mxnet import nd

from gluon_fgvc import data
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import Classifier
from gluon_fgvc.runs import open_run
from gluon_fgvc.runs.build import loader_of

VIEWS = ('resized', 'resampled evenly', 'resampled by attention')


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--tasn', required=True, metavar='RUN', help="run of the method 'tasn'")
    parser.add_argument('--plain', required=True, metavar='RUN', help='run of a plain network on the same images')
    parser.add_argument('--data-root', metavar='DIR', help='where the data set is now, if it has moved')


@dataclass(frozen=True)
class Views:
    """Top-1 of each network on each view of the same images."""

    settings: Mapping
    rows: Mapping  # network → view → fraction that is right
    enlargement: float  # of an image where it is largest, along an axis, to the even samples; mean over images and axes
    distortion: float   # of a small square: its longer side to its shorter one; mean over places and images

    def table(self):
        """Return a line for each network, in percent."""
        return [f"| network | {' | '.join(VIEWS)} |", '|---|--:|--:|--:|',
                *(f'| {name} | ' + ' | '.join(f'{100 * row[view]:.2f}' for view in VIEWS) + ' |'
                  for name, row in self.rows.items()),
                f'attention enlarges up to {self.enlargement:.2f} times and makes a square {self.distortion:.2f} times '
                'as long as wide, on average']

    def kept(self):
        return True  # nothing is promised

    def record(self):
        """Return what a JSON file keeps."""
        return {'rows': self.rows, 'enlargement': self.enlargement, 'distortion': self.distortion}


def measure(options):
    """Return the :class:`Views`.

    :raises ConfigError: if the runs are of other methods, of different validation images or of different sizes.
    """
    tasn, plain = (open_run(folder, data_root=options.data_root) for folder in (options.tasn, options.plain))
    if tasn.cfg.method.name != 'tasn' or not isinstance(plain.method.net, Classifier):
        raise ConfigError('--tasn takes a run of tasn, --plain one of a plain network, not '
                          f"'{tasn.cfg.method.name}' and '{plain.cfg.method.name}'")
    if tasn.source.val is None or plain.source.val is None or tasn.source.val.paths != plain.source.val.paths:
        raise ConfigError('--tasn and --plain have no validation images, or different ones')
    net, hits = tasn.method.net, {name: dict.fromkeys(VIEWS, 0) for name in ('tasn', 'plain')}
    densities = []
    for batch, small in zip(*(_batches(run) for run in (tasn, plain))):
        images = tasn.normalize(batch.images.as_in_context(tasn.ctx))
        even = nd.ones((len(batch.indices), 1, 2, 2), ctx=tasn.ctx)
        size = tasn.cfg.method.options.sampled_size
        if small.images.shape[1:3] != (size, size):
            raise ConfigError(f'--plain tests on images of {small.images.shape[1:3]}, --tasn samples {size} x {size}')
        attention = net.structure(net.attention(net.localisation(images)))
        views = dict(zip(VIEWS, (plain.normalize(small.images.as_in_context(plain.ctx)), net.sampler(images, even),
                                 net.sampler(images, attention))))
        densities.append(density(net.sampler.grid(images, attention).asnumpy()))
        for view, seen in views.items():
            for name, run in (('tasn', tasn), ('plain', plain)):
                body, classifier = run.method.net.body, run.method.net.classifier
                predicted = classifier(body.pool(body(seen))).asnumpy().argmax(axis=1)
                hits[name][view] += int((predicted == batch.labels.asnumpy()).sum())
    total = len(tasn.source.val)
    rows = {name: {view: count / total for view, count in row.items()} for name, row in hits.items()}
    densities = np.concatenate(densities)
    return Views({'images': total, 'tasn': options.tasn, 'plain': options.plain}, rows,
                 float(densities.max(axis=2).mean()), distortion(densities))


def density(grid):
    """Return pixels of the sampled image per pixel of an even one, along x and y: (N,2,O-1) of a grid (N,2,O,O)."""
    steps = np.stack([np.diff(grid[:, 0, 0, :]), np.diff(grid[:, 1, :, 0])], axis=1)
    return steps.mean(axis=2, keepdims=True) / np.maximum(steps, 1e-6)


def distortion(densities):
    """Return how many times as long as wide a small square becomes, the mean over all places of all images."""
    x, y = densities[:, 0, None, :], densities[:, 1, :, None]
    return float(np.maximum(x / y, y / x).mean())


def _batches(run):
    transform = data.EvalTransform(run.cfg.data.eval)
    return loader_of(run.cfg, run.source.val, transform=transform).epoch(0)

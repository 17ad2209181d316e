"""How well the windows of a trained STN follow the objects: correlation of their centres in x and y; target 0.9.

For a run of the method ``stn`` on a data set with boxes, such as ``cluttered_mnist``.
"""
from dataclasses import dataclass
from typing import Mapping

import numpy as np
from mxnet import autograd

from gluon_fgvc import data
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs import open_run
from gluon_fgvc.runs.build import loader_of
from gluon_fgvc.runs.pointing_game import check_boxes

TARGET = 0.9
SPLITS = ('train', 'val', 'test')


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--run', required=True, metavar='RUN', help='run folder')
    parser.add_argument('--split', choices=SPLITS, default='val', help='default: %(default)s')
    parser.add_argument('--images', type=cli.positive, default=2000, metavar='N',
                        help='how many of the split are looked at; default: %(default)s')


@dataclass(frozen=True)
class Windows:
    """Where windows (N,2) and objects (N,2) have their centres, x and y, from -1 to 1 across the prepared image."""

    settings: Mapping
    windows: np.ndarray
    objects: np.ndarray
    scale: float  # mean width of the windows, in widths of the image

    def correlations(self):
        """Return the correlation in x and in y; 0 where the windows stand still."""
        return [float(np.corrcoef(window, thing)[0, 1]) if window.std() > 1e-6 and thing.std() > 1e-6 else 0.0
                for window, thing in zip(self.windows.T, self.objects.T)]

    def kept(self):
        return min(self.correlations()) >= TARGET

    def table(self):
        """Return one line for each axis, and the scale."""
        lines = [f'{axis}: correlation {correlation:+.3f}; window {window.mean():+.3f} ± {window.std():.3f}, object '
                 f'{thing.mean():+.3f} ± {thing.std():.3f}' for axis, correlation, window, thing in zip(
                     'xy', self.correlations(), self.windows.T, self.objects.T)]
        return [*lines, f'mean scale {self.scale:.3f}; target: a correlation of at least {TARGET}, '
                        f"{'kept' if self.kept() else 'missed'}"]

    def record(self):
        """Return what a JSON file keeps."""
        return {'target': TARGET, 'kept': self.kept(), 'correlation': dict(zip('xy', self.correlations())),
                'scale': self.scale}


def measure(options):
    """Return the :class:`Windows` of a run.

    :raises ConfigError: if it is no run of ``stn``, or its data set has no boxes.
    """
    run = open_run(options.run)
    if run.cfg.method.name != 'stn':
        raise ConfigError(f"--run: '{options.run}' is a run of '{run.cfg.method.name}'; only stn's have a window")
    image_set = getattr(run.source, options.split)
    if image_set is None:
        raise ConfigError(f"--split: '{run.cfg.data.name}' has no split '{options.split}'")
    check_boxes(image_set)
    transform = data.EvalTransform(run.cfg.data.eval)
    windows, objects, scales = [], [], []
    for batch in loader_of(run.cfg, image_set, transform=transform).epoch(0):
        images = run.normalize(batch.images.as_in_context(run.ctx))
        with autograd.predict_mode():
            theta = run.method.train_net.transformer(images)[1].asnumpy()
        windows.append(theta[:, :, 2])
        scales.append(np.abs(theta[:, 0, 0]))
        sides = np.array(images.shape[:1:-1])  # width, height
        for index in batch.indices:
            x, y, width, height = transform.box(image_set.boxes[index], image_set.open(index).shape)
            objects.append(2 * (np.array([x + width / 2, y + height / 2]) - 0.5) / (sides - 1) - 1)
        if len(objects) >= options.images:
            break
    settings = {key: getattr(options, key) for key in ('run', 'split')}
    return Windows({**settings, 'images': len(objects)}, np.concatenate(windows), np.array(objects),
                   float(np.concatenate(scales).mean()))

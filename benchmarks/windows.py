"""How well the windows of a trained network follow the objects: correlation of their centres in x and y; target 0.9.

For a run of ``stn`` or ``cra_cnn`` on a data set with boxes, such as ``cluttered_mnist``. Beside it stands what the
last layer of the windows could know: how well a linear map of its input, fitted to the objects of half of the images,
tells those of the other half.
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
RIDGE = 1e-3  # of the mean variance of an input of the last layer


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
    seen: np.ndarray  # (N,D), the input of the layer that the windows come from

    def correlations(self):
        """Return the correlation in x and in y; 0 where the windows stand still."""
        return _correlations(self.windows, self.objects)

    def readable(self):
        """Return the correlations that a linear map of ``seen`` reaches, fitted on half of the images, on the rest."""
        half = len(self.seen) // 2
        inputs = self.seen - self.seen[:half].mean(axis=0)
        products = inputs[:half].T @ inputs[:half]
        products += RIDGE * np.trace(products) / len(products) * np.eye(len(products))
        weights = np.linalg.solve(products, inputs[:half].T @ (self.objects[:half] - self.objects[:half].mean(axis=0)))
        return _correlations(inputs[half:] @ weights, self.objects[half:])

    def kept(self):
        return min(self.correlations()) >= TARGET

    def table(self):
        """Return one line for each axis, and the scale."""
        lines = [f'{axis}: correlation {correlation:+.3f}; window {window.mean():+.3f} ± {window.std():.3f}, object '
                 f'{thing.mean():+.3f} ± {thing.std():.3f}' for axis, correlation, window, thing in zip(
                     'xy', self.correlations(), self.windows.T, self.objects.T)]
        lines.append('readable from what the windows come from: ' + ', '.join(
            f'{axis} {correlation:+.3f}' for axis, correlation in zip('xy', self.readable())))
        return [*lines, f'mean scale {self.scale:.3f}; target: a correlation of at least {TARGET}, '
                        f"{'kept' if self.kept() else 'missed'}"]

    def record(self):
        """Return what a JSON file keeps."""
        return {'target': TARGET, 'kept': self.kept(), 'correlation': dict(zip('xy', self.correlations())),
                'readable': dict(zip('xy', self.readable())), 'scale': self.scale}


def centres(boxes, sides):
    """Return the centres (N,2) of boxes (N,4), x, y, width and height in pixels: from -1 to 1 across the image.

    :param sides: width and height of the image.
    """
    return 2 * (boxes[:, :2] + boxes[:, 2:] / 2 - 0.5) / (np.array(sides) - 1) - 1


def _correlations(found, expected):
    return [float(np.corrcoef(one, other)[0, 1]) if one.std() > 1e-6 and other.std() > 1e-6 else 0.0
            for one, other in zip(found.T, expected.T)]


def _of_stn(net, images):
    theta = net.transformer(images)[1]
    return theta[:, :, 2], theta[:, 0, 0].abs()


def _of_cra_cnn(net, images):
    window = net.propose(images)[3]
    return window[:, :2], window[:, 2].abs()


# Method → its last layer, and (training network, images) → centres (N,2) and widths (N,) of the windows.
METHODS = {'stn': (lambda net: net.transformer.window, _of_stn), 'cra_cnn': (lambda net: net.gamma, _of_cra_cnn)}


def measure(options):
    """Return the :class:`Windows` of a run.

    :raises ConfigError: if its method has no window, or its data set no boxes.
    """
    run = open_run(options.run)
    if run.cfg.method.name not in METHODS:
        raise ConfigError(f"--run: '{options.run}' is a run of '{run.cfg.method.name}'; a window have those of "
                          f"{' and '.join(METHODS)}")
    image_set = getattr(run.source, options.split)
    if image_set is None:
        raise ConfigError(f"--split: '{run.cfg.data.name}' has no split '{options.split}'")
    check_boxes(image_set)
    transform = data.EvalTransform(run.cfg.data.eval)
    net, (last_layer, windows_of) = run.method.train_net, METHODS[run.cfg.method.name]
    windows, objects, scales, seen = [], [], [], []
    net.hybridize(False)  # a compiled network calls no hooks
    last_layer(net).register_forward_pre_hook(lambda layer, inputs: seen.append(inputs[0].reshape((0, -1)).asnumpy()))
    for batch in loader_of(run.cfg, image_set, transform=transform).epoch(0):
        images = run.normalize(batch.images.as_in_context(run.ctx))
        with autograd.predict_mode():
            places, widths = windows_of(net, images)
        windows.append(places.asnumpy())
        scales.append(widths.asnumpy())
        sides = np.array(images.shape[:1:-1])  # width, height
        for index in batch.indices:
            x, y, width, height = transform.box(image_set.boxes[index], image_set.open(index).shape)
            objects.append(centres(np.array([[x, y, width, height]]), sides)[0])
        if len(objects) >= options.images:
            break
    settings = {key: getattr(options, key) for key in ('run', 'split')}
    return Windows({**settings, 'images': len(objects)}, np.concatenate(windows), np.array(objects),
                   float(np.concatenate(scales).mean()), np.concatenate(seen).astype('float64'))

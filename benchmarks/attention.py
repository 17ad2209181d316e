"""Epochs of attention-scaled training: F with reused features, A against E in both forms.

All are epochs of engine.fit on random images held in memory, timed as in any training, without checkpoints and
validation. Of each phase the second epoch is taken, since the first compiles the network; phases take turns. Targets:
a second F epoch takes at most 1/30 of the first, an A epoch at most 1.0 of an E epoch for 'in_out', 0.85 for 'out'.
"""
import tempfile
from dataclasses import dataclass
from typing import Mapping

import mxnet as mx
import numpy as np

from benchmarks.comparison import Comparison
from gluon_fgvc import config, data, methods
from gluon_fgvc.commands import cli
from gluon_fgvc.engine.fit import TrainingData, fit
from gluon_fgvc.engine.log import Log
from gluon_fgvc.runs import build_method

TARGETS = {'F': 1 / 30, 'in_out': 1.0, 'out': 0.85}
CLASSES = 144


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--backbone', default='resnet50_v1b', metavar='NAME', help='default: %(default)s')
    parser.add_argument('--size', type=cli.positive, default=224, metavar='PX', help='default: %(default)s')
    parser.add_argument('--batch', type=cli.positive, default=32, metavar='N',
                        help='images a step; default: %(default)s')
    parser.add_argument('--images', type=cli.positive, default=1024, metavar='N',
                        help='images of an F epoch; default: %(default)s')
    parser.add_argument('--steps', type=cli.positive, default=8, metavar='N',
                        help='steps of an A or E epoch; default: %(default)s')
    parser.add_argument('--rounds', type=cli.positive, default=5, metavar='N',
                        help='turns of A and E, and repetitions of F; default: %(default)s')


@dataclass(frozen=True)
class Comparisons:
    """Several comparisons as the result of one benchmark."""

    settings: Mapping
    parts: Mapping[str, Comparison]

    def table(self):
        return [line for name, part in self.parts.items() for line in (f'{name}:', *part.table())]

    def kept(self):
        return all(part.kept() for part in self.parts.values())

    def record(self):
        return {'kept': self.kept(), 'parts': {name: part.record() for name, part in self.parts.items()}}


def measure(options):
    """Return the :class:`Comparisons`; ``options`` are those of :func:`add_options`."""
    parts = {}
    seconds = [_epochs(options, 'in_out', 'FF', options.images) for _ in range(options.rounds)]
    parts['F'] = Comparison({}, 'epoch', {'first epoch': [first for first, _ in seconds],
                                          'second epoch': [second for _, second in seconds]}, TARGETS['F'])
    for form in ('in_out', 'out'):
        times = _epochs(options, form, 'EEAA' * (options.rounds + 1), options.steps * options.batch)
        parts[f'A, {form}'] = Comparison({}, 'epoch', {'E': times[5::4], 'A': times[7::4]}, TARGETS[form])
    return Comparisons({'backbone': options.backbone, 'size': options.size, 'batch': options.batch,
                        'images': options.images, 'steps': options.steps, 'rounds': options.rounds}, parts)


def _epochs(options, form, schedule, count):
    """Return the seconds of each epoch of ``schedule``."""
    cfg = config.from_tree({
        'data': {'name': 'image_folder', 'root': '.', 'batch_size': options.batch},
        'backbone': {'name': options.backbone, 'weights': 'none'},
        'method': {'name': 'attention_scaled', 'form': form, 'schedule': schedule},
        'train': {'epochs': len(schedule), 'optimizer': {'name': 'adam', 'lr': 1e-5}},
        'run': {'save_every': len(schedule)}}, data.options, methods.options)
    contexts = [mx.gpu() if mx.context.num_gpus() else mx.cpu()]
    method, normalize = build_method(cfg, CLASSES, contexts)
    images = np.random.RandomState(0).randint(0, 256, (options.batch, options.size, options.size, 3)).astype('uint8')
    image_set = data.ImageSet('train', [''] * count, np.arange(count) % CLASSES,
                              reader=lambda row: images[row % len(images)])
    with tempfile.TemporaryDirectory() as folder, data.Loader(
            image_set, data.EvalTransform(cfg.data.eval), options.batch, train=True, last='discard') as loader:
        log = _Times(folder)
        fit(method, TrainingData(loader, None, normalize, CLASSES), cfg, log)
    return log.seconds


class _Times(Log):
    """A log that keeps how long each epoch took, and prints nothing."""

    def __init__(self, folder):
        super().__init__(folder)
        self.seconds = []

    def record(self, **values):
        super().record(**values)
        if values['kind'] == 'epoch':
            self.seconds.append(values['seconds'])

    def line(self, text):
        pass

"""What each classifier of a trained network knows: accuracy and cross-entropy of every output that scores the classes.

On the validation images, single view. Networks with several classifiers, those of ``pmg`` or ``tasn``, deploy one
of them or a mean of logits: here is what each is worth, and what any other mean (``--mean``) would be.
"""
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from gluon_fgvc import data
from gluon_fgvc.engine.metrics import predictions_of, top_k
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.runs import open_run
from gluon_fgvc.runs.build import loader_of


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--run', required=True, metavar='RUN', help='run folder')
    parser.add_argument('--mean', nargs='+', action='append', default=[], metavar='OUTPUT',
                        help='the mean of the logits of these outputs as well; again for more')
    parser.add_argument('--data-root', metavar='DIR', help='where the data set is now, if it has moved')


@dataclass(frozen=True)
class Classifiers:
    """Fraction that is right and mean negative log-likelihood in nats, of each output of a network."""

    settings: Mapping
    rows: Mapping  # output → (fraction, nats)

    def table(self):
        """Return a line for each output, in percent and nats."""
        return ['| classifier | top-1 | cross-entropy |', '|---|--:|--:|',
                *(f'| {name} | {100 * right:.2f} | {nats:.3f} |' for name, (right, nats) in self.rows.items())]

    def kept(self):
        return True  # nothing is promised

    def record(self):
        """Return what a JSON file keeps."""
        return {'rows': {name: dict(zip(('top1', 'cross_entropy'), values)) for name, values in self.rows.items()}}


def measure(options):
    """Return the :class:`Classifiers`; ``options`` are those of :func:`add_options`.

    :raises ConfigError: if the run has no validation images, or ``--mean`` names what is not a classifier of it.
    """
    run = open_run(options.run, data_root=options.data_root)
    if run.source.val is None:
        raise ConfigError(f"--run: '{options.run}' has no validation images (data.val_fraction: 0)")
    scores, labels = _scores(run)
    for name in (name for names in options.mean for name in names):
        if name not in scores:
            raise ConfigError(f"--mean: '{name}' is no classifier of this run{did_you_mean(name, scores)}")
    means = {'mean of ' + ', '.join(names): np.mean([scores[name] for name in names], axis=0) for names in options.mean}
    return Classifiers({'run': options.run, 'images': len(labels)},
                       {name: judged(logits, labels) for name, logits in {**scores, **means}.items()})


def judged(logits, labels):
    """Return (fraction right, mean negative log-likelihood in nats) of logits (N,K) and labels (N,)."""
    predictions = predictions_of(logits, labels, np.arange(len(labels)))
    return top_k(predictions, 1), float(predictions.losses.mean())


def _scores(run):
    """Return (dict of output → logits (N,K) of the validation images, labels (N,))."""
    classes, scores, labels = len(run.classes), {}, []
    with loader_of(run.cfg, run.source.val, transform=data.EvalTransform(run.cfg.data.eval)) as loader:
        for batch in loader.epoch(0):
            outputs = run.method.train_net(run.normalize(batch.images.as_in_context(run.ctx)))
            outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
            for name, values in zip(run.method.outputs, outputs):
                if values.shape == (len(batch.indices), classes):
                    scores.setdefault(name, []).append(values.asnumpy())
            labels.append(batch.labels.asnumpy().astype(int))
    return {name: np.concatenate(parts) for name, parts in scores.items()}, np.concatenate(labels)

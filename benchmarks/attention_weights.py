"""How far the attention weights of runs have moved from 1, with a chart of their histograms; target: sd of 0.3.

For runs of ``attention_scaled``, each under a label of its own, e.g. one of each penalty (Fig. 2 of the paper). What
pruning by attention may be judged on is a network whose attention has moved. Training has kept the histograms, so that
neither checkpoint nor data are needed.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import numpy as np

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.explain.channels import histograms
from gluon_fgvc.pages.line_charts import Line, write_lines

TARGET = 0.3
SHOWN = 1e-5  # share of the weights; bins with fewer, at either end, are left out of the chart


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--runs', required=True, nargs='+', metavar='LABEL=RUN', help='run folders')
    parser.add_argument('--chart', metavar='FILE', type=Path, help='write the histograms, SVG')


@dataclass(frozen=True)
class Weights:
    """The attention weights of one run after its last A epoch, all layers together.

    ``shares`` (B,) sum to 1 over the bins between ``edges`` (B+1,); what lies outside is in the outermost.
    """

    edges: np.ndarray
    shares: np.ndarray
    mean: float
    sd: float
    least: float
    largest: float
    layers: Mapping[str, float]  # layer → sd

    @property
    def moved(self):
        """The median of the layers' standard deviations."""
        return float(np.median(list(self.layers.values())))


@dataclass(frozen=True)
class Comparison:
    """Label → :class:`Weights`."""

    settings: Mapping
    weights: Mapping[str, Weights]

    def kept(self):
        return all(one.sd >= TARGET for one in self.weights.values())

    def table(self):
        """Return one line for each run, in Markdown."""
        head = ['run', 'mean', 'sd', 'median sd of a layer', 'least', 'largest', 'within 0.05 of 1']
        rows = [[label, f'{one.mean:.3f}', f'{one.sd:.3f}', f'{one.moved:.3f}', f'{one.least:.3f}',
                 f'{one.largest:.3f}', f'{_near(one):.1%}'] for label, one in self.weights.items()]
        lines = ['| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *rows)]
        return [*lines, f"target: sd of at least {TARGET} in each run, {'kept' if self.kept() else 'missed'}"]

    def record(self):
        """Return what a JSON file keeps."""
        return {'target': TARGET, 'kept': self.kept(), 'runs': {
            label: {'mean': one.mean, 'sd': one.sd, 'least': one.least, 'largest': one.largest,
                    'layers': dict(one.layers), 'edges': one.edges.tolist(), 'shares': one.shares.tolist()}
            for label, one in self.weights.items()}}


def measure(options):
    """Return the :class:`Comparison` of runs, and draw it.

    :raises ConfigError: for words that are no LABEL=RUN, and runs in which attention has not learnt.
    """
    found = {}
    for words in options.runs:
        label, equals, folder = words.partition('=')
        if not equals or label in found:
            raise ConfigError(f"--runs '{words}' is not LABEL=RUN with a label of its own, e.g. L1=work_dirs/l1")
        records = histograms(folder)
        if not records:
            raise ConfigError(f"--runs: '{folder}' has no epoch in which attention learnt")
        found[label] = weights_of(records[-1])
    comparison = Comparison({'runs': ' '.join(options.runs)}, found)
    if options.chart:
        options.chart.parent.mkdir(parents=True, exist_ok=True)
        write_lines(options.chart, lines_of(found), 'attention weight', 'weights, %', log_y=True)
    return comparison


def weights_of(record):
    """Return the :class:`Weights` of one record of ``metrics.jsonl``."""
    layers = record['attention']
    counts = np.array([layer['counts'] for layer in layers.values()], 'float64')
    numbers = counts.sum(axis=1)
    means, sds = (np.array([layer[key] for layer in layers.values()]) for key in ('mean', 'sd'))
    mean = float((numbers * means).sum() / numbers.sum())
    variance = (numbers * (sds ** 2 + (means - mean) ** 2)).sum() / numbers.sum()
    return Weights(np.linspace(*record['attention_range'], counts.shape[1] + 1), counts.sum(axis=0) / counts.sum(),
                   mean, float(np.sqrt(variance)), min(layer['least'] for layer in layers.values()),
                   max(layer['largest'] for layer in layers.values()), dict(zip(layers, map(float, sds))))


def lines_of(found):
    """Return one line a run: percent of its weights over the middles of those bins that any run fills."""
    edges = next(iter(found.values())).edges
    filled = np.flatnonzero(np.max([one.shares for one in found.values()], axis=0) >= SHOWN)
    bins = slice(filled[0], filled[-1] + 1)
    middles = ((edges[:-1] + edges[1:]) / 2)[bins]
    # Zero has no logarithm: an empty bin lies at the foot of the chart.
    return [Line(label, middles.tolist(), np.maximum(100 * one.shares[bins], 100 * SHOWN).tolist())
            for label, one in found.items()]


def _near(one):
    middles = (one.edges[:-1] + one.edges[1:]) / 2
    return float(one.shares[np.abs(middles - 1) < 0.05].sum())

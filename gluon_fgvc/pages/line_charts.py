"""Line charts as SVG files for pages of the documentation, where several runs share one picture."""
import io
from typing import NamedTuple, Optional, Sequence

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

from gluon_fgvc.files import write_atomically

# Okabe and Ito's colours, which stay apart for every common kind of colour blindness; then again with dashes.
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#cc79a7', '#e69f00', '#56b4e9', '#444444')
DASHES = ('-', '--', ':')


class Line(NamedTuple):
    """A line and, if there are several runs, a band around it."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    spread: Optional[Sequence[float]] = None  # half the height of the band, e.g. the standard deviation


def write_lines(path, lines, x_label, y_label, powers_of_two=False, log_y=False):
    """Write an SVG of ``lines`` with a legend beside it, the same bytes for the same lines; return ``path``.

    :param powers_of_two: x is drawn by its logarithm, with a tick at each value of the first line.
    :param log_y: y is drawn by its logarithm, so that equal ratios have equal heights; unless one is 0 or below.
    """
    figure = Figure(figsize=(8, 4.2), layout='constrained')
    axes = figure.add_subplot()
    for number, line in enumerate(lines):
        style = {'color': COLOURS[number % len(COLOURS)], 'linestyle': DASHES[number // len(COLOURS) % len(DASHES)]}
        axes.plot(line.x, line.y, label=line.name, linewidth=1.6, marker='o' if len(line.x) < 12 else None,
                  markersize=4, **style)
        if line.spread is not None:
            y, spread = np.asarray(line.y), np.asarray(line.spread)
            axes.fill_between(line.x, y - spread, y + spread, color=style['color'], alpha=0.12, linewidth=0)
    if powers_of_two:
        axes.set_xscale('log', base=2)
        axes.set_xticks(lines[0].x, [f'{value:g}' for value in lines[0].x])
    elif all(isinstance(value, int) for line in lines for value in line.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_y and all(value > 0 for line in lines for value in line.y):
        axes.set_yscale('log')
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.grid(color='#e4e4e4', linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(loc='center left', bbox_to_anchor=(1.01, 0.5), frameon=False)
    stream = io.StringIO()
    with matplotlib.rc_context({'svg.hashsalt': 'gluon_fgvc', 'svg.fonttype': 'none'}):
        figure.savefig(stream, format='svg', metadata={'Date': None, 'Creator': None}, facecolor='white')
    return write_atomically(path, stream.getvalue())

"""Line charts: one of a run, with its phases and the epoch that was kept, and one that compares several runs."""
import math
from typing import NamedTuple, Optional, Sequence

import numpy as np

from gluon_fgvc.pages import figure
from gluon_fgvc.pages.charts import number
from gluon_fgvc.pages.figure import SERIES, colour, plain

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 50, 82, 34, 42
LABEL_GAP = 30  # the two-line labels at the ends of lines need this much room
SHOWN_POINTS = 60  # up to here each point tells its value
COMPARED = 520, 300  # pixels of the chart of several runs, without its legend
DASHES = ('-', '--', ':')  # for more lines than there are colours


class Line(NamedTuple):
    """A line and, if it is of several runs, a band around it; values that are None or not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[Optional[float]]
    spread: Optional[Sequence[float]] = None  # half the height of the band, e.g. the standard deviation
    colour: str = 'one'  # of the theme; a chart of several runs chooses by itself


class Band(NamedTuple):
    """A named range of x, e.g. a phase of training."""

    name: str
    start: float
    end: float


def finite(line):
    """Return the points (x, y) of a :class:`Line` that can be drawn."""
    return [(x, y) for x, y in zip(line.x, line.y) if y is not None and math.isfinite(y)]


def line_chart(lines, *, summary, form=number, bands=(), marked=None, limits=None, from_zero=False,
               x_label='epoch'):
    """Return an SVG of lines that are labelled at their ends.

    :param lines: one or two of :class:`Line`; those without a finite value are left out.
    :param summary: what the chart says in one sentence, for those who do not see it.
    :param form: value → text for axis and labels.
    :param bands: :class:`Band` in order, shaded alternately and named at the top.
    :param marked: (x, text) of the vertical line that marks the kept epoch, or None.
    :param limits: (low, high) that the y axis never leaves, e.g. (0, 1) for shares.
    :param from_zero: the y axis begins at 0, as where heights are compared; else only where values come near it.
    :returns: markup, or None if nothing is finite.
    """
    lines = [line for line in lines if finite(line)]
    if not lines:
        return None
    with figure.drawing(WIDTH, HEIGHT, (LEFT, RIGHT, TOP, BOTTOM)) as drawing:
        axes = drawing.axes
        _scale(axes, lines, bands, limits, from_zero, form)
        axes.set_xlabel(x_label)
        axes.grid(axis='y')
        _bands(drawing, bands)
        if marked and axes.get_xlim()[0] <= marked[0] <= axes.get_xlim()[1]:
            _mark(axes, marked, over_band=bool(bands))
        for line in lines:
            _line(drawing, line, form, marked and marked[0], x_label)
        ends = [finite(line)[-1] for line in lines]
        for line, end, place in zip(lines, ends, _spread([_height(axes, y) for _, y in ends])):
            _label(axes, line, end, place, form)
        return drawing.svg(summary)


def _scale(axes, lines, bands, limits, from_zero, form):
    from matplotlib.ticker import MaxNLocator
    xs, ys = zip(*(point for line in lines for point in finite(line)))
    low, high = min(ys), max(ys)
    if low > 0 and (from_zero or low < 0.4 * high):
        low = 0.0
    grid = [float(value) for value in MaxNLocator(4, steps=(1, 2, 2.5, 5, 10)).tick_values(low, high)]
    if limits:
        grid = [value for value in grid if limits[0] - 1e-9 <= value <= limits[1] + 1e-9] or [low]
    left, right = min([*xs, *(b.start for b in bands)]), max([*xs, *(b.end for b in bands)])
    if left == right:
        left, right = left - 0.5, right + 0.5
    axes.set_yticks(grid, [form(value) for value in grid])
    ends = min(grid[0], low), max(grid[-1], high)
    axes.set_ylim(*(ends if ends[0] < ends[1] else (ends[0] - 0.5, ends[0] + 0.5)))
    epochs = [int(value) for value in MaxNLocator(5, integer=True).tick_values(left, right) if left <= value <= right]
    axes.set_xticks(epochs, [f'{epoch:,}' for epoch in epochs])
    axes.set_xlim(left, right)


def _height(axes, y):
    """Pixels of a value above the x axis."""
    low, high = axes.get_ylim()
    return (y - low) / (high - low) * (HEIGHT - TOP - BOTTOM)


def _bands(drawing, bands):
    axes, shades = drawing.axes, {}
    pixels = (WIDTH - LEFT - RIGHT) / (axes.get_xlim()[1] - axes.get_xlim()[0])
    for band in bands:
        shade = shades.setdefault(band.name, (0.0, 0.45, 1.0)[len(shades) % 3])
        room, name = max(0, int((band.end - band.start) * pixels / 6.4)), plain(band.name)
        drawing.tell(axes.axvspan(band.start, band.end, ymax=1 + 14 / (HEIGHT - TOP - BOTTOM), color=colour('band'),
                                  alpha=shade, linewidth=0), f'phase {band.name}')
        axes.annotate(name[:room], ((band.start + band.end) / 2, 1), (0, 18), xycoords=('data', 'axes fraction'),
                      textcoords='offset points', ha='center')


def _mark(axes, marked, over_band):
    """The vertical line of the kept epoch; its label turns to the side that has room."""
    x, text = marked
    left = x > sum(axes.get_xlim()) / 2
    axes.axvline(x, ymax=1 + 10 / (HEIGHT - TOP - BOTTOM), color=colour('soft'), linestyle=(0, (3, 3)), linewidth=1)
    axes.annotate(text, (x, 1), (-5 if left else 5, 3 if over_band else 5), xycoords=('data', 'axes fraction'),
                  textcoords='offset points', ha='right' if left else 'left')


def _line(drawing, line, form, marked, x_label):
    axes, own, points = drawing.axes, colour(line.colour), finite(line)
    values = np.array([np.nan if y is None or not math.isfinite(y) else y for y in line.y], 'float64')
    gaps = np.isnan(np.concatenate([[np.nan], values, [np.nan]]))
    lonely = ~gaps[1:-1] & gaps[:-2] & gaps[2:]  # points that no line leads to
    lonely[np.flatnonzero(~gaps[1:-1])[-1]] = True  # and the last
    axes.plot(line.x, values, color=own, marker='o', markersize=6, markeredgecolor=colour('ground'),
              markeredgewidth=1.5, markevery=list(np.flatnonzero(lonely)), zorder=3)
    for x, y in points:
        if x == marked:
            axes.plot([x], [y], 'o', color=own, markersize=9, markeredgecolor=colour('ground'), markeredgewidth=1.5,
                      zorder=4)
        if len(points) <= SHOWN_POINTS:
            spot, = axes.plot([x], [y], 'o', color=own, markersize=14, markeredgewidth=0, alpha=0, zorder=5)
            drawing.tell(spot, f'{line.name}, {x_label} {x}: {form(y)}')


def _label(axes, line, end, place, form):
    x, y = end
    down = place - _height(axes, y)
    for text, below, style in ((plain(line.name), 0, {'color': colour(line.colour), 'weight': 600}),
                               (form(y), 14, {})):
        axes.annotate(text, (x, y), (9, down - below), textcoords='offset points', annotation_clip=False, **style)


def _spread(heights):
    """Move two label heights apart to LABEL_GAP and keep them inside the chart."""
    low, high = 14, HEIGHT - TOP - BOTTOM - 4
    if len(heights) == 2 and abs(heights[0] - heights[1]) < LABEL_GAP:
        middle, sign = sum(heights) / 2, 1 if heights[0] >= heights[1] else -1
        middle = min(max(middle, low + LABEL_GAP / 2), high - LABEL_GAP / 2)
        heights = [middle + sign * LABEL_GAP / 2, middle - sign * LABEL_GAP / 2]
    return [min(max(y, low), high) for y in heights]


def write_lines(path, lines, x_label, y_label, powers_of_two=False, log_y=False):
    """Write a file of ``lines`` with a legend below, the same bytes for the same lines; return ``path``.

    :param powers_of_two: x is drawn by its logarithm, with a tick at each value of the first line.
    :param log_y: y is drawn by its logarithm, so that equal ratios have equal heights; unless one is 0 or below.
    """
    values = [value for line in lines for value in line.y]
    log_y = log_y and min(values) > 0
    floor = min(values) / 2 if log_y else -math.inf  # a band cannot reach below 0 where there is no 0
    columns = 2 if max(len(line.name) for line in lines) < 32 else 1
    width, height = COMPARED
    legend = 19 * -(-len(lines) // columns) + 8
    left = 62 if log_y and min(values) < 0.01 else 50  # the width of '0.001'
    with figure.drawing(width, height + legend, (left, 14, 12, 46 + legend)) as drawing:
        axes = drawing.axes
        for place, line in enumerate(lines):
            style = {'color': colour(SERIES[place % len(SERIES)]),
                     'linestyle': DASHES[place // len(SERIES) % len(DASHES)]}
            axes.plot(line.x, line.y, label=plain(line.name), linewidth=1.8, marker='o' if len(line.x) < 12 else None,
                      markersize=5, **style)
            if line.spread is not None:
                y, spread = np.asarray(line.y), np.asarray(line.spread)
                axes.fill_between(line.x, np.maximum(y - spread, floor), y + spread, color=style['color'], alpha=0.14,
                                  linewidth=0)
        _axes_of_comparison(axes, lines, powers_of_two, log_y)
        axes.set(xlabel=x_label, ylabel=y_label)
        axes.grid()
        axes.legend(loc='upper left', bbox_to_anchor=(0, 0, 1, 1), bbox_transform=_below(axes, legend), ncols=columns,
                    labelcolor=colour('ink'), borderpad=0, borderaxespad=0, handlelength=2.2, columnspacing=2)
        names = ', '.join(line.name for line in lines)
        return figure.write(path, drawing.svg(f'{y_label} by {x_label}: {names}'))


def _below(axes, legend):
    """The strip below the axes, as the transform of a unit square."""
    from matplotlib.transforms import Bbox, BboxTransformTo
    width = axes.figure.bbox.width
    return BboxTransformTo(Bbox([[12, 0], [width, legend]]))


def _axes_of_comparison(axes, lines, powers_of_two, log_y):
    from matplotlib.ticker import FixedLocator, LogLocator, MaxNLocator, NullFormatter, NullLocator
    if powers_of_two:
        axes.set_xscale('log', base=2)
        axes.set_xticks(lines[0].x, [f'{value:g}' for value in lines[0].x])
        axes.xaxis.set_minor_locator(NullLocator())
    elif all(isinstance(value, int) for line in lines for value in line.x):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if log_y:
        axes.set_yscale('log')
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7) if high < 100 * low else (1,)))
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter(NullFormatter())
        # Without clip paths, ticks beyond the axes would be drawn there.
        axes.yaxis.set_major_locator(FixedLocator([value for value in axes.get_yticks() if low <= value <= high]))
        axes.yaxis.set_minor_locator(NullLocator())

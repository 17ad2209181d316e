"""Differences to one reference: a row each, with the interval of the mean and what it is the mean of."""
from typing import NamedTuple, Optional, Sequence, Tuple

from gluon_fgvc.pages import figure
from gluon_fgvc.pages.figure import colour, plain

WIDTH, ROW = 640, 26  # pixels
LETTER = 7.0          # pixels of the widest letters of a name, nearly


class Difference(NamedTuple):
    """A row: the mean of ``single`` differences, and its interval, None where a spread is not known."""

    name: str
    mean: float
    single: Sequence[float]
    interval: Optional[Tuple[float, float]] = None


def write_differences(path, rows, label):
    """Write a file of the :class:`Difference` ``rows``, the largest mean on top; return ``path``.

    A row is in the first colour where its interval lies above 0, in the second where it lies below, and gray where
    it holds 0 or is not known, its mean then being a ring.

    :param label: of the axis; it names what the differences are to.
    """
    rows = sorted(rows, key=lambda row: row.mean)
    left = 16 + LETTER * max(len(plain(row.name)) for row in rows)
    with figure.drawing(WIDTH, ROW * len(rows) + 58, (left, 20, 12, 46)) as drawing:
        axes = drawing.axes
        axes.axvline(0, color=colour('soft'), linewidth=1)
        for height, row in enumerate(rows):
            _row(drawing, height, row)
        axes.set_yticks(range(len(rows)), [plain(row.name) for row in rows], color=colour('ink'))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel(plain(label))
        axes.xaxis.set_major_formatter(lambda value, _: f'{value:+g}'.replace('-', '−') if value else '0')
        axes.margins(x=0.05)
        axes.grid(axis='x')
        told = ', '.join(f'{row.name} {row.mean:+.2f}' for row in reversed(rows))
        return figure.write(path, drawing.svg(f'{label}: {told}'))


def _row(drawing, height, row):
    axes, sure = drawing.axes, row.interval is not None and row.interval[0] * row.interval[1] > 0
    own = colour(('one' if row.mean > 0 else 'two') if sure else 'soft')
    text = f'{row.name}: {row.mean:+.2f}'
    if row.interval is not None:
        text += f' ({row.interval[0]:+.2f} to {row.interval[1]:+.2f})'
        axes.plot(row.interval, (height, height), color=own, linewidth=2)
    if len(row.single) > 1:
        axes.plot(row.single, [height] * len(row.single), '|', color=own, markersize=9, markeredgewidth=1.2)
    spot, = axes.plot([row.mean], [height], 'o', color=own if sure else colour('ground'), markersize=8,
                      markeredgecolor=own, markeredgewidth=1.8, zorder=4)
    drawing.tell(spot, text)

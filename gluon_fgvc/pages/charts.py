"""Charts as inline SVG. Colours are the page's CSS variables, so they follow light and dark and print.

The two series colours, blue and orange, stay apart for every common kind of colour blindness, and
each line carries its name, so colour is never the only cue.
"""
import math
from typing import NamedTuple, Sequence

import numpy as np

from gluon_fgvc.engine.statistics import wilson
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.pictures import png_uri

WIDTH, HEIGHT = 360, 236
LEFT, RIGHT, TOP, BOTTOM = 48, 84, 34, 40
LABEL_GAP = 30  # the two-line labels at the ends of lines need this much room


class Series(NamedTuple):
    """One line of a chart; values that are None or not finite leave a gap."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str  # 'one' or 'two'


class Band(NamedTuple):
    """A named range of x, e.g. a phase of training."""

    name: str
    start: float
    end: float


def percent(share, digits=1):
    """Return a share in [0, 1] as text such as ``87.1 %``."""
    return f'{100 * share:.{digits}f}\u00a0%'


def number(value):
    """Return a number as short text: thousands separators, four significant digits, no ``-0``."""
    if isinstance(value, int):
        return f'{value:,}'
    if value == 0:
        return '0'
    if not math.isfinite(value):
        return 'not finite'
    size = math.floor(math.log10(abs(value)))
    if size < -3:
        mantissa, exponent = f'{value:.2e}'.split('e')
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f'{value:,.{max(0, 3 - size)}f}'
    return text.rstrip('0').rstrip('.') if '.' in text else text


def ticks(low, high, count=4):
    """Return about ``count`` round numbers that cover [low, high]; the first and last may lie outside it."""
    size, span = max(abs(low), abs(high)), high - low
    if span <= 1e-9 * size or size < 1e-290:  # all but one value
        span = size if size >= 1e-290 else 1.0
    raw = span / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def finite(series):
    """Return the points (x, y) of a :class:`Series` that can be drawn."""
    return [(x, y) for x, y in zip(series.x, series.y) if y is not None and math.isfinite(y)]


def line_chart(series, *, summary, form=number, bands=(), marked=None, limits=None, x_label='epoch'):
    """Return an SVG of lines that are labelled at their ends.

    :param series: one or two :class:`Series`; those without a finite value are left out.
    :param summary: what the chart says in one sentence, for those who do not see it.
    :param form: value → text for axis and labels.
    :param bands: :class:`Band` in order, shaded alternately and named at the top.
    :param marked: (x, text) of the vertical line that marks the kept epoch, or None.
    :param limits: (low, high) that the y axis never leaves, e.g. (0, 1) for shares.
    :returns: markup, or None if nothing is finite.
    """
    series = [s for s in series if finite(s)]
    if not series:
        return None
    xs = [x for s in series for x, _ in finite(s)]
    ys = [y for s in series for _, y in finite(s)]
    low, high = min(ys), max(ys)
    if 0 < low < 0.4 * high:
        low = 0.0
    grid = ticks(low, high)
    if limits:
        grid = [t for t in grid if limits[0] - 1e-9 <= t <= limits[1] + 1e-9]
    y_low, y_high = min(grid[0], low), max(grid[-1], high)
    x_low, x_high = min([*xs, *(b.start for b in bands)]), max([*xs, *(b.end for b in bands)])
    if x_low == x_high:
        x_low, x_high = x_low - 0.5, x_high + 0.5

    def at(x):
        return LEFT + (x - x_low) / (x_high - x_low) * (WIDTH - LEFT - RIGHT)

    def over(y):
        return HEIGHT - BOTTOM - (y - y_low) / ((y_high - y_low) or 1.0) * (HEIGHT - TOP - BOTTOM)

    parts = [_bands(bands, at)]
    for value in grid:
        parts += [tag('line', x1=LEFT, x2=WIDTH - RIGHT, y1=over(value), y2=over(value), stroke='var(--grid)'),
                  tag('text', form(value), x=LEFT - 7, y=over(value) + 4, text_anchor='end')]
    for value in [t for t in ticks(x_low, x_high) if x_low <= t <= x_high and t == int(t)]:
        parts.append(tag('text', f'{int(value):,}', x=at(value), y=HEIGHT - BOTTOM + 16, text_anchor='middle'))
    parts.append(tag('text', x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 6, text_anchor='middle'))
    if marked and x_low <= marked[0] <= x_high:
        parts.append(_mark(at(marked[0]), marked[1], over_band=bool(bands)))
    for s in series:
        parts.append(_line(s, at, over, form, marked and marked[0]))
    for s, y in zip(series, _spread([over(finite(s)[-1][1]) for s in series])):
        x = at(finite(s)[-1][0]) + 9
        parts += [tag('text', s.name, x=x, y=y, style=f'fill:var(--{s.colour});font-weight:600'),
                  tag('text', form(finite(s)[-1][1]), x=x, y=y + 14)]
    return tag('svg', parts, viewBox=f'0 0 {WIDTH} {HEIGHT}', width=WIDTH, height=HEIGHT,
               role='img', aria_label=summary)


def _bands(bands, at):
    parts, shades = [], {}
    for band in bands:
        shade = shades.setdefault(band.name, (0.0, 0.45, 1.0)[len(shades) % 3])
        left, right = at(band.start), at(band.end)
        shown = band.name if len(band.name) * 6.4 < right - left else band.name[:max(0, int((right - left) / 6.4))]
        parts.append(tag(
            'g', tag('title', f'phase {band.name}'),
            tag('rect', x=left, y=TOP - 14, width=right - left, height=HEIGHT - TOP - BOTTOM + 14, fill='var(--band)',
                opacity=shade),
            tag('text', shown, x=(left + right) / 2, y=TOP - 18, text_anchor='middle')))
    return parts


def _mark(x, text, over_band):
    """The vertical line of the kept epoch; its label turns to the side that has room."""
    left = x > (LEFT + WIDTH - RIGHT) / 2
    return [tag('line', x1=x, x2=x, y1=TOP - 10, y2=HEIGHT - BOTTOM, stroke='var(--soft)', stroke_dasharray='3 3'),
            tag('text', text, x=x - 5 if left else x + 5, y=TOP - 3 if over_band else TOP - 6,
                text_anchor='end' if left else 'start')]


def _line(series, at, over, form, marked):
    colour, runs, run = f'var(--{series.colour})', [], []
    for x, y in zip(series.x, series.y):
        if y is None or not math.isfinite(y):
            runs, run = runs + [run], []
        else:
            run.append((x, y))
    parts = [tag('polyline', points=' '.join(f'{at(x):.1f},{over(y):.1f}' for x, y in run), fill='none', stroke=colour,
                 stroke_width=2, stroke_linejoin='round', stroke_linecap='round')
             for run in runs + [run] if len(run) > 1]
    points = finite(series)
    for x, y in points:
        if x == marked or len(points) == 1 or x == points[-1][0]:
            parts.append(tag('circle', cx=at(x), cy=over(y), r=4.5 if x == marked else 3.0, fill=colour,
                             stroke='var(--ground)', stroke_width=1.5))
        if len(points) <= 60:
            parts.append(tag('circle', tag('title', f'{series.name}, epoch {x}: {form(y)}'), cx=at(x), cy=over(y), r=7,
                             fill='transparent'))
    return parts


def _spread(positions):
    """Move two label positions apart to LABEL_GAP and keep them inside the chart."""
    low, high = TOP + 4, HEIGHT - BOTTOM - 14
    if len(positions) == 2 and abs(positions[0] - positions[1]) < LABEL_GAP:
        middle, sign = sum(positions) / 2, 1 if positions[0] >= positions[1] else -1
        middle = min(max(middle, low + LABEL_GAP / 2), high - LABEL_GAP / 2)
        positions = [middle + sign * LABEL_GAP / 2, middle - sign * LABEL_GAP / 2]
    return [min(max(y, low), high) for y in positions]


def interval_bar(share, low, high):
    """Return a small SVG: the interval as a bar on [0, 1], the share as a dot. The numbers stand beside it."""
    return tag('svg', tag('rect', x=0, y=6, width=120, height=2, fill='var(--track)'),
               tag('rect', x=120 * low, y=4, width=max(120 * (high - low), 1.0), height=6, rx=3, fill='var(--one)',
                   opacity=0.35),
               tag('circle', cx=min(max(120 * share, 3.5), 116.5), cy=7, r=3.5, fill='var(--one)'),
               viewBox='0 0 120 14', width=120, height=14, aria_hidden='true')


def share_bars(shares, summary):
    """Return an SVG of one horizontal bar for each of ``shares``, a mapping of name → number in [0, 1].

    :param summary: what the chart says in one sentence, for those who do not see it.
    """
    parts, left, width, line = [], 78, 90, 20
    for row, (name, share) in enumerate(shares.items()):
        top = row * line
        parts += [tag('text', _short(name, 12), x=left - 8, y=top + 14, text_anchor='end'),
                  tag('rect', x=left, y=top + 4, width=width, height=12, rx=2, fill='var(--track)'),
                  tag('rect', x=left, y=top + 4, width=max(width * float(share), 1.0), height=12, rx=2,
                      fill='var(--one)'),
                  tag('text', percent(float(share)), x=left + width + 8, y=top + 14)]
    height = line * len(shares)
    return tag('svg', parts, viewBox=f'0 0 224 {height}', width=224, height=height, role='img', aria_label=summary)


def _short(name, length):
    return name if len(name) <= length else name[:length - 1] + '…'


def confusion_cells(confusion, classes, summary):
    """Return an SVG of a confusion matrix of up to some thirty classes, rows = labels.

    Shade is the share of the row's images: right ones blue, wrong ones orange; counts are written
    while cells are large enough.

    :param confusion: (K,K) counts, ``[label, predicted]``.
    """
    confusion = np.asarray(confusion)
    count, shares = len(confusion), _row_shares(confusion)
    cell = min(96.0, max(17.0, 430 / count))
    flat = cell >= 72
    names = [_short(name, 24) for name in classes]
    longest = max(len(name) for name in names) * 6.6
    left, slant = 22 + longest, longest * 0.72
    top = 42.0 if flat else 30 + slant
    width, height = left + cell * count + (4.0 if flat else slant + 4), top + cell * count + 4
    parts = [tag('text', 'predicted', x=left, y=14, style='font-weight:600'),
             tag('text', 'label', x=left - 8, y=top - 8, text_anchor='end', style='font-weight:600')]
    for k, name in enumerate(names):
        middle = (k + 0.5) * cell
        parts.append(tag('text', name, tag('title', classes[k]), x=left - 8, y=top + middle + 4, text_anchor='end'))
        if flat:
            parts.append(tag('text', _short(name, int(cell / 7)), tag('title', classes[k]), x=left + middle, y=top - 8,
                             text_anchor='middle'))
        else:
            x, y = left + middle + 3, top - 6
            parts.append(tag('text', name, tag('title', classes[k]), x=x, y=y,
                             transform=f'rotate(-45 {x:.1f} {y:.1f})'))
    for row in range(count):
        for column in range(count):
            parts.append(_cell(left + column * cell, top + row * cell, cell, int(confusion[row, column]),
                               float(shares[row, column]), row == column, classes[row], classes[column]))
    return tag('svg', parts, viewBox=f'0 0 {width:.0f} {height:.0f}', width=f'{width:.0f}', height=f'{height:.0f}',
               role='img', aria_label=summary)


def _cell(x, y, side, images, share, right, label, predicted):
    colour = 'one' if right else 'two'
    parts = [tag('title', f'{label} → {predicted}: {images:,} images, {percent(share)}'),
             tag('rect', x=x + 1, y=y + 1, width=side - 2, height=side - 2, rx=2, fill='var(--grid)', opacity=0.6)]
    if images:
        parts.append(tag('rect', x=x + 1, y=y + 1, width=side - 2, height=side - 2, rx=2, fill=f'var(--{colour})',
                         opacity=_shade(share)))
    if images and side >= 26:
        ink = 'on-fill' if _shade(share) > 0.8 else 'on-half' if _shade(share) > 0.6 else 'ink'
        parts.append(tag('text', f'{images:,}', x=x + side / 2, y=y + side / 2 + (-2 if side >= 60 else 4.5),
                         text_anchor='middle', style=f'fill:var(--{ink})' + (';font-weight:600' if right else '')))
        if side >= 60:
            parts.append(tag('text', percent(share), x=x + side / 2, y=y + side / 2 + 14, text_anchor='middle',
                             style=f'fill:var(--{ink})'))
    return tag('g', parts)


def _row_shares(confusion):
    return confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)


def _shade(share):
    """Opacity of a share: rare confusions stay visible, order is kept."""
    return 0.1 + 0.9 * share ** 0.6


def confusion_heat_map(confusion, summary, side=600):
    """Return an <img> of a confusion matrix of many classes, one pixel or more a cell, without labels.

    More than ``side`` classes share pixels: each shows the largest share below it. The ground is
    transparent, the colours read on light and dark.
    """
    shares = _row_shares(np.asarray(confusion))
    count = len(shares)
    right = np.where(np.eye(count, dtype=bool), shares, 0)
    wrong = np.where(np.eye(count, dtype=bool), 0, shares)
    block = -(-count // side)
    if block > 1:
        pad = -count % block
        right, wrong = (np.pad(m, ((0, pad), (0, pad))).reshape(
            (count + pad) // block, block, (count + pad) // block, block).max(axis=(1, 3)) for m in (right, wrong))
    picture = np.zeros(right.shape + (4,), 'uint8')
    picture[..., :3] = np.where((right >= wrong)[..., None], (40, 136, 214), (225, 110, 30))
    top = np.maximum(right, wrong)
    picture[..., 3] = np.where(top > 0, np.round(255 * (0.22 + 0.78 * top ** 0.6)), 0)
    return tag('img', class_='heat', src=png_uri(picture), alt=summary, width=side, height=side)


def reliability(bins, summary):
    """Return an SVG of accuracy against confidence with 95 % intervals, and the images per bin below.

    :param bins: list of :class:`~gluon_fgvc.engine.statistics.Bin`.
    """
    floor = HEIGHT - BOTTOM
    right, base = WIDTH - 20, floor - 34  # the strip below base is the histogram

    def at(confidence):
        return LEFT + confidence * (right - LEFT)

    def over(share):
        return base - share * (base - 12)

    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        parts += [tag('line', x1=LEFT, x2=right, y1=over(value), y2=over(value), stroke='var(--grid)'),
                  tag('text', f'{value:.0%}', x=LEFT - 7, y=over(value) + 4, text_anchor='end'),
                  tag('text', f'{value:.0%}', x=at(value), y=floor + 16, text_anchor='middle')]
    parts += [tag('line', x1=at(0), y1=over(0), x2=at(1), y2=over(1), stroke='var(--soft)', stroke_dasharray='3 3'),
              tag('text', 'as sure as right', x=at(0.6) - 8, y=over(0.6) - 6, text_anchor='end'),
              tag('text', 'confidence', x=(LEFT + right) / 2, y=HEIGHT - 6, text_anchor='middle')]
    most = max(b.images for b in bins)
    for b in bins:
        share, (low, high) = b.correct / b.images, wilson(b.correct, b.images)
        height = max(26 * b.images / most, 1.0)
        parts.append(tag(
            'g', tag('title', f'{b.images:,} images, mean confidence {percent(b.confidence)}, right {percent(share)}'),
            tag('rect', x=at(b.confidence) - 6, y=floor - height, width=12, height=height, fill='var(--track)'),
            tag('line', x1=at(b.confidence), x2=at(b.confidence), y1=over(low), y2=over(high), stroke='var(--one)',
                stroke_width=2, opacity=0.45),
            tag('circle', cx=at(b.confidence), cy=over(share), r=4.0, fill='var(--one)')))
    return tag('svg', parts, viewBox=f'0 0 {WIDTH} {HEIGHT}', width=WIDTH, height=HEIGHT, role='img',
               aria_label=summary)

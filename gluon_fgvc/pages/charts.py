"""Charts of shares: bars of one share, confusion matrices, reliability; and how shares and numbers are written.

The two colours, blue and orange, stay apart for every common kind of colour blindness, and each share is written or
told beside its colour, so that colour is never the only cue.
"""
import math

import numpy as np

from gluon_fgvc.engine.statistics import wilson
from gluon_fgvc.pages import figure
from gluon_fgvc.pages.figure import colour, plain
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.pictures import png_uri

RELIABILITY = 360, 250  # pixels of the chart
HISTOGRAM = 0.2         # its strip below the axis of shares, in units of that axis


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


# --- bars, many to a page: elements of HTML ----------------------------------------------------

def interval_bar(share, low, high):
    """Return a small bar: the interval on [0, 1], the share as a dot. The numbers stand beside it."""
    return tag('span', tag('i', class_='range', style=f'left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%'),
               tag('i', class_='share', style=f'left:{100 * share:.1f}%'), class_='bar of-interval', aria_hidden='true')


def share_bars(shares, summary):
    """Return one horizontal bar for each of ``shares``, a mapping of name → number in [0, 1].

    :param summary: what the chart says in one sentence, for those who do not see it.
    """
    cells = [[tag('span', name, class_='name'),
              tag('span', tag('i', style=f'width:{100 * float(share):.1f}%'), class_='bar'),
              tag('span', percent(float(share)), class_='number')] for name, share in shares.items()]
    return tag('div', cells, class_='bars', role='img', aria_label=summary)


# --- confusion -------------------------------------------------------------------------------

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
    names = [_short(plain(name), 24) for name in classes]
    longest = max(max(len(name) for name in names) * 6.8, 34)
    slant = longest * 0.72
    left, top, right = 16 + longest, 42.0 if flat else 34 + slant, 4.0 if flat else slant + 4
    side = cell * count
    with figure.drawing(round(left + side + right), round(top + side + 4), (left, right, top, 4)) as drawing:
        axes = drawing.axes
        axes.set(xlim=(0, side), ylim=(side, 0), xticks=[], yticks=[])
        axes.text(0, 16 - top, 'predicted', color=colour('ink'), weight=600)
        axes.text(-8, -8, 'label', color=colour('ink'), weight=600, ha='right')
        for k, name in enumerate(names):
            middle = (k + 0.5) * cell
            drawing.tell(axes.text(-8, middle, name, ha='right', va='center'), classes[k])
            above = {'s': _short(name, int(cell / 7)), 'ha': 'center'} if flat else \
                {'s': name, 'rotation': 45, 'ha': 'left', 'rotation_mode': 'anchor'}
            drawing.tell(axes.text(middle + (0 if flat else 3), -8, **above), classes[k])
        axes.add_artist(_rectangle(0, 0, side, side, color=colour('grid'), alpha=0.6))
        for row, column in np.argwhere(confusion):
            images = confusion[row, column]
            _cell(drawing, (column * cell, row * cell, cell), int(images), float(shares[row, column]),
                  (classes[row], classes[column], row == column))
        edges = [k * cell for k in range(count + 1)]
        axes.hlines(edges, 0, side, color=colour('ground'), linewidth=2)
        axes.vlines(edges, 0, side, color=colour('ground'), linewidth=2)
        return drawing.svg(summary)


def _cell(drawing, place, images, share, meaning):
    (x, y, side), (label, predicted, right) = place, meaning
    fill = _rectangle(x, y, side, side, color=colour('one' if right else 'two'), alpha=_shade(share))
    drawing.tell(drawing.axes.add_artist(fill), f'{label} → {predicted}: {images:,} images, {percent(share)}')
    if side < 26:
        return
    ink = colour('on-fill' if _shade(share) > 0.8 else 'on-half' if _shade(share) > 0.6 else 'ink')
    style = {'color': ink, 'ha': 'center', 'va': 'center_baseline'}
    drawing.axes.text(x + side / 2, y + side / 2 - (8 if side >= 60 else 0), f'{images:,}',
                      weight=600 if right else 400, **style)
    if side >= 60:
        drawing.axes.text(x + side / 2, y + side / 2 + 9, percent(share), **style)


def _rectangle(x, y, width, height, **style):
    from matplotlib.patches import Rectangle
    return Rectangle((x, y), width, height, linewidth=0, **style)


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


# --- reliability -----------------------------------------------------------------------------

def reliability(bins, summary):
    """Return an SVG of accuracy against confidence with 95 % intervals, and the images per bin below.

    :param bins: list of :class:`~gluon_fgvc.engine.statistics.Bin`.
    """
    width, height = RELIABILITY
    ticks = (0, 0.25, 0.5, 0.75, 1)
    with figure.drawing(width, height, (50, 20, 12, 42)) as drawing:
        axes = drawing.axes
        axes.set(xlim=(0, 1), ylim=(-HISTOGRAM - 0.03, 1), xlabel='confidence')
        axes.set_xticks(ticks, [percent(value, 0) for value in ticks])
        axes.set_yticks(ticks, [percent(value, 0) for value in ticks])
        axes.grid(axis='y')
        axes.plot([0, 1], [0, 1], color=colour('soft'), linestyle=(0, (3, 3)), linewidth=1)
        axes.text(0.09, 0.03, 'as sure as right')  # where few networks have a bin
        most, floor = max(b.images for b in bins), axes.get_ylim()[0]
        for b in bins:
            share, (low, high) = b.correct / b.images, wilson(b.correct, b.images)
            told = f'{b.images:,} images, mean confidence {percent(b.confidence)}, right {percent(share)}'
            bar, = axes.bar(b.confidence, HISTOGRAM * max(b.images / most, 0.04), 0.04, floor, color=colour('track'))
            interval, = axes.plot([b.confidence] * 2, [low, high], color=colour('one'), alpha=0.45, linewidth=2.5)
            dot, = axes.plot([b.confidence], [share], 'o', color=colour('one'), markersize=8)
            for artist in (bar, interval, dot):
                drawing.tell(artist, told)
        return drawing.svg(summary)

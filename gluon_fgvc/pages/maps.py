"""What a network looks at, drawn over the photograph: heat-map overlays, sampling points, gates, and a page of them."""
from textwrap import wrap
from types import MappingProxyType
from typing import Mapping, NamedTuple, Optional

import cv2
import numpy as np
from matplotlib import colormaps

from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import charts as plots
from gluon_fgvc.pages import pictures, sampling
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.contact_sheet import Item, contact_sheet
from gluon_fgvc.pages.markup import page, tag

COLOUR_MAP = 'inferno'  # perceptually uniform, and in order of lightness for every kind of colour vision
OPACITY = 0.5          # of the heat map over the gray photograph


def normalise(values):
    """Map a 2-D array linearly so that its smallest value is 0 and its largest 1.

    Each map is normalised by itself: colours compare places within a map, never two maps. A map
    of one value shows no preference and becomes 0 everywhere.

    :raises ValueError: if ``values`` is not 2-D, is empty or not finite.
    """
    values = np.asarray(values, 'float64')
    if values.ndim != 2 or not values.size:
        raise ValueError(f'a map must be 2-D and not empty, not of shape {values.shape}')
    if not np.isfinite(values).all():
        raise ValueError('a map must be finite')
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.zeros_like(values)


def overlay(image, values):
    """Lay a heat map over a photograph.

    The map is normalised (:func:`normalise`), enlarged bilinearly to the image (cell centres stay
    where they are, align_corners=False), coloured with ``COLOUR_MAP`` and blended over the
    photograph's gray values, so that its own colours are not mistaken for heat.

    :param image: uint8 RGB (H,W,3).
    :param values: 2-D array (h,w) of any size.
    :returns: uint8 RGB (H,W,3).
    :raises ValueError: for another type or shape, or a map that is not finite.
    """
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f'image must be uint8 (H,W,3), not {image.dtype} {image.shape}')
    height, width = image.shape[:2]
    heat = cv2.resize(normalise(values), (width, height), interpolation=cv2.INTER_LINEAR)
    colours = 255 * colormaps[COLOUR_MAP](heat)[..., :3]
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return np.round(OPACITY * colours + (1 - OPACITY) * gray).astype('uint8')


class Row(NamedTuple):
    """One photograph and its maps."""

    name: str                      # e.g. the file name
    image: np.ndarray              # uint8 RGB (H,W,3), as the network saw it
    maps: Mapping[str, np.ndarray]  # name → (h,w)
    predicted: str
    probability: float
    label: Optional[str] = None    # true class where it is known
    grids: Mapping[str, np.ndarray] = MappingProxyType({})  # name → (2,O,O), see :mod:`gluon_fgvc.pages.sampling`
    shares: Mapping[str, Mapping[str, float]] = MappingProxyType({})  # title → name → share in [0, 1], as bars
    regions: Mapping[str, np.ndarray] = MappingProxyType({})  # name → (H,W), 1 in a part of the photograph and else 0


class Panel(NamedTuple):
    """One picture of a row."""

    name: str
    image: np.ndarray  # uint8 RGB
    summary: str       # what it shows, for those who do not see it
    detail: str = ''   # size and range


def panels_of(row):
    """Yield each :class:`Panel` of a row: the photograph, heat maps, sampling points and what they give, parts."""
    yield Panel('photograph', row.image, 'photograph')
    for name, values in row.maps.items():
        values = np.asarray(values)
        yield Panel(name, overlay(row.image, values), f'heat map of {name}',
                    f'{values.shape[0]}×{values.shape[1]}, {values.min():.3g} to {values.max():.3g}')
    for name, grid in row.grids.items():
        image = sampling.sampled(row.image, grid)
        yield Panel(f'{name}, points', sampling.points(row.image, grid), f'sampling points, {name}')
        yield Panel(f'{name}, sampled', image, f'the image sampled there, {name}',
                    f'{image.shape[0]}×{image.shape[1]}')
    for name, inside in row.regions.items():
        yield Panel(name, np.round(row.image * inside[..., None]).astype('uint8'), name)


def write_page(rows, path, title='Attention maps', sections=()):
    """Write one self-contained HTML page with a line of pictures for each of ``rows``; return its path.

    Under each map stand its size and its range before normalisation. Each grid gives two pictures, its points and
    the image sampled there, each region the photograph, black outside of it. ``sections`` are further markup for the
    end of the page.
    """
    lines = [tag('section', tag('h2', tag('span', row.name, class_='name')), tag(
        'p', tag('strong', row.predicted, class_='name'), f' {percent(row.probability)}',
        None if row.label is None else [', label ', tag('span', row.label, class_='name')], class_='soft'),
        drawn(row), class_='right' if row.label == row.predicted else None) for row in rows]
    narrow = all(len(row.maps) + 2 * len(row.grids) + len(row.regions) < 3 for row in rows)
    text = page(title, tag('h1', title), reading_aid(), _errors_only(rows),
                tag('main', tag('div', lines, class_='abreast' if narrow else None), *sections),
                styles=('maps.css', 'maps_page.css'))
    return write_atomically(path, text)


def _errors_only(rows):
    """Return the switch that leaves errors alone on the page, where there is something to leave out and to leave."""
    known = [row for row in rows if row.label is not None]
    wrong = sum(row.label != row.predicted for row in known)
    if not 0 < wrong < len(known):
        return None
    return [tag('input', type='checkbox', id='errors'), tag(
        'label', f' errors only, {wrong:,} of {len(known):,} images with a label', for_='errors')]


def write_sheet(rows, path, side=160):
    """Write one picture with a line for each of ``rows``; return its path.

    :param path: ends in .png, .jpg or .jpeg.
    :param side: pixels that each picture may fill.
    """
    lines = []
    for row in rows:
        photograph, *others = panels_of(row)
        correct = None if row.label is None else row.predicted == row.label
        lines.append([Item('', [row.predicted, f'{row.probability:.1%}'], correct, photograph.image)]
                     + [Item('', wrap(panel.name, side // 8), None, panel.image) for panel in others])
    columns = max(map(len, lines))
    items = [item for line in lines for item in line + [None] * (columns - len(line))]
    return contact_sheet(items, path, columns, side)


def drawn(row):
    """Return the markup of the pictures and bars of a :class:`Row`; it takes ``maps.css``.

    Maps whose names begin with the title of a group of shares begin a line of their own, with the bars at its end.
    """
    lines = {None: [], **{title: [] for title in row.shares}}
    for panel in panels_of(row):
        title = next((title for title in row.shares if panel.name.startswith(f'{title} ')), None)
        lines[title].append(_figure(row, panel))
    for title in row.shares:
        (lines[title] or lines[None]).append(_bars(row, title))
    return [tag('div', line, class_='maps') for line in lines.values() if line]


def reading_aid():
    """Return markup that says what the colours of the maps mean."""
    note = ('Bright is high. Each map is scaled by itself, its smallest value to black and its largest to yellow, '
            'so colours compare places within one map only.')
    return [tag('p', note, class_='soft'), _scale()]


def _figure(row, panel):
    image = tag('img', src=pictures.jpeg_uri(panel.image, 88), alt=f'{row.name}: {panel.summary}',
                width=panel.image.shape[1], height=panel.image.shape[0], loading='lazy')
    detail = [' ', tag('span', panel.detail, class_='detail')] if panel.detail else None
    return tag('figure', image, tag('figcaption', tag('strong', panel.name), detail))


def _bars(row, title):
    shares = row.shares[title]
    said = ', '.join(f'{name} {percent(float(share))}' for name, share in shares.items())
    return tag('figure', plots.share_bars(shares, f'{row.name}: {title}: {said}'),
               tag('figcaption', tag('strong', title), ' shares'))


def _scale():
    """The colour scale as it appears in the pictures, over mid-gray."""
    ramp = 255 * colormaps[COLOUR_MAP](np.linspace(0, 1, 128))[None, :, :3]
    bar = np.repeat(np.round(OPACITY * ramp + (1 - OPACITY) * 128).astype('uint8'), 10, axis=0)
    return tag('p', 'low ', tag('img', src=pictures.png_uri(bar), alt='from dark violet to bright yellow', width=128,
                                height=10), ' high', class_='soft')

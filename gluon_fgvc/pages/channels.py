"""Sections of a page about channels: tables, histograms over training, images that move a channel most and least."""
import numpy as np
from matplotlib import colormaps

from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.charts import number
from gluon_fgvc.pages.markup import tag

EXTREMES = 3  # channels named at either end of a layer's ranking
COLUMNS, ROW = 240, 5  # pixels of a histogram: of all bins together, and of a layer


def histogram_section(records):
    """Return markup: one picture an epoch, layers from the first at the top, attention from left to right; or None."""
    if not records:
        return None
    figures, (low, high), bins = [], records[0]['attention_range'], _used_bins(records)
    count = len(next(iter(records[0]['attention'].values()))['counts'])
    low, high = (low + (high - low) * edge / count for edge in (bins.start, bins.stop))
    for record in records:
        layers = record['attention']
        shares = np.array([layer['counts'][bins] for layer in layers.values()], 'float64')
        shares /= shares.sum(axis=1, keepdims=True)
        picture = np.round(255 * colormaps['inferno'](np.sqrt(shares))[..., :3]).astype('uint8')
        picture = picture.repeat(ROW, axis=0).repeat(max(1, COLUMNS // shares.shape[1]), axis=1)
        spread = [np.mean([layer['sd'] for layer in layers.values()]), min(layer['least'] for layer in layers.values()),
                  max(layer['largest'] for layer in layers.values())]
        title = f"epoch {record['epoch'] + 1} ({record['phase']})"
        figures.append(tag('figure', tag('img', src=pictures.png_uri(picture), alt=f'{title}: attention weights of '
                                         f'{len(layers)} layers', width=picture.shape[1], height=picture.shape[0]),
                           tag('figcaption', tag('strong', title), f': {number(float(spread[1]))} to '
                               f'{number(float(spread[2]))}, sd of a layer {number(float(spread[0]))}')))
    note = (f'One line a layer, the first at the top; attention from {low:g} at the left to {high:g} at the right, '
            'what lies outside at the rim. Bright is many, on a scale of square roots; all weights start at 1.')
    return tag('section', tag('h2', 'Attention weights after each epoch'), tag('p', note, class_='soft'),
               tag('div', figures, class_='maps'))


def _used_bins(records):
    """Return the slice of bins, symmetric to 1 if the range is, that holds all weights of all epochs."""
    counts = np.sum([layer['counts'] for record in records for layer in record['attention'].values()], axis=0)
    used = np.flatnonzero(counts)
    margin = min(used[0], len(counts) - 1 - used[-1])
    return slice(margin, len(counts) - margin)


def ranking_section(scores):
    """Return markup: a table of all layers with the channels at either end of each ranking."""
    rows = []
    for layer, values in scores.items():
        order = np.argsort(-values, kind='stable')
        ends = [', '.join(f'{channel} ({values[channel]:.3f})' for channel in part)
                for part in (order[:EXTREMES], order[::-1][:EXTREMES])]
        rows.append(tag('tr', tag('th', layer, class_='name', scope='row'), *(
            tag('td', text, class_='number') for text in (f'{len(values):,}', f'{values.mean():.3f}',
                                                          f'{values.std():.3f}')), *(tag('td', end) for end in ends)))
    head = tag('tr', *(tag('th', text, class_=kind, scope='col') for text, kind in (
        ('layer', None), ('channels', 'number'), ('mean', 'number'), ('sd', 'number'), ('most attention', None),
        ('least', None))))
    return tag('section', tag('h2', 'Channels by attention'), tag('div', tag('table', tag('thead', head), tag(
        'tbody', rows)), style='overflow-x: auto'))


def channel_section(layer, channel, attention, maximised, most, least):
    """Return markup for one channel.

    :param maximised: list of (caption, uint8 RGB (H,W,3)).
    :param most, least: lists of (name, uint8 RGB (H,W,3), response), strongest and weakest first.
    """
    def row(title, items):
        return [tag('h3', title), tag('div', [tag('figure', tag(
            'img', src=pictures.jpeg_uri(image, 88), alt=f'{title}: {caption}', width=image.shape[1],
            height=image.shape[0], loading='lazy'), tag('figcaption', tag('span', caption, class_='name')))
            for caption, image in items], class_='maps thumbnails')]

    return tag('section', tag('h2', f'{layer}, channel {channel}'),
               tag('p', f'attention {attention:.3f}', class_='soft'), row('maximised from noise', maximised), *(
                   row(title, [(f'{name}: {response:.3g}', image) for name, image, response in items])
                   for title, items in (('images that activate it most', most), ('and least', least))))

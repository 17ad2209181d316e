"""The one engine of charts: matplotlib draws, and the colours in its SVG become variables of the page's theme.

Charts so follow light and dark and print, their texts stay texts, and the same data gives the same bytes. Matplotlib
is imported when the first chart is drawn.
"""
import contextlib
import io
import re
import warnings
from xml.etree import ElementTree

from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages.markup import Html, asset, clean, join, tag

FONT = 12.0  # pixels; charts are shown at the size they are drawn in, or smaller on a narrow screen
SERIES = ('one', 'two', 'three', 'four', 'five', 'six', 'seven')
# Matplotlib wants colours, not variables: each name stands for a colour that nobody would choose.
_STAND_IN = {name: f'#5ee1{number:02x}' for number, name in enumerate(
    (*SERIES, 'ground', 'ink', 'soft', 'grid', 'track', 'band', 'on-fill', 'on-half'))}
_NAMES = {stand_in: name for name, stand_in in _STAND_IN.items()}
_COLOURS = re.compile('|'.join(_NAMES))
_DIGITS = re.compile(r'-?\d+\.\d{3,}')
_FONTS = re.compile('; font-family: [^;]*|^font-family: [^;]*; ')
_TOLD = re.compile(r'told-(\d+)')
_XLINK = '{http://www.w3.org/1999/xlink}'


def colour(name):
    """Return what stands for the theme's colour ``name``, e.g. 'one' or 'soft', where matplotlib takes a colour."""
    return _STAND_IN[name]


class Drawing:
    """A figure in the making; :func:`drawing` makes one.

    :ivar axes: matplotlib's axes, to draw on.
    """

    def __init__(self, axes):
        self.axes, self._titles = axes, []

    def tell(self, artist, text):
        """Show ``text`` while the pointer rests on ``artist``; return the artist."""
        artist.set_gid(f'told-{len(self._titles)}')
        self._titles.append(text)
        return artist

    def svg(self, summary):
        """Return the markup of the figure.

        :param summary: what the chart says in one sentence, for those who do not see it.
        """
        return _themed(self._saved(), self._titles, summary)

    def _saved(self):
        figure = self.axes.figure
        for artist in figure.findobj():
            artist.set_clip_on(False)  # all of it lies inside; clip paths would need ids and url()
        stream = io.StringIO()
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Glyph .* missing from')  # the browser's fonts may have it
            figure.savefig(stream, format='svg', metadata={'Date': None, 'Creator': None}, transparent=True)
        return stream.getvalue()


@contextlib.contextmanager
def drawing(width, height, margins):
    """Give a :class:`Drawing` of ``width`` by ``height`` pixels, to be drawn and turned into SVG inside of ``with``.

    :param margins: (left, right, top, bottom) of the axes in pixels.
    """
    import matplotlib
    from matplotlib.figure import Figure
    left, right, top, bottom = margins
    with matplotlib.rc_context(_settings()):
        figure = Figure(figsize=(width / 72, height / 72), dpi=72)  # a point is a pixel at 72 of them an inch
        axes = figure.add_axes((left / width, bottom / height, (width - left - right) / width,
                                (height - top - bottom) / height))
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0, pad=6)
        axes.set_axisbelow(True)
        yield Drawing(axes)


def _settings():
    soft, grid = colour('soft'), colour('grid')
    return {'svg.hashsalt': 'gluon_fgvc', 'svg.fonttype': 'none', 'text.parse_math': False, 'font.size': FONT,
            'font.family': 'DejaVu Sans',  # comes with matplotlib: layout is the same everywhere
            'text.color': soft, 'axes.labelcolor': soft, 'xtick.color': soft, 'ytick.color': soft,
            'axes.labelsize': FONT, 'xtick.labelsize': FONT, 'ytick.labelsize': FONT, 'legend.fontsize': FONT,
            'legend.frameon': False, 'grid.color': grid, 'grid.linewidth': 1.0, 'axes.edgecolor': grid,
            'axes.unicode_minus': True, 'lines.linewidth': 2.0, 'lines.solid_capstyle': 'round',
            'lines.solid_joinstyle': 'round'}


def plain(text):
    """Return a text that fits into one line of a chart: no control characters, no line breaks."""
    return ' '.join(clean(text).split())


def _themed(text, titles, summary):
    """Turn a file of matplotlib's into an element of a page."""
    root = ElementTree.fromstring(text)
    width, height = (round(float(side)) for side in root.get('viewBox').split()[2:])
    return tag('svg', [_element(child, titles) for child in root], viewBox=f'0 0 {width} {height}', width=width,
               height=height, role='img', aria_label=summary)


def _element(element, titles):
    """Return one element of matplotlib's as markup: without what says nothing, and with the theme's colours."""
    name = element.tag.rpartition('}')[2]
    if name in ('metadata', 'style'):
        return None
    told = _TOLD.fullmatch(element.get('id', ''))
    children = [tag('title', titles[int(told[1])])] if told else []
    children += [child for child in (_element(child, titles) for child in element) if child]
    if name in ('g', 'defs') and not children:
        return None
    attributes = {key.replace(_XLINK, 'xlink:'): _compact(value) for key, value in element.attrib.items()
                  if key != 'id' or name != 'g'}
    if name == 'g' and not told and not attributes:
        return join(children)  # matplotlib's own grouping
    if 'rotate(-0 ' in attributes.get('transform', ''):
        del attributes['transform']
    if 'fill: none' in attributes.get('style', '') and 'stroke' not in attributes['style'] and name == 'path':
        return None  # the empty ground of figure and axes
    return tag(name, element.text.strip() if element.text and name == 'text' else None, children, **attributes)


def _compact(value):
    """Shorten coordinates, leave the font to the page, and name the colours."""
    value = _FONTS.sub('', _DIGITS.sub(lambda found: f'{float(found[0]):.2f}'.rstrip('0').rstrip('.'), value))
    return _COLOURS.sub(lambda found: f'var(--{_NAMES[found[0]]})', ' '.join(value.split()))


def write(path, svg):
    """Write markup of :meth:`Drawing.svg` as a file of its own, with theme and ground; return its path."""
    ground = '<style>' + asset('theme.css') + 'svg { background: var(--ground); }</style>'
    text = svg.replace('<svg ', '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" ',
                       1)
    return write_atomically(path, Html(re.sub('(<svg [^>]*>)', lambda found: found[1] + ground, text, count=1) + '\n'))

"""Contact sheets: predicted images side by side on one picture, with captions in any script."""
import functools
import io
import os
from typing import NamedTuple, Optional, Sequence

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont

from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import pictures

RIGHT, WRONG, NEUTRAL = (11, 106, 168), (200, 85, 10), (140, 146, 152)  # the report's blue and orange
KINDS = {'.jpg': 'JPEG', '.jpeg': 'JPEG', '.png': 'PNG'}  # how a name may end → Pillow's name of the format
_INK, _SOFT, _GROUND, _CARD = (27, 31, 35), (89, 96, 104), (255, 255, 255), (240, 241, 242)
_GAP, _FRAME, _LINE = 14, 4, 17


class Item(NamedTuple):
    """One image of a sheet."""

    path: str
    lines: Sequence[str]             # caption; the first line is the strongest
    correct: Optional[bool] = None   # colour of the frame: blue, orange, or gray where nobody knows
    image: Optional[np.ndarray] = None  # uint8 RGB (H,W,3), if it is at hand; else it is read from path


def contact_sheet(items, out, columns=6, side=200):
    """Write a picture of ``items`` in rows of ``columns`` to ``out`` and return its path.

    Wrong predictions are framed orange and marked ✗, right ones blue and ✓. Images keep their
    aspect; one that cannot be read leaves an empty frame that says so. Captions are cut to the width.

    :param items: sequence of :class:`Item`, at least one; None leaves a place empty.
    :param out: path ending in .jpg, .jpeg or .png.
    :param side: width and height in pixels that an image may fill.
    :raises ValueError: for no items, or a name that ends otherwise.
    """
    if not items:
        raise ValueError('a contact sheet needs at least one image')
    kind = KINDS.get(os.path.splitext(str(out))[1].lower())
    if kind is None:
        raise ValueError(f"'{out}' must end in .jpg, .jpeg or .png")
    columns = min(columns, len(items))
    lines = max(len(item.lines) for item in items if item)
    width, height = side + 2 * _FRAME, side + 2 * _FRAME + 6 + lines * _LINE
    rows = -(-len(items) // columns)
    sheet = Image.new('RGB', (_GAP + columns * (width + _GAP), _GAP + rows * (height + _GAP)), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for k, item in enumerate(items):
        if item:
            x, y = _GAP + k % columns * (width + _GAP), _GAP + k // columns * (height + _GAP)
            _place(sheet, draw, item, x, y, side)
    stream = io.BytesIO()
    sheet.save(stream, kind, **({'quality': 90} if kind == 'JPEG' else {}))
    return write_atomically(out, stream.getvalue())


def _place(sheet, draw, item, x, y, side):
    colour = NEUTRAL if item.correct is None else RIGHT if item.correct else WRONG
    draw.rectangle((x, y, x + side + 2 * _FRAME - 1, y + side + 2 * _FRAME - 1), fill=_CARD, outline=colour,
                   width=_FRAME)
    image = item.image if item.image is not None else pictures.read(item.path, side)
    if image is None:
        _text(draw, x + 2 * _FRAME + 4, y + side // 2, 'image cannot be read', side - 2 * _FRAME, _SOFT, False)
    else:
        image = Image.fromarray(pictures.fit(image, side))
        sheet.paste(image, (x + _FRAME + (side - image.width) // 2, y + _FRAME + (side - image.height) // 2))
    y += side + 2 * _FRAME + 4
    mark = '' if item.correct is None else '✓ ' if item.correct else '✗ '
    for number, line in enumerate(item.lines):
        first = number == 0
        _text(draw, x, y + number * _LINE, mark + line if first else line, side + 2 * _FRAME,
              colour if first and item.correct is not None else _INK if first else _SOFT, first)


def _text(draw, x, y, text, width, colour, bold):
    text = ''.join(c if c.isprintable() else '\ufffd' for c in text)
    font = _font(frozenset(text), bold)
    if draw.textlength(text, font) > width:
        while text and draw.textlength(text + '…', font) > width:
            text = text[:-1]
        text += '…'
    draw.text((x, y), text, colour, font)


@functools.lru_cache(maxsize=256)
def _font(characters, bold, size=13):
    """The first font with all ``characters``: matplotlib's DejaVu Sans, else the installed one that has most."""
    own = os.path.join(matplotlib.get_data_path(), 'fonts', 'ttf', 'DejaVuSans-Bold.ttf' if bold else 'DejaVuSans.ttf')
    best, missing = own, _missing(own, characters)
    if missing:
        for path in sorted({entry.fname for entry in font_manager.fontManager.ttflist}):
            count = _missing(path, characters)
            if count < missing:
                best, missing = path, count
            if not missing:
                break
    return ImageFont.truetype(best, size)


def _missing(path, characters):
    try:
        glyphs = FT2Font(path).get_charmap()
    except (OSError, RuntimeError):
        return len(characters) + 1
    return sum(ord(c) not in glyphs for c in characters)

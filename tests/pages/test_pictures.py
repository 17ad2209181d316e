import re

import cv2
import numpy as np
import pytest
from PIL import Image

from gluon_fgvc.pages import contact_sheet
from gluon_fgvc.pages import maps as attention_maps
from gluon_fgvc.pages.contact_sheet import Item
from gluon_fgvc.pages.maps import Row, drawn, overlay, write_page, write_sheet


@pytest.mark.parametrize('name, kind', [('sheet.png', 'PNG'), ('sheet.jpg', 'JPEG'), ('sheet.JPEG', 'JPEG')])
def test_sheet_shows_images_frames_and_placeholders(tmp_path, name, kind):
    red = np.zeros((20, 40, 3), 'uint8')
    red[..., 0] = 255
    cv2.imwrite(str(tmp_path / 'grün.png'), red[..., ::-1])
    items = [Item(str(tmp_path / 'grün.png'), ['right'], True), Item('none.png', ['wrong'], False),
             Item('', ['?'], None, red)]
    with Image.open(contact_sheet.contact_sheet(items, tmp_path / name, columns=2, side=100)) as sheet:
        assert sheet.format == kind
        pixels = np.asarray(sheet.convert('RGB')).astype(int)
    gap, cell = 14, 108
    below = 2 * gap + cell + 6 + 17
    for x, y, frame, middle in ((gap, gap, contact_sheet.RIGHT, (255, 0, 0)),
                                (2 * gap + cell, gap, contact_sheet.WRONG, None),
                                (gap, below, contact_sheet.NEUTRAL, (255, 0, 0))):
        assert np.abs(pixels[y + cell // 2, x + 1] - frame).max() < 30
        if middle:
            assert np.abs(pixels[y + cell // 2, x + cell // 2] - middle).max() < 30
    assert pixels.shape[:2] == (gap + 2 * (cell + 6 + 17 + gap), gap + 2 * (cell + gap))


def ink(text, tmp_path):
    sheet = contact_sheet.contact_sheet([Item('none', [text])], tmp_path / 'ink.png', side=200)
    return np.asarray(Image.open(sheet).convert('L'))[-30:]


def test_captions_are_unicode(tmp_path):
    pictures = [ink(text, tmp_path) for text in ('Größe', 'исправный', '→ ✓ é', '?????')]
    for k, one in enumerate(pictures):
        assert (one < 128).sum() > 20
        assert not any((one == other).all() for other in pictures[k + 1:])


def test_captions_are_cut_to_the_width_and_control_characters_shown(tmp_path):
    wide = ink('w' * 500, tmp_path)
    assert (wide[:, -14:] > 200).all()
    ink('a\nb\x00\udcff', tmp_path)


def test_sheet_refuses(tmp_path):
    with pytest.raises(ValueError, match='at least one'):
        contact_sheet.contact_sheet([], tmp_path / 'a.png')
    with pytest.raises(ValueError, match='must end in'):
        contact_sheet.contact_sheet([Item('a', ['b'])], tmp_path / 'a.gif')


def test_overlay_by_hand():
    gray = np.full((4, 4, 3), 100, 'uint8')
    hot = overlay(gray, np.array([[0.0, 8.0]]))
    # inferno runs from (0, 0, 4) to (252, 255, 164): half of each, and half of the photograph
    assert hot[0, 0].tolist() == pytest.approx([50, 50, 52], abs=1)
    assert hot[0, 3].tolist() == pytest.approx([176, 177, 132], abs=1)
    assert hot.dtype == np.uint8 and hot.shape == gray.shape


def test_overlay_keeps_cell_centres_and_ignores_scale_and_offset():
    values = np.zeros((4, 4))
    values[1, 2] = 1
    gray = np.zeros((32, 32, 3), 'uint8')
    heat = overlay(gray, values)
    lightness = heat.astype(int).sum(axis=2)
    rows, columns = np.nonzero(lightness == lightness.max())
    assert rows.mean() == pytest.approx(11.5, abs=0.6) and columns.mean() == pytest.approx(19.5, abs=0.6)
    assert (overlay(gray, 7 * values + 3) == heat).all()


def test_a_uniform_map_shows_no_preference():
    image = np.random.default_rng(0).integers(0, 256, (9, 7, 3)).astype('uint8')
    assert (overlay(image, np.full((3, 3), 5.0)) == overlay(image, np.zeros((2, 2)))).all()
    assert attention_maps.normalise(np.full((2, 2), 5.0)).max() == 0


@pytest.mark.parametrize('values', (np.zeros(3), np.zeros((0, 2)), np.array([[0, np.nan]]), np.array([[0, np.inf]])))
def test_overlay_refuses_other_maps(values):
    with pytest.raises(ValueError, match='map must be'):
        overlay(np.zeros((4, 4, 3), 'uint8'), values)


def test_overlay_refuses_other_images():
    with pytest.raises(ValueError, match='uint8'):
        overlay(np.zeros((4, 4, 3)), np.zeros((2, 2)))
    with pytest.raises(ValueError, match='uint8'):
        overlay(np.zeros((4, 4), 'uint8'), np.zeros((2, 2)))


def test_page_of_maps(tmp_path):
    image = np.zeros((8, 8, 3), 'uint8')
    rows = [Row('<b>.png', image, {'<i>cam': np.eye(3), 'second': np.zeros((2, 2))}, '<u>bird', 0.5, 'label')]
    text = open(write_page(rows, tmp_path / 'maps.html')).read()
    assert text.count('<img') == 1 + 3 and '<b>' not in text and '<i>' not in text and '<u>' not in text
    assert '&lt;u&gt;bird' in text and '50.0\u00a0%' in text and '3×3, 0 to 1' in text


def test_the_page_of_maps_can_show_errors_alone(tmp_path):
    image = np.zeros((8, 8, 3), 'uint8')
    rows = [Row(name, image, {'cam': np.eye(2)}, predicted, 0.5, label)
            for name, predicted, label in (('a', 'cat', 'cat'), ('b', 'cat', 'dog'), ('c', 'dog', 'dog'))]
    text = open(write_page(rows, tmp_path / 'maps.html')).read()
    assert 'errors only, 1 of 3 images with a label' in text and '#errors:checked ~ main .right' in text
    assert text.index('id="errors"') < text.index('<main>') and text.count('<section class="right">') == 2
    assert '<div class="abreast">' in text  # two narrow pictures each: several photographs stand side by side
    for some in (rows[:1], rows[1:2], [row._replace(label=None) for row in rows]):  # nothing to choose between
        assert 'id="errors"' not in open(write_page(some, tmp_path / 'maps.html')).read()
    wide = [row._replace(maps={str(k): np.eye(2) for k in range(5)}) for row in rows]
    assert 'class="abreast"' not in open(write_page(wide, tmp_path / 'maps.html')).read()


def test_shares_become_bars(tmp_path):
    shares = {'outputs': {'stage4': 0.25, 'classifier & co': 0.75}}
    rows = [Row('a.png', np.zeros((8, 8, 3), 'uint8'), {'m': np.ones((2, 2))}, 'cat', 1.0, shares=shares)]
    text = open(write_page(rows, tmp_path / 'maps.html')).read()
    assert 'aria-label="a.png: outputs: stage4 25.0\u00a0%, classifier &amp; co 75.0\u00a0%"' in text
    assert 'width:25.0%' in text and 'width:75.0%' in text and '>classifier &amp; co<' in text


def test_maps_begin_a_line_with_the_bars_of_their_title():
    maps = {'cam': np.eye(2), 'stage4 head 1': np.eye(2), 'stage4 head 2': np.eye(2), 'stage3 head 1': np.eye(2)}
    shares = {'outputs': {'stage4': 1.0}, 'stage4': {'head 1': 0.5, 'head 2': 0.5}, 'stage3': {'head 1': 1.0}}
    lines = drawn(Row('a.png', np.zeros((8, 8, 3), 'uint8'), maps, 'cat', 1.0, shares=shares))
    assert [re.findall(r'<strong>(.*?)</strong>', str(line)) for line in lines] == [
        ['photograph', 'cam', 'outputs'], ['stage4 head 1', 'stage4 head 2', 'stage4'], ['stage3 head 1', 'stage3']]


def test_a_sheet_of_maps_has_a_line_for_each_photograph(tmp_path):
    image = np.full((8, 8, 3), 200, 'uint8')
    rows = [Row('a.png', image, {'cam': np.eye(2), 'second': np.eye(2)}, 'cat', 1.0, 'cat'),
            Row('b.png', image, {'cam': np.eye(2)}, 'cat', 1.0, 'dog')]
    with Image.open(write_sheet(rows, tmp_path / 'maps.png', 64)) as sheet:
        pixels = np.asarray(sheet).astype(int)
    assert sheet.size == (14 + 3 * (72 + 14), 14 + 2 * (72 + 6 + 2 * 17 + 14))
    frames = [tuple(pixels[14 + line * 126, 14 + column * 86]) for line in range(2) for column in range(3)]
    neutral = contact_sheet.NEUTRAL
    white = (255, 255, 255)
    assert frames == [contact_sheet.RIGHT, neutral, neutral, contact_sheet.WRONG, neutral, white]

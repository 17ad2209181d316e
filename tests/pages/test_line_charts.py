"""Charts for the documentation: every line is there, and the same lines give the same bytes."""
import re
from xml.etree import ElementTree

from gluon_fgvc.pages.line_charts import Line, write_lines

LINES = [Line(f'line {number}', [4, 8, 16], [number, number + 1, number + 3], [0.1] * 3 if number else None)
         for number in range(9)]


def test_lines(tmp_path):
    text = open(write_lines(tmp_path / 'a.svg', LINES, 'distractors', 'error, %', powers_of_two=True)).read()
    for word in ('line 0', 'line 8', 'distractors', 'error, %', '>4<', '>16<'):
        assert word in text, word
    drawn = re.findall(r'd="(M [^"]* L [^"]* L [^"]*)" style="fill: none; ([^"]*stroke: var\(--[a-z]+\)[^"]*)"', text)
    styles = {style for places, style in drawn if places.count('L') == 2}
    assert len(styles) == len(LINES)  # no two lines look alike
    assert text.count('fill-opacity: 0.14') == 8  # nor is a band missing
    assert '@media (prefers-color-scheme: dark)' in text and ElementTree.fromstring(text).get('role') == 'img'


def test_repeatable(tmp_path):
    one, two = (open(write_lines(tmp_path / name, LINES, 'x', 'y')).read() for name in ('a.svg', 'b.svg'))
    assert one == two and 'dc:date' not in one


def test_ticks_are_plain_numbers(tmp_path):
    epochs = [Line('errors', list(range(1, 21)), [80 / epoch for epoch in range(1, 21)])]
    text = open(write_lines(tmp_path / 'a.svg', epochs, 'epoch', 'error, %', log_y=True)).read()
    assert {'5', '10', '15', '20', '50'} <= set(re.findall('>([0-9.]+)<', text)) and '>2.5<' not in text


def test_no_logarithm_of_zero(tmp_path):
    text = open(write_lines(tmp_path / 'a.svg', [Line('errors', [1, 2, 3], [50, 10, 0])], 'x', 'y', log_y=True)).read()
    assert {'0', '10', '20', '30', '40', '50'} <= set(re.findall('>([0-9.]+)<', text))

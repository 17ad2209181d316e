"""The chart of differences: what is drawn where, in what colour, and what it tells."""
import re
from xml.etree import ElementTree

from gluon_fgvc.pages.difference_chart import Difference, write_differences

ROWS = [Difference('worse', -2.0, [-2.5, -1.5], (-3.0, -1.0)), Difference('better', 1.5, [1.0, 2.0], (0.5, 2.5)),
        Difference('unsure', 0.5, [-0.5, 1.5], (-1.0, 2.0)), Difference('once <&', 0.2, [0.2])]


def drawn(tmp_path):
    text = open(write_differences(tmp_path / 'a.svg', ROWS, 'difference to plain, points')).read()
    assert ElementTree.fromstring(text).get('role') == 'img'
    return text


def test_rows_are_sorted_and_told(tmp_path):
    text = drawn(tmp_path)
    titles = re.findall('<title>([^<]*)</title>', text)
    assert titles == ['worse: -2.00 (-3.00 to -1.00)', 'once &lt;&amp;: +0.20', 'unsure: +0.50 (-1.00 to +2.00)',
                      'better: +1.50 (+0.50 to +2.50)']  # from below
    assert ('aria-label="difference to plain, points: '
            'better +1.50, unsure +0.50, once &lt;&amp; +0.20, worse -2.00"') in text
    assert '>+1<' in text and '>−1<' in text and '>0<' in text


def test_colours_say_which_side_of_zero_is_sure(tmp_path):
    text = drawn(tmp_path)
    lines = re.findall(r'd="M ([\d.]+) ([\d.]+) L ([\d.]+) \2" '
                       r'style="fill: none; stroke: var\(--(\w+)\); stroke-width: 2[;"]', text)
    assert [name for *_, name in lines] == ['two', 'soft', 'one']  # no interval of a single pair
    zero = float(re.search(r'd="M ([\d.]+) [\d.]+ L \1 [\d.]+" style="fill: none; stroke: var\(--soft\)', text)[1])
    (_, _, worse, _), (low, _, high, _), (better, *_) = lines
    assert float(worse) < zero and float(low) < zero < float(high) and zero < float(better)
    heights = [float(height) for _, height, _, _ in lines]
    assert heights == sorted(heights, reverse=True)


def test_repeatable(tmp_path):
    assert drawn(tmp_path) == drawn(tmp_path)

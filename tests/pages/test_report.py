import base64
import csv
import hashlib
import html.parser
import json
import os
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.pages import charts as plots
from gluon_fgvc.pages import figure, markup
from gluon_fgvc.pages.line_charts import Band, Line, line_chart
from gluon_fgvc.pages.maps import Row
from gluon_fgvc.pages.report import write_report
from gluon_fgvc.pages.report.pairs import above_chance
from gluon_fgvc.run_folder import Prediction, read_predictions
from tests.fake_run import write_run

EVIL = '<script>alert(1)</script>'


class Page(html.parser.HTMLParser):
    """The elements of a page, its visible text, and whether every element is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.source = open(path, encoding='utf-8').read()
        self.feed(self.source)
        self.close()
        assert self.open == []
        self.text = ' '.join(' '.join(self.words).replace('\u00a0', ' ').split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in markup.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ('script', 'style'):
            self.words.append(data)

    def count(self, tag, **attrs):
        return sum(t == tag and all(a.get(k) == v for k, v in attrs.items()) for t, a in self.elements)

    def section(self, title):
        """The text from heading ``title`` to the next."""
        found = re.search(rf'<h2>{title}</h2>(.*?)(<h2>|</main>)', self.source, re.DOTALL)
        return ' '.join(html.unescape(re.sub('<[^>]+>', ' ', found[1])).split())


@pytest.fixture
def images(tmp_path):
    paths = []
    for k in range(30):
        paths.append(str(tmp_path / f'cell{k}.png'))
        cv2.imwrite(paths[-1], np.full((40 + k, 60, 3), 8 * k, 'uint8'))
    return paths


def report(folder):
    return Page(write_report(folder))


def edit(path, change):
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def test_whole_page(tmp_path, images):
    folder = write_run(tmp_path / 'run', paths=images)
    page = report(folder)
    right = sum(c['correct'] for c in json.loads((folder / 'evaluation.json').read_text())['per_class'])
    assert f'Top-1 accuracy {100 * right / 30:.1f} %' in page.text
    assert 'finetune · efficientnet_lite0' in page.text and 'package:efficientnet-lite0' in page.text
    assert page.count('img') == 30 - right                      # a thumbnail for each error
    assert page.count('svg', role='img') == 3 + 1 + 1           # curves, matrix, reliability
    assert all(a.get('alt') for t, a in page.elements if t == 'img')
    assert all(a.get('aria-label') or a.get('aria-hidden') for t, a in page.elements if t == 'svg')
    assert 'AMD EPYC' in page.text and 'lr: 0.0006' in page.text


def test_headline_interval_by_hand(tmp_path):
    folder = write_run(tmp_path)
    edit(folder / 'evaluation.json', lambda e: e.update(images=10, top1=0.5))
    assert 'Top-1 accuracy 50.0 % 95 % interval 23.7–76.3 %' in report(folder).text


def test_nothing_is_requested(tmp_path, images):
    page = report(write_run(tmp_path / 'run', paths=images))
    for _, attrs in page.elements:
        for key in ('src', 'href', 'action', 'data', 'srcset'):
            assert attrs.get(key, 'data:').startswith('data:')
    assert not re.search(r'url\(|@import', page.source)
    policy = next(a['content'] for t, a in page.elements if a.get('http-equiv') == 'Content-Security-Policy')
    script = re.search('<script>(.*)</script>', page.source, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


@pytest.mark.parametrize('split, chosen, says', [
    ('test', 'val', 'The test split had no part in that choice. It was evaluated once (2026-11-21 09:30).'),
    ('test', None, 'No split chose the epoch: the last one, epoch 9, was kept.'),
    ('test', 'test', 'The test split itself made the choice, so its figures are optimistic.'),
    ('val', 'val', 'the one that chose: they are optimistic. The test split was not evaluated.')])
def test_protocol(tmp_path, split, chosen, says):
    assert says in report(write_run(tmp_path, split=split, chosen=chosen)).text


def test_choice_counts_epochs_from_1_like_the_log(tmp_path):
    folder = write_run(tmp_path)
    edit(folder / 'evaluation.json',
         lambda e: e.update(chosen_by={'epoch': 6, 'split': 'val', 'metric': 'top1', 'value': 0.871}))
    page = report(folder)
    assert 'Epoch 7 was chosen by validation top-1 (87.1 %).' in page.text
    assert 'chosen: 7' in page.section('Training')


def test_every_test_evaluation_is_told(tmp_path):
    folder = write_run(tmp_path)
    lines = [json.dumps({'evaluated_at': f'2026-11-2{k}T10:00:00', 'top1': 0.8}) for k in (1, 2, 3)]
    (folder / 'test_evaluations.jsonl').write_text('\n'.join(lines) + '\n')
    text = report(folder).text
    assert 'It was evaluated 3 times (2026-11-21 10:00, 2026-11-22 10:00, 2026-11-23 10:00).' in text


def test_names_are_escaped_everywhere(tmp_path):
    path = tmp_path / f'a&b"{EVIL[:8]}.png'
    folder = write_run(tmp_path / 'run', classes=(EVIL, '"><img src=x onerror=alert(1)>', '</style>&amp;'),
                       paths=[str(path)] * 40, accuracy=0.5, phases=[EVIL] * 4 + ['</svg>'] * 5)
    (folder / 'config.yaml').write_text(f'method: {{name: "{EVIL}"}}\nbackbone: {{name: "]]>", weights: "<b>"}}\n')
    edit(folder / 'env.json', lambda e: e.update({EVIL: EVIL}))
    edit(folder / 'evaluation.json', lambda e: e['chosen_by'].update(split=EVIL))
    page = report(folder)
    assert page.count('script') == 1 and '<script>alert' not in page.source
    assert page.count('img') == 0 and page.count('style') == 1 and page.count('b') == 0
    assert not any(key.startswith('on') for _, attrs in page.elements for key in attrs)
    assert EVIL in page.text


def test_binary_and_undecodable_names(tmp_path):
    folder = write_run(tmp_path, classes=('a\x01b\x1b', 'gr\u00fcn \U0001f426'), paths=['x\udcff.png'] * 20,
                       accuracy=0.5)
    text = report(folder).text
    assert 'grün 🐦' in text and 'a\ufffdb\ufffd' in text and 'x\ufffd.png' in text


@pytest.mark.parametrize('name, section, says', [
    ('metrics.jsonl', 'Training', 'metrics.jsonl is missing'),
    ('predictions.csv', 'Most confident errors', 'predictions.csv is missing'),
    ('predictions.csv', 'Calibration', 'predictions.csv is missing'),
    ('evaluation.json', 'Confusion', 'evaluation.json is missing'),
    ('evaluation.json', 'Classes', 'evaluation.json is missing'),
    ('config.yaml', 'Configuration and environment', 'config.yaml is missing'),
    ('env.json', 'Configuration and environment', 'env.json is missing')])
def test_absent_and_broken_files_are_explained(tmp_path, name, section, says):
    folder = write_run(tmp_path)
    os.remove(folder / name)
    assert says in report(folder).section(section)
    (folder / name).write_text('{"a": [1,\n2\n]]')
    assert says.replace('is missing', 'is broken') in report(folder).section(section)


def test_only_a_configuration(tmp_path):
    (tmp_path / 'config.yaml').write_text('method: {name: finetune}\n')
    assert 'finetune · unknown' in report(tmp_path).text


def test_no_run_folder(tmp_path):
    with pytest.raises(CheckpointError, match='not a run folder'):
        write_report(tmp_path)
    with pytest.raises(CheckpointError, match='is not a folder'):
        write_report(tmp_path / 'none')


def test_validation_stands_in_for_an_untouched_test_split(tmp_path):
    folder = write_run(tmp_path, split='val')
    for name in ('evaluation.json', 'predictions.csv'):
        os.rename(folder / name, folder / name.replace('.', '_val.'))
    page = report(folder)
    assert 'Val images 656' in page.text.replace('Validation', 'Val') and page.section('Calibration')


def test_before_any_evaluation_the_best_epoch_is_told(tmp_path):
    folder = write_run(tmp_path, epochs=3)
    os.remove(folder / 'evaluation.json')
    rows = [{'kind': 'epoch', 'epoch': k, 'train_loss': 1.0, 'val_loss': loss, 'val_top1': top1}
            for k, (top1, loss) in enumerate([(0.5, 1.0), (0.8, 0.9), (0.8, 0.7), (0.7, 0.1)])]
    (folder / 'metrics.jsonl').write_text('\n'.join(map(json.dumps, rows)))
    (folder / 'best.json').write_text(json.dumps({'chosen_by': {'epoch': 2, 'split': 'val', 'metric': 'top1',
                                                                'value': 0.8}}))
    page = report(folder)
    assert 'Epoch 3 is the best so far by validation top-1 (80.0 %). The test split was not evaluated.' in page.text
    assert 'best: 3' in page.section('Training')


def test_cut_off_and_repeated_metrics(tmp_path):
    folder = write_run(tmp_path, epochs=3)
    with open(folder / 'metrics.jsonl', 'a') as stream:
        stream.write(json.dumps({'kind': 'epoch', 'epoch': 2, 'train_loss': 0.123, 'val_top1': float('nan')}) + '\n')
        stream.write('{"kind": "epo')
    page = report(folder)
    assert '0.123' in page.section('Training') and 'Training 3 epochs' in page.text


def test_metrics_that_are_no_numbers_are_told(tmp_path):
    folder = write_run(tmp_path, epochs=3)
    with open(folder / 'metrics.jsonl', 'a') as stream:
        stream.write(json.dumps({'kind': 'epoch', 'epoch': 3, 'train_loss': {}, 'val_top1': 0.5}) + '\n')
    assert "'train_loss' is {}, not a number" in report(folder).section('Training')


def test_unreadable_images_get_a_placeholder(tmp_path):
    (tmp_path / 'empty.png').write_bytes(b'')
    (tmp_path / 'text.jpg').write_text('no image')
    folder = write_run(tmp_path / 'run', accuracy=0.3,
                       paths=[str(tmp_path / n) for n in ('empty.png', 'text.jpg', 'none.png', '')] * 5)
    page = report(folder)
    assert page.count('img') == 0 and 'image cannot be read' in page.section('Most confident errors')


def test_surest_error_comes_first(tmp_path):
    folder = write_run(tmp_path)
    (folder / 'predictions.csv').write_text(
        'path,label,label_name,predicted,predicted_name,probability,correct\n'
        'low.png,0,a,1,b,0.6,0\nhigh.png,1,b,0,a,0.99,0\nright.png,1,b,1,b,1.0,1\nunlabelled.png,,,1,b,1.0,\n')
    section = report(folder).section('Most confident errors')
    assert 'all of 2 errors' in section and section.index('high.png') < section.index('low.png')
    assert 'right.png' not in section and 'unlabelled' not in section


def test_accuracy_of_super_categories(tmp_path):
    folder = write_run(tmp_path, classes=('finch', 'gull', 'oak'))
    evaluation = json.loads((folder / 'evaluation.json').read_text())
    assert 'Super-categories' not in report(folder).text
    evaluation['per_group'] = [{'name': 'Aves', 'classes': 2, 'images': 400, 'correct': 300, 'accuracy': 0.75},
                               {'name': EVIL, 'classes': 1, 'images': 0, 'correct': 0, 'accuracy': None}]
    (folder / 'evaluation.json').write_text(json.dumps(evaluation))
    section = report(folder).section('Super-categories')
    assert 'Aves 2 400 300 75.0 %' in section.replace('\u00a0', ' ') and f'{EVIL} 1 0 0 – no images' in section


def test_accuracy_by_how_sure_the_annotators_were(tmp_path):
    folder = write_run(tmp_path)
    evaluation = json.loads((folder / 'evaluation.json').read_text())
    sure = {'name': EVIL, 'certainty': 1.0, 'images': 400, 'correct': 300, 'accuracy': 0.75}
    for rows, shown in (([sure], False), ([sure, {**sure, 'certainty': 0.67, 'correct': 100, 'accuracy': 0.25}], True)):
        (folder / 'evaluation.json').write_text(json.dumps({**evaluation, 'per_certainty': rows}))
        assert ('Sure and doubtful labels' in report(folder).text) == shown
    section = report(folder).section('Sure and doubtful labels').replace('\u00a0', ' ')
    assert f'{EVIL} 1.00 400 300 75.0 %' in section and f'{EVIL} 0.67 400 100 25.0 %' in section


def test_what_may_be_decided_without_a_person(tmp_path):
    folder = write_run(tmp_path)
    evaluation = json.loads((folder / 'evaluation.json').read_text())
    rows = [{'coverage': 0.25, 'images': 100, 'correct': 100, 'accuracy': 1.0, 'probability': 0.99},
            {'coverage': 0.5, 'images': 200, 'correct': 199, 'accuracy': 0.995, 'probability': 0.875},
            {'coverage': 1.0, 'images': 400, 'correct': 300, 'accuracy': 0.75, 'probability': 0.5}]
    point = {'name': EVIL, 'probability': 0.125, 'found': 19, 'recall': 0.95, 'mistaken': 76,
             'false_positive_rate': 0.25, 'precision': 0.2}
    for two, split in ((False, 'test'), (True, 'test'), (True, 'val')):
        more = {'roc_auc': 0.9375, 'operating_points': [point]} if two else {}
        (folder / 'evaluation.json').write_text(json.dumps({**evaluation, 'split': split, 'selective': rows, **more}))
        page = report(folder)
        section = page.section('Selective prediction').replace('\u00a0', ' ')
        assert 'all images 75.0 % are right; of the 50 % that the network is surest of, 99.5 %' in section
        assert '50.0 % 0.8750 200 1 99.5 %' in section and '25.0 %' not in section
        assert ('Operating points' in page.text) == two
        if two:
            section = page.section('Operating points').replace('\u00a0', ' ')
            assert f'{EVIL} 0.1250 95.0 % (19) 25.0 % (76) 20.0 %' in section and '93.8 % of all pairs' in section
            assert ('choose yours by those of validation' in section) == (split == 'test')


def test_thumbnails_of_images_that_are_not_files(tmp_path):
    folder = write_run(tmp_path, images=20, accuracy=0.5)
    wrong = 20 - sum(c['correct'] for c in json.loads((folder / 'evaluation.json').read_text())['per_class'])
    page = Page(write_report(folder, read=lambda path: np.zeros((5, 7, 3), 'uint8')))
    assert page.count('img', width='7', height='5') == wrong > 0


def test_where_the_network_looks(tmp_path):
    folder, asked = write_run(tmp_path, classes=('a', EVIL), images=40, accuracy=0.6), []

    def look(path, label):
        asked.append((path, label))
        return None if len(asked) == 2 else Row(path, np.zeros((8, 8, 3), 'uint8'), {'map': np.eye(2)}, 'a', 0.5, label,
                                                shares={'gates': {'head 1': 0.25, 'head 2': 0.75}})

    page = Page(write_report(folder, read=lambda path: None, look=look))
    rows = list(csv.DictReader(open(folder / 'predictions.csv', encoding='utf-8')))
    rows.sort(key=lambda row: -float(row['probability']))
    wrong = [row for row in rows if row['correct'] == '0'][:3]
    right = [next(row for row in rows if row['correct'] == '1' and row['label'] == label) for label in '01']
    right.sort(key=lambda row: -float(row['probability']))
    assert asked == [(row['path'], row['label_name']) for row in wrong + right]
    shown = page.section('Where it looks')
    assert len(re.findall('photograph', shown)) == 4  # one of the five cannot be read
    assert f"{wrong[0]['label_name']} → {wrong[0]['predicted_name']}" in shown and EVIL not in page.source
    assert 'gates' in shown and 'map 2×2, 0 to 1' in shown
    assert 'Where it looks' not in Page(write_report(folder, look=lambda path, label: None)).text
    assert 'Where it looks' not in report(folder).text


def test_perfect_run(tmp_path):
    folder = write_run(tmp_path, accuracy=0.9999999)
    page = report(folder)
    assert 'Every image was given its right class.' in page.text
    assert 'None of 656 images was given a wrong class.' in page.text


@pytest.mark.parametrize('count', (1, 2, 3, 30, 31, 200, 700))
def test_any_number_of_classes_stays_small(tmp_path, images, count):
    folder = write_run(tmp_path / 'run', classes=[f'class {k} with a name of some length' for k in range(count)],
                       paths=images * 100, accuracy=0.7)
    page = report(folder)
    assert len(page.source) < 3_000_000
    assert page.count('img', **{'class': 'heat'}) == (count > 30)
    if count == 700:
        assert 'The 600 lowest of 700 classes' in page.text


def test_most_confused_pairs_and_neighbours(tmp_path):
    folder = write_run(tmp_path, classes=('a', 'b', 'c'))
    edit(folder / 'evaluation.json', lambda e: e.update(confusion=[[6, 4, 0], [0, 9, 1], [0, 0, 0]]))
    page = report(folder)
    assert 'Most confused pairs: 5 of the 5 errors' in page.section('Confusion')
    assert re.search(r'a b 4 40 % b c 1 10 %', page.section('Confusion'))
    # precision 6/6, 9/13 and 0/1; F1 2·6/(10 + 6), 2·9/(10 + 13) and 0
    assert re.search(r'a 10 6 60.0 % 31.3–83.2 % 100.0 % 75.0 % b \(4\) b 10 9 90.0 % .* 69.2 % 78.3 % c \(1\) '
                     r'c 0 0 – no images 0.0 % 0.0 % –', page.section('Classes'))


def test_report_is_deterministic_and_replaces_in_one_step(tmp_path):
    folder = write_run(tmp_path)
    first = open(write_report(folder)).read()
    assert open(write_report(folder, tmp_path / 'other.html')).read() == first
    assert not list(tmp_path.glob('*.tmp'))


@given(st.floats(-1e6, 1e6), st.floats(0, 1e6))
@settings(max_examples=10)
def test_every_value_lies_between_the_ticks(low, span):
    svg = line_chart([Line('', [1, 2], [low, low + span])], summary='s')
    grid = [float(y) for y in re.findall(r'<path d="M 50 ([0-9.]+) L 278 ', svg)]
    points = [float(y) for y in re.search(r'<path d="M 50 ([0-9.]+) L 278 ([0-9.]+)" style="[^"]*--one', svg).groups()]
    assert 1 <= len(grid) - 1 <= 12 and all(min(grid) - 1 <= y <= max(grid) + 1 for y in points)
    assert min(grid) >= 34 - 1 and max(grid) <= 194 + 1  # inside of the axes


def test_heights_that_are_compared_begin_at_zero():
    lines = [Line('images', [1, 2], [60, 45])]
    ticks = {zero: re.findall(r'>(\d+)<', line_chart(lines, summary='s', from_zero=zero)) for zero in (False, True)}
    assert '0' in ticks[True] and '0' not in ticks[False] and '60' in ticks[True]


@pytest.mark.parametrize('value, text', [
    (0, '0'), (0.0, '0'), (1234567, '1,234,567'), (0.33811, '0.3381'), (6e-4, '6e-4'), (1.64e-6, '1.64e-6'),
    (151.25, '151.2'), (10.0, '10'), (-2.5, '-2.5'), (123456.7, '123,457'), (float('nan'), 'not finite')])
def test_numbers(value, text):
    assert plots.number(value) == text


def test_chart_leaves_gaps_and_omits_empty_series():
    lines = [Line('training', [1, 2, 3, 4, 5], [1.0, 2.0, None, float('nan'), 1.0], colour='two'),
             Line('validation', [1, 2], [None, None])]
    svg = line_chart(lines, summary='s')
    line, = re.findall('d="([^"]*)" style="fill: none; stroke: var\\(--two', svg)
    assert line.count('L') == 1  # a stroke from the first to the second; the last point stands alone, as a dot
    assert 'validation' not in svg and 'nan' not in svg
    assert line_chart(lines[1:], summary='s') is None


def test_charts_speak_and_follow_the_theme():
    svg = line_chart([Line('<a> $b$ \x01', [1, 2], [0.1, 0.2])], summary='rises & falls', marked=(2, 'kept'),
                     bands=[Band('F', 0.5, 1.5), Band('E', 1.5, 2.5)])
    assert 'aria-label="rises &amp; falls"' in svg and '<title>phase F</title>' in svg
    assert '<title>&lt;a&gt; $b$ \ufffd, epoch 2: 0.2</title>' in svg and '&lt;a&gt; $b$ \ufffd</text>' in svg
    assert not re.findall('#[0-9a-fA-F]{6}|url|<style|font-family', re.sub('#m[0-9a-f]{10}', '', svg))
    assert set(re.findall(r'var\(--([a-z-]+)\)', svg)) == {'one', 'soft', 'grid', 'ground', 'band'}


def test_every_colour_of_a_chart_is_in_both_themes():
    light, dark = markup.asset('theme.css').split('@media')
    for name in figure._STAND_IN:
        assert f'--{name}:' in light and f'--{name}:' in dark


def test_shares_are_bars_of_their_width():
    bars = plots.share_bars({'head <1>': 0.25, 'b': np.float32(1)}, 'said')
    assert 'width:25.0%' in bars and 'width:100.0%' in bars and 'head &lt;1&gt;' in bars and 'aria-label="said"' in bars
    bar = plots.interval_bar(0.5, 0.25, 0.8)
    assert 'left:25.0%;width:55.0%' in bar and 'left:50.0%' in bar


def test_matplotlib_is_not_imported_before_a_chart_is_drawn():
    words = 'import sys; from gluon_fgvc.pages import charts, line_charts; sys.exit("matplotlib.figure" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', words]).returncode == 0


def test_heat_map_keeps_the_largest_share_below_a_pixel():
    confusion = np.eye(10, dtype=int)
    confusion[0, 9] = 3
    image = plots.confusion_heat_map(confusion, 's', side=5)
    png = np.frombuffer(base64.b64decode(re.search('base64,([^"]+)', image)[1]), 'uint8')
    picture = cv2.imdecode(png, cv2.IMREAD_UNCHANGED)
    assert picture.shape == (5, 5, 4)
    opaque = picture[..., 3] > 0
    expected = np.eye(5, dtype=bool)
    expected[0, 4] = True
    assert (opaque == expected).all()
    assert picture[0, 4, 2] > picture[0, 4, 0] and picture[1, 1, 0] > picture[1, 1, 2]  # orange wrong, blue right


# --- confused pairs, folder, learning rate ---------------------------------------------------

def prediction(path, label, predicted, probability=0.9):
    names = 'abcde'
    return Prediction(str(path), label, names[label], predicted, names[predicted], probability, label == predicted)


def test_pairs_above_chance_by_hand():
    rows = [prediction(f'r{k}', 0, 0) for k in range(10)]
    rows += [prediction(f'x{k}', 0, 1, 0.5 + k / 100) for k in range(5)] + [prediction('y', 0, 2)]
    rows += [prediction(f'e{k}', 3, k % 3) for k in range(6)]   # spread evenly over three of four: 2 of 6 is chance
    pairs = above_chance(rows, 5)
    # six errors of class 0, each in class 1 with 1/4: P(5 or more) = 6 · 3/4^6 + 1/4^6 = 0.0046
    assert list(pairs) == [(0, 1)] and [p.path for p in pairs[0, 1]] == ['x4', 'x3', 'x2', 'x1', 'x0']
    assert above_chance([prediction(f'{k}', 0, 1) for k in range(9)], 2) == {}  # of two there is one other
    assert above_chance([prediction('a', 0, 1)], 5) == {}  # one error is no pair that is confused


def test_confused_pairs_are_shown_with_their_pictures(tmp_path, images):
    folder = write_run(tmp_path / 'run', classes=('owl', 'auk', 'cod', 'eel'), paths=images, accuracy=0.3)
    pairs = above_chance(read_predictions(folder / 'predictions.csv'), 4)
    assert pairs
    section = report(folder).section('Classes that are confused')
    for (label, predicted), wrong in pairs.items():
        names = ('owl', 'auk', 'cod', 'eel')
        assert f'{names[label]} → {names[predicted]} {len(wrong)} of' in section
        assert all(os.path.basename(p.path) in section for p in wrong[:8])


def test_the_head_names_the_folder_of_the_data(tmp_path):
    folder = write_run(tmp_path)
    (folder / 'config.yaml').write_text('data: {name: image_folder, root: my photos/2024}\n')
    assert 'Folder my photos/2024' in report(folder).text


def test_a_constant_learning_rate_needs_no_panel(tmp_path):
    folder = write_run(tmp_path)
    assert 'Learning rate' in re.findall('<h3>(.*?)</h3>', report(folder).source)
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps({**row, 'lr': 0.002}) + '\n' for row in rows))
    page = report(folder)
    assert 'Learning rate' not in re.findall('<h3>(.*?)</h3>', page.source)
    assert 'The learning rate was 0.002 throughout.' in page.section('Training')

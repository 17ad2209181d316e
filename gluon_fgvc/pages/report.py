"""report.html: what a run learned, how sure that is, and where it errs, in one file that needs no network."""
from pathlib import Path

import numpy as np

from gluon_fgvc import run_folder as run_files
from gluon_fgvc.engine.statistics import calibration, wilson
from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import charts as plots
from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.charts import Band, Series, number, percent
from gluon_fgvc.pages.maps import MAPS_STYLE, drawn, reading_aid
from gluon_fgvc.pages.markup import STYLE, page, tag
from gluon_fgvc.run_folder import RunFolder

WORST = 24             # thumbnails of the most confident errors
THUMBNAIL = 224        # their longer side in pixels, twice what is shown, for sharp screens
LOOKS = 3              # most confident errors, and surest right answers, whose maps are shown
PAIRS = 15             # confused pairs in the table
LABELLED_CLASSES = 30  # up to here the confusion matrix has names
TABLE_CLASSES = 600    # more classes than this and only the worst are listed
_PLAIN_DATA_KEYS = frozenset(('name', 'root', 'batch_size', 'workers', 'val_fraction', 'val_seed', 'bad_image'))


def write_report(folder, out=None, *, read=pictures.read, look=None):
    """Write the report of the run folder ``folder`` to ``out`` (default: report.html in it).

    Reads config.yaml, env.json, classes.json, metrics.jsonl, predictions.csv, evaluation.json and, where it
    exists, test_evaluations.jsonl. A section whose file is absent or broken says so. Epochs are counted
    from 1, as in the log.

    :param read: path of predictions.csv → image, (H,W,3) uint8 RGB, or None if it cannot be had; not every
        data set keeps an image a file.
    :param look: path and name of the label → :class:`~gluon_fgvc.pages.maps.Row`, or None; without it
        the report has no section of where the network looks.
    :returns: the path written.
    :raises CheckpointError: if ``folder`` is not a run folder.
    """
    run = run_files.read(folder)
    out = Path(out) if out is not None else RunFolder(run.folder).report
    title = f"{_get(run.config, 'method', 'name')} · {_get(run.config, 'backbone', 'name')}"
    text = page(f"{title} on {_get(run.config, 'data', 'name')}",
                _head(run, title), tag('main', _curves(run), _confusion(run), _groups(run), _per_class(run),
                                       _errors(run, read), _looks(run, look), _calibration(run), _details(run)),
                style=STYLE + MAPS_STYLE + _STYLE, script=_SORT)
    return write_atomically(out, text)


def _get(tree, *keys, default='unknown'):
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return default
        tree = tree[key]
    return tree


def _plain(value):
    return str(value).lower() if isinstance(value, bool) else value


def _section(title, *children):
    return tag('section', tag('h2', title), *children)


def _absent(run, *names):
    return [tag('p', run.missing[name], class_='soft') for name in names if name in run.missing]


# --- head ------------------------------------------------------------------------------------

def _head(run, title):
    data = run.config.get('data') if run.config else None
    options = [f'{key}: {_plain(value)}' for key, value in (data if isinstance(data, dict) else {}).items()
               if key not in _PLAIN_DATA_KEYS and isinstance(value, (str, int)) and value not in ('', None)]
    facts = [('Data', ', '.join([str(_get(run.config, 'data', 'name')), *options])),
             ('Weights', _get(run.config, 'backbone', 'weights')), ('Seed', _get(run.config, 'run', 'seed'))]
    if run.classes:
        facts.insert(1, ('Classes', f'{len(run.classes):,}'))
    if run.epochs:
        seconds = [e['seconds'] for e in run.epochs if isinstance(e.get('seconds'), (int, float))]
        facts.append(('Training', f'{len(run.epochs):,} epochs' + (f', {_duration(sum(seconds))}' if seconds else '')))
    return tag('header', tag('h1', title),
               tag('dl', [tag('div', tag('dt', name), tag('dd', value)) for name, value in facts], class_='facts'),
               _headline(run.evaluation) if run.evaluation else _absent(run, RunFolder.evaluation),
               _protocol(run))


def _duration(seconds):
    seconds = round(seconds)
    if seconds < 120:
        return f'{seconds} s'
    return f'{seconds // 60} min' if seconds < 7200 else f'{seconds // 3600} h {seconds % 3600 // 60} min'


def _headline(evaluation):
    images = evaluation['images']
    tiles = []
    for key, name in (('top1', 'Top-1 accuracy'), ('top3', 'Top-3 accuracy'), ('top5', 'Top-5 accuracy')):
        if key in evaluation:
            low, high = wilson(evaluation[key] * images, images)
            tiles.append(_tile(name, percent(evaluation[key]), f'95 % interval {_range(low, high)}'))
    if 'mean_class_accuracy' in evaluation:
        mean = percent(evaluation['mean_class_accuracy'])
        tiles.append(_tile('Mean class accuracy', mean, 'every class counts alike'))
    skipped = evaluation.get('skipped', 0)
    tiles.append(_tile(f'{str(evaluation.get("split", "")).capitalize()} images', f'{images:,}',
                       f'{skipped:,} unreadable, not counted' if skipped else 'none skipped'))
    return tag('div', tiles, class_='tiles')


def _tile(name, value, below):
    return tag('div', tag('div', name, class_='soft'), tag('div', value, class_='value'),
               tag('div', below, class_='soft'), class_='tile')


def _range(low, high):
    return f'{100 * low:.1f}–{percent(high)}'


SPLITS = {'val': 'validation', 'train': 'training'}


def _protocol(run):
    """Say in words which split chose the epoch, and how often the test split was looked at."""
    chosen = run_files.choice(run)
    if not run.evaluation:
        if chosen.split is None:
            return None
        return tag('p', tag('strong', f'Epoch {chosen.epoch + 1} is the best so far by validation '
                                      f'{_metric(chosen.metric)}{_value(chosen)}.'),
                   ' The test split was not evaluated.', class_='protocol')
    evaluated = run.evaluation.get('split', 'test')
    split, epoch = chosen.split, 'unknown' if chosen.epoch is None else chosen.epoch + 1
    if split is None:
        choice = f'No split chose the epoch: the last one, epoch {epoch}, was kept.'
    else:
        choice = f'Epoch {epoch} was chosen by {SPLITS.get(split, split)} {_metric(chosen.metric)}{_value(chosen)}.'
    tests = run.test_evaluations
    warn = False
    if evaluated != 'test':
        meaning = (f'The figures above are of the {SPLITS.get(evaluated, evaluated)} split'
                   + (', the one that chose: they are optimistic.' if evaluated == split else '.'))
        warn = evaluated == split
        if not tests:
            meaning += ' The test split was not evaluated.'
    elif split == 'test':
        meaning = 'The test split itself made the choice, so its figures are optimistic.'
        warn = True
    else:
        meaning = 'The test split had no part in that choice.'
    if tests:
        dates = [str(e['evaluated_at'])[:16].replace('T', ' ') for e in tests if e.get('evaluated_at')]
        often = 'once' if len(tests) == 1 else f'{len(tests)} times'
        meaning += f" It was evaluated {often}{' (' + ', '.join(dates) + ')' if dates else ''}."
        if len(tests) > 1:
            meaning += ' Whatever was changed between those was changed with the test split in view.'
    return tag('p', tag('strong', choice), ' ', meaning, class_='protocol warn' if warn else 'protocol')


def _value(chosen):
    return f" ({percent(chosen.value) if chosen.metric.startswith('top') else number(chosen.value)})"


def _metric(name):
    return {'top1': 'top-1', 'top3': 'top-3', 'top5': 'top-5'}.get(name, name)


# --- curves ----------------------------------------------------------------------------------

def _curves(run):
    if not run.epochs:
        reason = _absent(run, RunFolder.metrics) or tag('p', 'No epoch has been finished yet.', class_='soft')
        return _section('Training', reason)
    chosen, marked = run_files.choice(run), None
    if chosen.epoch is not None:
        verb = 'kept' if not chosen.split else 'chosen' if run.evaluation else 'best'
        marked = chosen.epoch + 1, f'{verb}: {chosen.epoch + 1}'
    bands = _phases(run.epochs)
    x = [e['epoch'] + 1 for e in run.epochs]

    def pair(key):
        return [Series('training', x, [e.get(f'train_{key}') for e in run.epochs], 'two'),
                Series('validation', x, [e.get(f'val_{key}') for e in run.epochs], 'one')]

    charts = [('Loss', pair('loss'), number, None), ('Top-1 accuracy', pair('top1'), _percent0, (0, 1)),
              ('Learning rate', [Series('', x, [e.get('lr') for e in run.epochs], 'one')], number, (0, float('inf')))]
    figures = []
    for name, series, form, limits in charts:
        drawn = plots.line_chart(series, summary=_spoken(name, series, form), form=form, bands=bands, marked=marked,
                                 limits=limits)
        if drawn:
            figures.append(tag('figure', tag('h3', name), drawn))
    note = 'Training figures are means over an epoch while the network was still changing, on augmented images; ' \
           'validation figures are taken at its end.'
    if not any(e.get('val_top1') is not None for e in run.epochs):
        note = 'There was no validation split. ' + note.split(';')[0] + '.'
    return _section('Training', tag('p', note, class_='soft'), tag('div', figures, class_='charts'),
                    _epoch_table(run.epochs))


def _percent0(share):
    return f'{100 * share:.0f}\u00a0%' if abs(100 * share - round(100 * share)) < 1e-6 else percent(share)


def _spoken(name, series, form):
    ends = [f'{s.name} {form(points[0][1])} to {form(points[-1][1])}'.strip()
            for s, points in ((s, plots.finite(s)) for s in series) if points]
    return f'{name} by epoch: ' + '; '.join(ends)


def _phases(epochs):
    """Return the ranges of epochs of each phase, or nothing where there is but one."""
    bands = []
    for e in epochs:
        name = str(e.get('phase', ''))
        if bands and bands[-1].name == name:
            bands[-1] = bands[-1]._replace(end=e['epoch'] + 1.5)
        else:
            bands.append(Band(name, e['epoch'] + 0.5, e['epoch'] + 1.5))
    return bands if len(bands) > 1 else []


def _epoch_table(epochs):
    columns = [('epoch', 'Epoch', lambda epoch: f'{epoch + 1:,}'), ('phase', 'Phase', str),
               ('lr', 'Learning rate', number), ('train_loss', 'Training loss', number),
               ('train_top1', 'Training top-1', percent), ('val_loss', 'Validation loss', number),
               ('val_top1', 'Validation top-1', percent), ('val_top3', 'top-3', percent),
               ('val_top5', 'top-5', percent), ('seconds', 'Seconds', number)]
    columns = [c for c in columns if any(e.get(c[0]) is not None for e in epochs)]
    rows = [tag('tr', [tag('td', form(e[key]) if e.get(key) is not None else '–',
                           class_=None if key == 'phase' else 'number') for key, _, form in columns]) for e in epochs]
    head = tag('tr', [tag('th', name, scope='col', class_=None if key == 'phase' else 'number')
                      for key, name, _ in columns])
    return tag('details', tag('summary', 'The numbers of each epoch'),
               tag('div', tag('table', tag('thead', head), tag('tbody', rows)), class_='scroll', tabindex=0,
                   role='region', aria_label='Numbers of each epoch'))


# --- classes ---------------------------------------------------------------------------------

def _matrix(run):
    """Return (class names, confusion matrix as an array) of the evaluation, or None."""
    try:
        confusion = np.asarray(run.evaluation['confusion'], dtype='int64')
    except (TypeError, KeyError, ValueError):
        return None
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or not len(confusion):
        return None
    names = [str(c.get('name', k)) for k, c in enumerate(run.evaluation.get('per_class') or ())]
    if len(names) != len(confusion):
        names = run.classes or []
    if len(names) != len(confusion):
        names = [str(k) for k in range(len(confusion))]
    return names, confusion


def _no_matrix(run):
    return _absent(run, RunFolder.evaluation) or tag('p', 'evaluation.json holds no confusion matrix.', class_='soft')


def _confusion(run):
    matrix = _matrix(run)
    if matrix is None:
        return _section('Confusion', _no_matrix(run))
    names, confusion = matrix
    wrong = confusion * (1 - np.eye(len(names), dtype='int64'))
    errors = int(wrong.sum())
    order = np.argsort(-wrong, axis=None, kind='stable')[:PAIRS]
    pairs = [(int(i) // len(names), int(i) % len(names)) for i in order if wrong.flat[i]]
    images = int(confusion.sum())
    summary = f'Confusion matrix of {len(names):,} classes: {errors:,} of {images:,} images off the diagonal'
    if len(names) <= LABELLED_CLASSES:
        picture, reading = plots.confusion_cells(confusion, names, summary), ''
    else:
        picture = plots.confusion_heat_map(confusion, summary)
        reading = 'Classes are in the order of the class list, labels downwards, predictions to the right. '
    figure = tag('figure', tag('div', picture, class_='matrix', tabindex=0, role='region',
                               aria_label='Confusion matrix'), tag(
        'figcaption', reading + 'Shade: share of the label’s images. Blue is right, orange is wrong.'))
    table = _pair_table(pairs, names, confusion, errors) if len(names) > 2 and pairs else None
    return _section('Confusion', tag('p', f'{errors:,} of {images:,} images were given a wrong class.'
                                     if errors else 'Every image was given its right class.', class_='soft'),
                    tag('div', figure, table, class_='side-by-side' if table else None))


def _pair_table(pairs, names, confusion, errors):
    rows = [tag('tr', tag('th', names[label], class_='name', scope='row'), tag('td', names[predicted], class_='name'),
                tag('td', f'{int(confusion[label, predicted]):,}', class_='number'),
                tag('td', percent(confusion[label, predicted] / confusion[label].sum(), 0), class_='number'))
            for label, predicted in pairs]
    head = [tag('th', 'Label', scope='col'), tag('th', 'Predicted as', scope='col'),
            tag('th', 'Images', scope='col', class_='number'), tag('th', 'Of label', scope='col', class_='number')]
    shown = sum(int(confusion[pair]) for pair in pairs)
    return tag('table', tag('caption', f'Most confused pairs: {shown:,} of the {errors:,} errors'),
               tag('thead', tag('tr', head)), tag('tbody', rows))


def _per_class(run):
    matrix = _matrix(run)
    if matrix is None:
        return _section('Classes', _no_matrix(run))
    names, confusion = matrix
    images, correct = confusion.sum(axis=1), np.diag(confusion)
    order = np.argsort(correct / np.maximum(images, 1) + (images == 0), kind='stable')
    rows = [_class_row(names, confusion[k], k) for k in order[:TABLE_CLASSES]]
    note = 'Lowest accuracy first; a heading sorts by its column. The bar is the 95 % Wilson interval.'
    if len(names) > TABLE_CLASSES:
        note = f'The {TABLE_CLASSES:,} lowest of {len(names):,} classes; evaluation.json has all. ' + note
    head = [_sortable('Class', False), *_accuracy_heads(), _sortable('Most confused with', False)]
    return _section('Classes', tag('p', note, class_='soft'), _sorted_table(head, rows, 'Accuracy of each class'))


def _groups(run):
    groups = (run.evaluation or {}).get('per_group')
    if not groups:
        return None
    rows = [tag('tr', tag('th', group['name'], class_='name', scope='row'), _number(group['classes']),
                _accuracy(group['images'], group['correct'])) for group in groups]
    head = [_sortable('Super-category', False), _sortable('Classes', True), *_accuracy_heads()]
    return _section('Super-categories', tag('p', 'Top-1 accuracy over the images of all classes of a super-category.',
                                            class_='soft'),
                    _sorted_table(head, rows, 'Accuracy of each super-category'))


def _accuracy_heads():
    return [*(_sortable(name, True) for name in ('Images', 'Right', 'Accuracy')),
            tag('th', '95 % interval', scope='col')]


def _sorted_table(head, rows, label):
    return tag('div', tag('table', tag('thead', tag('tr', head)), tag('tbody', rows), class_='sortable'),
               class_='scroll', tabindex=0, role='region', aria_label=label)


def _sortable(name, numeric):
    return tag('th', tag('button', name, type='button'), scope='col', class_='number' if numeric else None)


def _class_row(names, row, k):
    wrong = row.copy()
    wrong[k] = 0
    most = int(wrong.argmax())
    confused = [tag('span', names[most], class_='name'), f' ({int(wrong[most]):,})'] if wrong[most] else '–'
    return tag('tr', tag('th', names[k], class_='name', scope='row'), _accuracy(int(row.sum()), int(row[k])),
               tag('td', confused))


def _accuracy(images, correct):
    """Return the cells under Images, Right, Accuracy and 95 % interval."""
    if not images:
        share = [tag('td', '–', class_='number', data_value=-1), tag('td', 'no images')]
    else:
        low, high = wilson(correct, images)
        share = [tag('td', percent(correct / images), class_='number', data_value=f'{correct / images:.6f}'),
                 tag('td', tag('div', plots.interval_bar(correct / images, low, high), _range(low, high),
                               class_='interval'))]
    return [_number(images), _number(correct), *share]


def _number(value):
    return tag('td', f'{value:,}', class_='number', data_value=value)


# --- images ----------------------------------------------------------------------------------

def _errors(run, read):
    title = 'Most confident errors'
    if run.predictions is None:
        return _section(title, _absent(run, RunFolder.predictions))
    wrong = [p for p in run.predictions if not p.correct]
    if not wrong:
        none = f'None of {len(run.predictions):,} images was given a wrong class.'
        return _section(title, tag('p', none, class_='soft'))
    wrong.sort(key=lambda p: (-p.probability, p.path))
    figures = [tag('figure', _thumbnail(p, read(p.path)), tag(
        'figcaption', tag('div', tag('span', p.label_name, class_='name'), ' → ',
                          tag('strong', p.predicted_name, class_='name'), class_='verdict'),
        tag('div', percent(p.probability, 0), ' ', tag('span', Path(p.path).name, class_='name', title=p.path))))
        for p in wrong[:WORST]]
    which = f'the {WORST}' if len(wrong) > WORST else 'all'
    note = (f'Label → prediction with its probability; {which} of {len(wrong):,} errors that the network was '
            'surest of. Look here for wrong labels first.')
    return _section(title, tag('p', note, class_='soft'), tag('div', figures, class_='thumbnails'))


def _thumbnail(prediction, image):
    if image is None:
        return tag('div', 'image cannot be read', class_='placeholder', role='img',
                   aria_label=f'{prediction.path}: image cannot be read')
    image = pictures.fit(image, min(THUMBNAIL, max(image.shape[:2])))
    return tag('img', src=pictures.jpeg_uri(image, 82), width=image.shape[1], height=image.shape[0], loading='lazy',
               alt=f'{Path(prediction.path).name}: {prediction.label_name}, taken for {prediction.predicted_name}')


def _looks(run, look):
    if look is None or not run.predictions:
        return None
    surest = sorted(run.predictions, key=lambda p: (-p.probability, p.path))
    right, classes = [], set()
    for prediction in (p for p in surest if p.correct and len(right) < LOOKS):
        if prediction.label not in classes:
            right.append(prediction)
            classes.add(prediction.label)
    chosen = [p for p in surest if not p.correct][:LOOKS] + right
    rows = [(p, row) for p, row in ((p, look(p.path, p.label_name)) for p in chosen) if row is not None]
    if not rows:
        return None
    narrow = all(len(row.maps) < 2 and not row.grids and not row.regions for _, row in rows)
    note = ('The most confident errors, then the most confident right answers, one of a class each. tools/visualize.py '
            'shows other images.')
    return _section('Where it looks', tag('p', note, class_='soft'), reading_aid(),
                    tag('div', [_example(*pair) for pair in rows], class_='examples' if narrow else None))


def _example(prediction, row):
    verdict = tag('strong', prediction.predicted_name, class_='name')
    if not prediction.correct:
        verdict = [tag('span', prediction.label_name, class_='name'), ' → ', verdict]
    return tag('article', tag('h3', verdict, f' {percent(prediction.probability, 0)}'),
               tag('p', tag('span', Path(prediction.path).name, class_='name', title=prediction.path), class_='soft'),
               drawn(row))


# --- the rest --------------------------------------------------------------------------------

def _calibration(run):
    if not run.predictions:
        return _section('Calibration', _absent(run, RunFolder.predictions)
                        or tag('p', 'predictions.csv holds no labelled image.', class_='soft'))
    bins, error = calibration([p.probability for p in run.predictions], [p.correct for p in run.predictions])
    accuracy = sum(p.correct for p in run.predictions) / len(run.predictions)
    confidence = float(np.mean([p.probability for p in run.predictions]))
    low, high = wilson(accuracy * len(run.predictions), len(run.predictions))
    tendency = 'over-confident' if confidence > high else 'under-confident' if confidence < low else \
        'about as sure as it is right'
    text = (f'The network is {tendency}: its mean confidence is {percent(confidence)}, its accuracy '
            f'{percent(accuracy)}. Expected calibration error over ten bins: {percent(error)}.')
    figure = tag('figure', plots.reliability(bins, text), tag(
        'figcaption', 'Share of right predictions by confidence, with 95 % intervals; grey: how many images.'))
    return _section('Calibration', tag('p', text, class_='soft'), tag('div', figure, class_='charts'))


def _details(run):
    parts = []
    if run.config_text is not None:
        parts.append(tag('details', tag('summary', 'Configuration'), tag('pre', tag('code', run.config_text))))
    if run.env is not None:
        rows = [tag('tr', tag('th', key, scope='row'), tag('td', value, class_='name'))
                for key, value in _flatten(run.env)]
        parts.append(tag('details', tag('summary', 'Environment'), tag('table', tag('tbody', rows))))
    return _section('Configuration and environment', parts, _absent(run, RunFolder.config, RunFolder.environment),
                    tag('p', 'Run folder: ', tag('code', run.folder.name), class_='soft'))


def _flatten(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', ', '.join(map(str, value)) if isinstance(value, list) else value


_STYLE = """
.facts { display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; margin: 0 0 1.6rem; font-size: .9rem; }
.facts div { display: flex; gap: .4rem; min-width: 0; } .facts dt { color: var(--soft); }
.facts dd { margin: 0; overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(142px, 1fr)); gap: 1rem 1.5rem;
  margin: 0 0 1.2rem; }
.tile { border-top: 2px solid var(--ink); padding-top: .5rem; break-inside: avoid; }
.tile .value { font-size: 1.9rem; line-height: 1.25; font-weight: 600; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.protocol { border-left: 3px solid var(--one); padding: .1rem 0 .1rem .9rem; }
.protocol.warn { border-color: var(--two); background: var(--warn); }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(320px, 100%), 1fr)); gap: 1.5rem 1rem; }
.charts figure { max-width: 420px; } .charts svg { width: 100%; }
.side-by-side { display: flex; flex-wrap: wrap; gap: 1.5rem 3rem; align-items: flex-start; }
.side-by-side > figure { flex: 0 1 auto; min-width: 0; } .side-by-side > table { flex: 1 1 400px; }
.matrix { overflow-x: auto; } .matrix svg { max-width: none; } .matrix + figcaption { max-width: 480px; }
figcaption { margin-top: .4rem; }
article { margin-top: 1.2rem; } article p { margin: 0 0 .4rem; }
.examples { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(440px, 100%), 1fr)); gap: 0 2rem; }
.heat { display: block; width: min(100%, 480px); height: auto; image-rendering: pixelated;
  border: 1px solid var(--line); }
.scroll { overflow: auto; max-height: 36rem; border-bottom: 1px solid var(--line); }
.scroll table { width: 100%; } .sortable td:last-child { min-width: 9rem; }
 .scroll thead th { position: sticky; top: 0; background: var(--ground); z-index: 1; }
th button { all: unset; cursor: pointer; } th button:hover, th button:focus-visible { color: var(--one); }
th button:focus-visible { outline: 2px solid var(--one); }
th[aria-sort=ascending] button::after { content: ' ↑'; } th[aria-sort=descending] button::after { content: ' ↓'; }
.interval { display: flex; align-items: center; gap: .8rem; color: var(--soft); white-space: nowrap;
  font-variant-numeric: tabular-nums; } .interval svg { flex: none; }
.thumbnails { display: grid; grid-template-columns: repeat(auto-fill, minmax(132px, 1fr)); gap: 1.2rem 1rem; }
.thumbnails img, .placeholder { width: 100%; height: 132px; object-fit: contain; background: var(--card);
  border-radius: 4px; display: block; }
.placeholder { display: grid; place-items: center; text-align: center; color: var(--soft); font-size: .8rem;
  border: 1px dashed var(--line); }
.thumbnails figcaption { font-size: .8rem; line-height: 1.35; } .verdict { color: var(--ink); }
@media (max-width: 500px) { table { font-size: .82rem; } th, td { padding-right: .5rem; }
  table .name { min-width: 5.5rem; } .charts { justify-items: center; } }
@media print { .scroll, .matrix { max-height: none; overflow: visible; } .scroll thead th { position: static; } }
"""

_SORT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector('button')?.addEventListener('click', () => {
    const up = head.getAttribute('aria-sort') !== 'ascending';
    heads.forEach(other => other.removeAttribute('aria-sort'));
    head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
    const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const body = table.tBodies[0];
    [...body.rows].sort((a, b) => (up ? 1 : -1) * key(a).localeCompare(key(b), undefined, {numeric: true}))
      .forEach(row => body.append(row));
  }));
}
"""

"""The head of the report: what was trained, how well it does, and which split chose it."""
from gluon_fgvc import run_folder as run_files
from gluon_fgvc.engine.statistics import wilson
from gluon_fgvc.pages.charts import number, percent
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, interval, value_at
from gluon_fgvc.run_folder import RunFolder

SPLITS = {'val': 'validation', 'train': 'training'}
_PLAIN_DATA_KEYS = frozenset(('name', 'root', 'batch_size', 'workers', 'worker_type', 'timeout', 'cache',
                              'val_fraction', 'val_seed', 'bad_image'))


def title_of(run):
    """Return what was trained, e.g. ``finetune · resnet18_v2``."""
    return f"{value_at(run.config, 'method', 'name')} · {value_at(run.config, 'backbone', 'name')}"


def header(run):
    """Return the header of the report."""
    data = run.config.get('data') if run.config else None
    options = [f'{key}: {_plain(value)}' for key, value in (data if isinstance(data, dict) else {}).items()
               if key not in _PLAIN_DATA_KEYS and isinstance(value, (str, int)) and value != ''
               and (key, value) != ('folds', 0)]
    facts = [('Data', ', '.join([str(value_at(run.config, 'data', 'name')), *options])),
             ('Weights', value_at(run.config, 'backbone', 'weights')), ('Seed', value_at(run.config, 'run', 'seed'))]
    if isinstance(data, dict) and data.get('root'):
        facts.insert(1, ('Folder', data['root']))
    if run.classes:
        facts.insert(1, ('Classes', f'{len(run.classes):,}'))
    if run.epochs:
        seconds = [e['seconds'] for e in run.epochs if isinstance(e.get('seconds'), (int, float))]
        facts.append(('Training', f'{len(run.epochs):,} epochs' + (f', {_duration(sum(seconds))}' if seconds else '')))
    return tag('header', tag('h1', title_of(run)),
               tag('dl', [tag('div', tag('dt', name), tag('dd', value)) for name, value in facts], class_='facts'),
               _headline(run.evaluation) if run.evaluation else absent(run, RunFolder.evaluation),
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
            tiles.append(_tile(name, percent(evaluation[key]), f'95 % interval {interval(low, high)}'))
    if 'mean_class_accuracy' in evaluation:
        mean = percent(evaluation['mean_class_accuracy'])
        tiles.append(_tile('Mean class accuracy', mean, 'every class counts alike'))
    if 'macro_f1' in evaluation:
        tiles.append(_tile('Macro F1', percent(evaluation['macro_f1']),
                           f"mean precision {percent(evaluation['macro_precision'])}"))
    skipped = evaluation.get('skipped', 0)
    tiles.append(_tile(f'{str(evaluation.get("split", "")).capitalize()} images', f'{images:,}',
                       f'{skipped:,} unreadable, not counted' if skipped else 'none skipped'))
    return tag('div', tiles, class_='tiles')


def _tile(name, value, below):
    return tag('div', tag('div', name, class_='soft'), tag('div', value, class_='value'),
               tag('div', below, class_='soft'), class_='tile')


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
    return f" ({number(chosen.value) if chosen.metric in ('loss', 'nll') else percent(chosen.value)})"


def _metric(name):
    return {'top1': 'top-1', 'top3': 'top-3', 'top5': 'top-5', 'nll': 'loss', 'mean_class': 'mean class accuracy',
            'macro_f1': 'macro F1'}.get(name, name)


def _plain(value):
    return str(value).lower() if isinstance(value, bool) else value

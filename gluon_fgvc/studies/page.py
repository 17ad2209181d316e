"""The page of the results of all studies of a folder, made from their files of results."""
from pathlib import Path

from gluon_fgvc.engine.statistics import wilson
from gluon_fgvc.studies.charts import file_names, pictures
from gluon_fgvc.studies.comparison import SPLITS, compared, namer, split_of
from gluon_fgvc.studies.results import in_brackets, load


def render(results):
    """Return the page as text, made from all ``*.json`` in the folder ``results`` and nothing else."""
    parts = [_INTRODUCTION]
    studies = [load(path) for path in sorted(Path(results).glob('*.json'))]
    parts += [_study(tree) for tree in studies] or ['No study has been run yet.\n']
    return '\n'.join(parts)


_INTRODUCTION = """\
# Results

Written by `fgvc study --render --results D` from `D/*.json`, where D is the path of this page without `.md`; edit
neither by hand.

Accuracies are in percent: mean ± sample standard deviation (n − 1) over runs that differ in seed or fold. Test figures
are of one view of each image. Validation figures are those of the chosen epoch, on the images that chose it, and
therefore optimistic. Intervals of single runs are Wilson's of 95 %: what other images of the kind could have given;
those of differences are of other seeds. In the pictures of differences a row is filled where its interval leaves out 0,
and a tick is one pair of runs. Every evaluation of a test split is listed. The JSON files hold the complete
configurations.
"""


def _study(tree):
    name, drawn = namer(tree), pictures(tree)
    parts = [f"## {tree['name']}\n", _summary_table(tree), *_comparison(tree, drawn), '### Runs\n', _run_table(tree)]
    if 'curves' in drawn:
        parts.insert(2, f"![Validation error after each epoch](results/{file_names(tree)['curves']})\n")
    evaluations = [[name(e), e['seed'], _or_dash(e['fold']), _when(e['evaluated_at']), _or_dash(e['checkpoint']),
                    _percent(e['top1'])] for e in tree['evaluations']]
    parts.append(f'### Evaluations of the test split: {len(evaluations)}\n')
    if evaluations:
        parts.append(_table(('Config', 'Seed', 'Fold', 'When', 'Checkpoint', 'Top-1'), evaluations))
    parts.append('### To repeat\n')
    parts.append('```sh\n' + '\n'.join(tree['commands']) + '\n```\n')
    parts += [f"- `{c['config']}`{in_brackets(c)}, SHA-256 of its values `{c['sha256']}`"
              + (f", with `{' '.join(c['overrides'])}`" if c['overrides'] else '')
              + (f", {' and '.join(c['seeded'])} as the seed" if c.get('seeded') else '') for c in tree['configs']]
    parts += [f'- Machine: {machine}' for machine in _machines(tree)]
    return '\n'.join(parts) + '\n'


def _summary_table(tree):
    named, rows, metrics = namer(tree), [], ['top1', 'top3', 'top5', 'mean_class_accuracy']
    covered = sorted({f"{100 * r['test']['boxes_cover']:.1f}" for entry in tree['configs'] for r in entry['runs']
                      if r['test'] and 'boxes_cover' in r['test']})
    heads = {'macro_f1': 'Macro F1', 'ece': 'ECE', 'calibrated_ece': 'Calibrated'}
    more = {metric: head for metric, head in heads.items()
            if any(metric in entry['summary']['test'] for entry in tree['configs'])}
    metrics += [*more, *(['pointing_game'] if covered else [])]
    for entry in tree['configs']:
        for split, name in (('test', 'test'), ('val', 'validation')):
            summary = entry['summary'][split]
            if summary:
                images = sorted({r['test']['images'] for r in entry['runs'] if r['test']}) if split == 'test' else []
                rows.append([named(entry), name, ', '.join(f'{n:,}' for n in images) or '–', summary['top1']['runs'],
                             *(_spread(summary.get(metric)) for metric in metrics), _loss(summary.get('loss')),
                             _minutes([r['seconds'] for r in entry['runs']])])
    table = _table(('Config', 'Split', 'Images', 'Runs', 'Top-1', 'Top-3', 'Top-5', 'Mean class',
                    *more.values(), *(['In boxes'] if covered else []), 'Cross-entropy', 'Minutes a run'), rows)
    if not covered:
        return table
    return (f'{table}\nIn boxes: the mean share, in percent, of the activation of the true class that lies in the '
            f"boxes of the data set, which cover {', '.join(covered)} % of the images.\n")


def _comparison(tree, drawn):
    """Return the paragraphs that compare the others with the first configuration, or nothing where it is alone."""
    comparisons = compared(tree)
    if not comparisons:
        return []
    first, split, named = tree['configs'][0], split_of(tree), namer(tree)
    rows = [[named(first), *'––––', *_cost_cells(first, first, split, 0)]]
    rows += [[named(entry), result.runs, _signed(result.mean, result.sd), *_sureness(result),
              *_cost_cells(first, entry, split, result.mean)] for entry, _, result in comparisons]
    name = SPLITS[split]
    tests = sorted({result.test for _, _, result in comparisons})
    note = (f'Differences of {name} top-1 to {named(first)}, in points, between runs of the same seed and fold. '
            f"Interval and p: {' and '.join(tests)}. "
            'Parameters are in millions, multiply-adds (of one image) in billions.\n')
    head = ('Config', 'Runs', 'Difference', '95 % interval', 'p', 'Parameters',
            'Points a million more', 'Multiply-adds', 'Top-1 a billion')
    parts = ['### Compared\n', note, _table(head, rows)]
    if 'differences' in drawn:
        picture = file_names(tree)['differences']
        parts.insert(1, f'![Differences of {name} top-1 to {named(first)}](results/{picture})\n')
    return parts


def _sureness(result):
    """Return the interval, in points, and the p-value of a difference as cells."""
    if result.p is None:
        return ['–', '–']
    return [f'{100 * result.low:+.2f} to {100 * result.high:+.2f}',
            f'{result.p:.3f}' if result.p >= 0.001 else '< 0.001']


def _cost_of(entry):
    return next((run['cost'] for run in entry['runs'] if run.get('cost')), None)


def _cost_cells(first, entry, split, gain):
    """Return parameters, gain for each million more of them, multiply-adds, and accuracy for each billion."""
    before, cost = _cost_of(first), _cost_of(entry)
    if not cost:
        return ['–'] * 4
    added = (cost['parameters'] - before['parameters']) / 1e6 if before else 0
    work = cost.get('multiply_adds', 0) / 1e9
    return [f"{cost['parameters'] / 1e6:.2f}", f'{100 * gain / added:+.2f}' if added > 0 else '–',
            f'{work:.3f}' if work else '–',
            f"{100 * entry['summary'][split]['top1']['mean'] / work:.0f}" if work else '–']


def _signed(mean, sd):
    return f'{100 * mean:+.2f}' + ('' if sd is None else f' ± {100 * sd:.2f}')


def _run_table(tree):
    name, rows = namer(tree), []
    for entry in tree['configs']:
        for run in entry['runs']:
            chosen = run['chosen_by']
            by = f"{chosen['split']} {chosen['metric']}".replace('top', 'top-') if chosen['split'] else 'being last'
            epoch = '–' if chosen['epoch'] is None else f"{chosen['epoch'] + 1} of {run['epochs']}"
            rows.append([name(entry), run['seed'], _or_dash(run['fold']), epoch, by,
                         _percent((run['val'] or {}).get('top1')), *_tested_cells(run['test'] or {}),
                         _minutes([run['seconds']])])
    return _table(('Config', 'Seed', 'Fold', 'Epoch', 'Chosen by', 'Validation top-1', 'Test top-1', 'Interval',
                   'Cross-entropy', 'Minutes'), rows)


def _tested_cells(test):
    """Return top-1, its Wilson interval, which is that of other images of the kind, and the cross-entropy."""
    top1, loss = test.get('top1'), test.get('loss')
    ends = () if top1 is None else wilson(top1 * test['images'], test['images'])
    return _percent(top1), ' – '.join(map(_percent, ends)) or '–', '–' if loss is None else f'{loss:.3f}'


def _table(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in line) + ' |' for line in lines) + '\n'


def _or_dash(value):
    return '–' if value is None else value


def _when(stamp):
    return '–' if stamp is None else stamp[:19].replace('T', ' ')


def _percent(share):
    return '–' if share is None else f'{100 * share:.2f}'


def _spread(summary):
    if not summary:
        return '–'
    sd = '' if summary['sd'] is None else f" ± {100 * summary['sd']:.2f}"
    return f"{100 * summary['mean']:.2f}{sd}"


def _loss(summary):
    if not summary:
        return '–'
    return f"{summary['mean']:.3f}" + ('' if summary['sd'] is None else f" ± {summary['sd']:.3f}")


def _minutes(seconds):
    return f'{sum(seconds) / len(seconds) / 60:.1f}'


def _machines(tree):
    """Each distinct machine once, in words."""
    found = []
    for entry in tree['configs']:
        for run in entry['runs']:
            words = _words(run['machine']) if run['machine'] else 'not recorded'
            if words not in found:
                found.append(words)
    return found


def _words(machine):
    names = {'cpu': '', 'omp_num_threads': 'OMP_NUM_THREADS='}
    return ', '.join(f"{names.get(key, key + ' ')}{value}" for key, value in machine.items() if value)

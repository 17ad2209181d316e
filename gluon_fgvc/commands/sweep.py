"""Evaluate trained runs again while one option of the data varies, e.g. how much clutter there is; draw a chart.

Nothing is trained, and nothing in the run folders changes. Of several runs of one label the mean is given.
"""
import datetime
import glob
import json
import shlex
import sys
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import write_atomically


def main(argv=None):
    parser = cli.Parser('fgvc sweep', __doc__, "--key data.distractors --values 4 8 16 32 64 --out clutter "
                                               "'WARN=work_dirs/study/cluttered_mnist/warn/seed*'")
    parser.add_argument('runs', metavar='LABEL=GLOB', nargs='+', help='run folders of one kind, quoted')
    parser.add_argument('--key', required=True, help='option that varies, e.g. data.distractors')
    parser.add_argument('--values', required=True, nargs='+', metavar='V', help='its values')
    parser.add_argument('--split', default='test', choices=('test', 'val'), help='default: %(default)s')
    parser.add_argument('--out', required=True, metavar='PATH', type=Path, help='writes PATH.json and PATH.svg')
    parser.add_argument('--overwrite', action='store_true', help='replace these two')
    argv = sys.argv[1:] if argv is None else list(argv)
    args = parser.parse_args(argv)
    figures, chart = (args.out.with_name(args.out.name + ending) for ending in ('.json', '.svg'))
    cli.check_new(args.overwrite, figures, chart)
    if not args.key.startswith('data.'):
        raise ConfigError(f"--key '{args.key}' is not an option of the data, data.…")
    from gluon_fgvc import config, runs
    from gluon_fgvc.pages.line_charts import write_lines
    values = [config.plain(config.parse_overrides([f'{args.key}={value}'])[0][1]) for value in args.values]
    results = []
    for label, folders in map(folders_of, args.runs):
        for folder in folders:
            opened = runs.open_run(folder)
            for value in values:  # all are told before one is evaluated
                runs.changed(opened.cfg, [(args.key, value)])
            for value in values:
                summary = runs.evaluate_altered(opened, args.split, [(args.key, value)])
                results.append({'label': label, 'run': folder, 'value': value,
                                **{key: summary[key] for key in ('top1', 'loss', 'images', 'evaluated_at')}})
                print(f"{label} {folder} {args.key}={value}: top-1 {summary['top1']:.4f}", flush=True)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(figures, json.dumps({
        'key': args.key, 'split': args.split, 'command': shlex.join(['fgvc', 'sweep', *argv]),
        'machine': runs.environment(), 'results': results,
        'finished_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds')}, indent=1) + '\n')
    lines = [line_of(label, values, results) for label in dict.fromkeys(row['label'] for row in results)]
    print('\n'.join(table(args.key, lines)))
    option = args.key.split('.')[-1]
    numeric = all(isinstance(value, (int, float)) and value > 0 for value in values)
    write_lines(chart, lines, option, f'{args.split} error, %', numeric, log_y=True)
    print(f'chart: {chart}')
    return cli.OK


def folders_of(words):
    """Return (label, run folders) of one ``LABEL=GLOB``."""
    label, equals, pattern = words.partition('=')
    folders = sorted(glob.glob(pattern))
    if not equals or not folders:
        raise ConfigError(f"'{words}' names no run folder; write LABEL=GLOB, e.g. 'WARN=work_dirs/warn/*'")
    return label, folders


def line_of(label, values, results):
    """Return the :class:`Line` of one label: error in percent, mean and standard deviation over its runs."""
    from gluon_fgvc.engine.statistics import mean_and_sd
    from gluon_fgvc.pages.line_charts import Line
    errors = [mean_and_sd([100 * (1 - row['top1']) for row in results
                           if row['label'] == label and row['value'] == value]) for value in values]
    spread = None if errors[0][1] is None else [sd for _, sd in errors]
    return Line(label, values, [mean for mean, _ in errors], spread)


def table(key, lines):
    """Return the errors as lines of Markdown."""
    cells = [[line.name, *(f'{error:.2f}' + (f' ± {line.spread[i]:.2f}' if line.spread else '')
                           for i, error in enumerate(line.y))] for line in lines]
    head = [f'error, % at {key}', *(f'{value:g}' if isinstance(value, (int, float)) else str(value)
                                    for value in lines[0].x)]
    return ['| ' + ' | '.join(row) + ' |' for row in (head, ['---'] * len(head), *cells)]

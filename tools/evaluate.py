"""Evaluate a run folder on a split: accuracies, per-class table, predictions.csv, evaluation.json."""
import sys

from gluon_fgvc import cli
from gluon_fgvc.engine import run


def main(argv=None):
    parser = cli.Parser(__doc__, 'python tools/evaluate.py work_dirs/quickstart/20260101-120000 --split val')
    parser.add_argument('run', metavar='RUN', help='run folder that tools/train.py made')
    parser.add_argument('--split', default='test', choices=('test', 'val', 'train'), help='default: %(default)s')
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('--gpus', metavar='IDS', help='GPUs to use, e.g. 0,1; default: as in training')
    args = parser.parse_args(argv)

    contexts = run.contexts_of(cli.contexts_setting(args.gpus)) if args.gpus is not None else None
    opened = run.open_run(args.run, args.which, contexts)
    result = run.evaluate(opened, args.split)
    width = max(len(row['name']) for row in result['per_class'])
    for row in result['per_class']:
        accuracy = '     –' if row['accuracy'] is None else f"{row['accuracy']:6.4f}"
        print(f"  {row['name']:<{width}}  {accuracy}  {row['correct']:>6} of {row['images']}")
    for row in result.get('per_group', ()):
        print(f"{row['name']}: {row['correct']} of {row['images']}")
    print(f'report: {run.report(opened.folder, opened.source)}')


if __name__ == '__main__':
    sys.exit(cli.run(main))

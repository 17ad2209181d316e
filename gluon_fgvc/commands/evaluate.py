"""Evaluate a run folder on a split: accuracies, per-class table, predictions.csv, evaluation.json.

Test-time augmentation and ensembles average probabilities, and are shown beside the single view of each network. With
--engine the exported model stands in for the network.
"""
from pathlib import Path

from gluon_fgvc.choices import ENGINES, VIEWS
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc evaluate', __doc__, 'work_dirs/quickstart/20260101-120000 --split val --tta flip')
    parser.add_argument('run', metavar='RUN', nargs='?', help='run folder that fgvc train made')
    parser.add_argument('--ensemble', metavar='RUN', nargs='+', help='several run folders, instead of RUN')
    parser.add_argument('--out', metavar='DIR', type=Path, help="folder for an ensemble's result; it must be a new one")
    parser.add_argument('--tta', metavar='VIEWS', choices=VIEWS,
                        help=f"test-time augmentation: {', '.join(VIEWS)}; default: a single view")
    parser.add_argument('--no-crop', dest='crop', action='store_false',
                        help='whole images instead of their centre crops, for methods that take any size')
    parser.add_argument('--pointing-game', action='store_true', default=None,
                        help='also play the energy-based pointing game: which fraction of the class activation lies '
                             'in the boxes of the data set')
    parser.add_argument('--engine', choices=ENGINES,
                        help='evaluate the exported model instead, on the CPU, run by this: the same but for rounding; '
                             'auto is the fastest here; default: the network of the run, by MXNet')
    parser.add_argument('--export', metavar='DIR', type=Path, help='that exported model; default: RUN/export')
    parser.add_argument('--split', default='test', choices=('test', 'val', 'train'), help='default: %(default)s')
    cli.add_data_root(parser)
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('--gpus', metavar='IDS', help='GPUs to use, e.g. 0,1; default: as in training')
    args = parser.parse_args(argv)
    if bool(args.run) == bool(args.ensemble):
        raise ConfigError('give one RUN, or several after --ensemble')
    if bool(args.ensemble) != bool(args.out):
        raise ConfigError('--ensemble needs --out DIR for its result' if args.ensemble else '--out is for --ensemble')
    cli.check_distinct(args.ensemble or [])
    if args.pointing_game and (args.ensemble or args.tta):
        raise ConfigError('--pointing-game is of one view of one RUN; leave out --ensemble and --tta')
    if args.engine and (args.pointing_game or args.gpus is not None):
        raise ConfigError('--engine runs the exported model, on the CPU: leave out --pointing-game and --gpus')
    if args.export and (args.ensemble or not args.engine):
        raise ConfigError('--export is for one RUN, and needs --engine (auto is the fastest)')

    from gluon_fgvc import runs
    contexts = runs.contexts_from(cli.contexts_setting(args.gpus)) if args.gpus is not None else None
    opened = []
    for folder in args.ensemble or [args.run]:
        opened.append(runs.open_run(folder, args.which, contexts, data_root=args.data_root))
        contexts = opened[0].contexts
    if args.engine:
        opened = [runs.through_export(run, args.engine, args.export) for run in opened]
        for run in opened:
            print(f'{run.folder}: engine {run.exported.why}')
    if args.ensemble or args.tta:
        result = runs.evaluate_together(opened, args.split, args.tta, args.out, crop=args.crop)
    else:
        result = runs.evaluate(opened[0], args.split, crop=args.crop, pointing_game=args.pointing_game)
    width = max(len(row['name']) for row in result['per_class'])
    for row in result['per_class']:
        accuracy = '     –' if row['accuracy'] is None else f"{row['accuracy']:6.4f}"
        print(f"  {row['name']:<{width}}  {accuracy}  {row['correct']:>6} of {row['images']}")
    for row in result.get('per_group', ()):
        print(f"{row['name']}: {row['correct']} of {row['images']}")
    for row in result.get('per_certainty', ()):
        print(f"{row['name']}, annotators' probability {row['certainty']:.2f}: {row['correct']} of {row['images']}")
    points = result.get('operating_points', ())
    for row in (point for point in points if point['name'] == points[0]['name']):  # of the rarer class
        print(f"{row['name']}, taken from probability {row['probability']:.4f} on: {row['recall']:.1%} found, "
              f"{row['false_positive_rate']:.1%} of the others taken for it")
    if args.ensemble:
        print(f'written to {args.out}')
    else:
        print(f'report: {runs.report(opened[0])}')

"""Train several configurations with several seeds, collect docs/results/NAME.json, write docs/results.md.

Finished runs are skipped and unfinished ones resumed: give the same command again at any time."""
import re
import shlex
import sys
from pathlib import Path

from gluon_fgvc import cli
from gluon_fgvc.analysis import study
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import write_atomically

OVERRIDE = re.compile(r'[A-Za-z_]\w*(\.\w+)+=.*', re.DOTALL)
TRAIN = (sys.executable, str(Path(__file__).with_name('train.py')))


def main(argv=None, train=TRAIN):
    """Run the tool; ``train`` is the command that trains one configuration."""
    parser = cli.Parser(__doc__, 'python tools/study.py --name elpv_binary '
                                 '--cfg configs/finetune/elpv_efficientnet_lite0.yaml --seeds 0 1 2 --evaluate')
    parser.add_argument('--name', help='of the study and its file of results')
    parser.add_argument('--cfg', '--config', '--config-file', dest='cfg', nargs='+', metavar='FILE',
                        help='configuration files')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='S', help='values of run.seed; default: 0')
    parser.add_argument('--folds', nargs='+', type=int, default=[], metavar='F',
                        help='values of data.fold, for data sets that have it')
    parser.add_argument('--variant', dest='variants', action='append', metavar=('NAME KEY=VALUE …'),
                        help='run this variant of each configuration, made by overrides; may be given often, after the '
                             'overrides of all')
    parser.add_argument('--evaluate', action='store_true',
                        help='evaluate the test split once after each training; default: leave it untouched')
    parser.add_argument('--plan', action='store_true', help='print what would be run and stop')
    parser.add_argument('--render', action='store_true', help='only write docs/results.md from docs/results/*.json')
    parser.add_argument('--work-dir', default='work_dirs/study', metavar='D', help='of the runs; default: %(default)s')
    parser.add_argument('--results', default='docs/results', metavar='D',
                        help='folder of the results, the page is D.md; default: %(default)s')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides of all configurations')
    argv = sys.argv[1:] if argv is None else list(argv)
    # Overrides are taken out first: after --seeds 0 1 argparse would count them as seeds.
    overrides, variants, words = take_overrides(argv)
    args = parser.parse_args(words)
    if args.overrides:
        raise ConfigError(f"'{args.overrides[0]}' is not of the form section.key=value, e.g. train.epochs=3")

    failed = []
    if not args.render:
        if not args.name or not args.cfg:
            raise ConfigError('give --name and --cfg, or --render alone')
        runs = study.plan(args.name, args.cfg, args.seeds, args.folds, overrides, args.work_dir,
                          [(name, variants[name]) for name in args.variants or ()])
        study.check_results(args.name, runs, args.results)
        print('\n'.join(study.describe(runs, args.evaluate)), flush=True)
        if args.plan:
            return cli.OK
        failed = study.execute(runs, train, args.evaluate, say=lambda line: print(line, flush=True))
        command = shlex.join(['python', 'tools/study.py', *argv])
        print(f'results: {study.collect(args.name, runs, command, args.results)}')
        if failed:
            titles = ', '.join(run.title for run in failed)
            print(f'error: {len(failed)} of {len(runs)} runs failed: {titles}', file=sys.stderr)
    study.draw_curves(args.results)
    print(f"page: {write_atomically(f'{args.results}.md', study.render(args.results))}")
    return cli.FAILED if failed else cli.OK


def take_overrides(argv):
    """Return the overrides of all runs, dict of variant → its overrides, and the other words of a command line."""
    overrides, variants, words, variant = [], {}, [], None
    for before, word in zip([None, *argv], argv):
        if before == '--variant':
            variant = variants.setdefault(word, [])
        elif word.startswith('--'):
            variant = None
        if OVERRIDE.fullmatch(word):
            (overrides if variant is None else variant).append(word)
        else:
            words.append(word)
    return overrides, variants, words


if __name__ == '__main__':
    sys.exit(cli.run(main))

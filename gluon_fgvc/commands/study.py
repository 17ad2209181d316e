"""Train several configurations with several seeds and folds, collect the results, write a page that compares them.

Finished runs are skipped and unfinished ones resumed: give the same command again at any time. --search schedule
looks for a schedule of attention-scaled training instead, by validation alone, and leaves docs/ as it is.
"""
import os
import shlex
import sys

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import write_atomically

TRAIN = (sys.executable, '-m', 'gluon_fgvc', 'train')


def main(argv=None, train=TRAIN, check=None):
    """Run the command; ``train`` is the command that trains one configuration, ``check`` what checks it before."""
    parser = cli.Parser('fgvc study', __doc__,
                        '--name elpv_binary --cfg finetune/elpv_efficientnet_lite0 --seeds 0 1 2 --evaluate')
    parser.add_argument('--name', help='of the study and its file of results')
    cli.add_cfg(parser, nargs='+', required=False,
                help='configurations: files, or names of packaged ones, e.g. finetune/quickstart')
    parser.add_argument('--study', metavar='FILE', help='a file of studies/, in the place of --name, --cfg and '
                        '--evaluate; --variant NAME, --seeds and --folds then pick some of its runs')
    parser.add_argument('--seeds', nargs='+', type=int, metavar='S', help='values of run.seed; default: 0')
    parser.add_argument('--folds', nargs='+', type=int, default=[], metavar='F',
                        help='values of data.fold, which data.folds=N says how many there are of')
    parser.add_argument('--vary', choices=('data',), help='give the seeds of the data (its split, its images) the '
                        'value of run.seed as well, so that the spread is not of starts and orders alone')
    parser.add_argument('--variant', action='append', metavar=('NAME KEY=VALUE …'),
                        help='run this variant of each configuration, made by overrides; may be given often, after the '
                             'overrides of all')
    parser.add_argument('--evaluate', action='store_true',
                        help='evaluate the test split once after each training; default: leave it untouched')
    parser.add_argument('--plan', action='store_true', help='print what would be run and stop')
    parser.add_argument('--render', action='store_true', help='only write the page from the files of results')
    parser.add_argument('--merge', metavar='FILE', nargs='+',
                        help='only add these files of results of one study, from other machines, to those in --results')
    parser.add_argument('--work-dir', default='work_dirs/study', metavar='D', help='of the runs; default: %(default)s')
    parser.add_argument('--results', metavar='D',
                        help='folder of the results, the page is D.md; default: results in --work-dir')
    parser.add_argument('--search', choices=('schedule',), help='search for method.schedule, by successive halving')
    parser.add_argument('--budget', type=cli.positive, metavar='N', help='epochs that a search may cost in all')
    parser.add_argument('--length', type=cli.positive, metavar='N',
                        help="letters of the schedules to search; default: those of the paper's, 12")
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides of all configurations')
    argv = sys.argv[1:] if argv is None else list(argv)
    # Overrides are taken out first: after --seeds 0 1 argparse would count them as seeds.
    overrides, variants, words = cli.take_overrides(argv)
    args = parser.parse_args(words)
    if args.overrides:
        raise ConfigError(f"'{args.overrides[0]}' is not of the form section.key=value, e.g. train.epochs=3")

    args.results = args.results or f'{args.work_dir}/results'
    if args.merge or args.render:
        return show_results(args, overrides)

    from gluon_fgvc import config
    from gluon_fgvc.studies import plan_file
    from gluon_fgvc.studies import results as study_results
    from gluon_fgvc.studies import runs as study
    from_file = plan_file.read(args.study) if args.study else None
    if from_file:
        given = [word for word in ('name', 'cfg', 'evaluate', 'search') if getattr(args, word)]
        if given or any(variants.values()):
            raise ConfigError(f"--study: the file says {'--' + given[0] if given else 'what its variants change'}; "
                              'change it there')
        args.name, args.evaluate = from_file.name, from_file.evaluate
        args.seeds = args.seeds or from_file.seeds
    args.cfg, args.seeds = [config.find(name) for name in args.cfg or ()], args.seeds or [0]
    if args.search:
        return search(args, overrides, train)
    if not from_file and (not args.name or not args.cfg):
        raise ConfigError('give --study, or --name and --cfg, or --render or --merge alone')
    runs = from_file.runs(args.work_dir, args.variant or (), overrides, args.seeds, args.folds) if from_file else \
        study.plan(args.name, args.cfg, args.seeds, args.folds, overrides, args.work_dir,
                   [(name, variants[name]) for name in args.variant or ()])
    if args.vary:
        from gluon_fgvc.runs.build import load_config
        runs = study.seeded_with_data(runs, load_config)
    study_results.check_results(args.name, runs, args.results)
    study.check(runs, check or check_configuration)
    print('\n'.join(study.describe(runs, args.evaluate)), flush=True)
    if args.plan:
        return cli.OK
    command = shlex.join(['fgvc', 'study', *argv])

    def show():
        path = study_results.collect(args.name, runs, command, args.results)
        return path, write_page(args.results)

    failed = study.execute(runs, train, args.evaluate, lambda line: print(line, flush=True), show)
    print('results: {}\npage: {}'.format(*show()))
    if failed:
        titles = ', '.join(run.title for run in failed)
        print(f'error: {len(failed)} of {len(runs)} runs failed: {titles}', file=sys.stderr)
    return cli.FAILED if failed else cli.OK


def show_results(args, overrides):
    """Merge files of results if the command line says so, and write the page of all in its folder."""
    needless = [f'--{name}' for name, value in vars(args).items()
                if value and name not in ('merge', 'render', 'results', 'work_dir')] + overrides
    if needless:
        raise ConfigError(f"{'--merge' if args.merge else '--render'} runs nothing: leave out {needless[0]}")
    if args.merge:
        from gluon_fgvc.studies import merging
        print(f'results: {merging.merge(args.merge, args.results)}')
    elif not os.path.isdir(args.results):
        raise ConfigError(f"--render: there is no folder '{args.results}' with files of results; name it by --results")
    print(f'page: {write_page(args.results)}')
    return cli.OK


def write_page(results):
    """Write the page of the folder ``results``, beside it, and its pictures in it; return its path."""
    from gluon_fgvc.studies import charts, page
    charts.draw(results)
    return write_atomically(f'{results}.md', page.render(results))


def check_configuration(path, words):
    """Check all of a configuration that needs no images."""
    from gluon_fgvc import config, runs
    runs.check_settings(runs.load_config(path, config.parse_overrides(words)))


def search(args, overrides, train):
    """Search for a schedule as the command line says, and print what was found."""
    from gluon_fgvc.studies import runs as study
    from gluon_fgvc.studies import schedule_search
    if not args.name or not args.budget or len(args.cfg) != 1 or len(args.seeds) != 1:
        raise ConfigError('--search needs --name, --budget, one --cfg and one of --seeds')
    run, = study.plan(args.name, args.cfg, args.seeds, args.folds, overrides, args.work_dir)
    length = args.length or len(schedule_search.PAPER)
    rounds, folder = schedule_search.plan(length, args.budget), run.folder.parent / 'schedules'
    schedules = schedule_search.candidates(rounds[0].schedules, length, run.seed)
    for number, current in enumerate(rounds, 1):
        print(f'round {number}: {current.schedules} schedules, {current.epochs} epochs each', flush=True)
    print(f'{sum(r.schedules * r.epochs for r in rounds)} epochs at most; the test split stays untouched', flush=True)
    if args.plan:
        return cli.OK
    score = schedule_search.trained_score(run.config, folder, run.seed, overrides, train,
                                          lambda line: print(line, flush=True))
    results = schedule_search.search(rounds, schedules, score)
    for current, ranked in zip(rounds, results):
        print(f'after {current.epochs} epochs: ' + ', '.join(f'{name} {values[0]:.4f}' for name, values in ranked[:5]))
    print(f"search: {schedule_search.write(run.folder.parent / 'search.json', rounds, results)}")
    return cli.OK if results[-1] else cli.FAILED

"""Check a data set or this machine; what is found is printed with its remedy, and the exit code is then 3.

`fgvc doctor data` looks at every image of a data set, `fgvc doctor labels` at what trained runs say against its labels,
`fgvc doctor env` at Python, libraries, threads and disk.
"""
import json
import sys
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.machine import diagnosis, environment


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ['env']:
        return diagnosis.main(argv[1:])
    parser = cli.Parser('fgvc doctor', __doc__, 'data --cfg finetune/quickstart --report doctor')
    names = parser.add_subparsers(dest='what', metavar='data | labels | env', parser_class=cli.Parser,
                                  help='what to check')
    data = names.add_parser(
        'data', description='Look at every image of a data set: broken files, odd modes, thin classes, duplicates, '
                            'labels that contradict one another. docs/doctor.md explains the kinds.',
        example='--cfg finetune/quickstart --ignore gray')
    cli.add_cfg(data, help='configuration whose data set is checked: a file, or the name of a packaged one')
    data.add_argument('--workers', metavar='N', type=int, default=environment.available_cpus(),
                      help='processes that read images; 0 reads in this one; default: the CPUs, %(default)s')
    data.add_argument('--json', metavar='FILE', type=Path, help='write all that was found')
    data.add_argument('--report', metavar='DIR', type=Path, help='write a page with pictures of the worst')
    data.add_argument('--units', metavar='FILE', type=Path,
                      help='write which images look like one photograph, a list for data.units')
    data.add_argument('--ignore', metavar='KIND', action='append', default=[],
                      help='what is no problem here, e.g. gray; may be repeated')
    data.add_argument('--overwrite', action='store_true', help='replace an earlier --json, --units or --report')
    data.add_argument('overrides', nargs='*', metavar='KEY VALUE | KEY=VALUE',
                      help='overrides of the file, e.g. data.fold=1')
    _add_labels(names)
    names.add_parser('env', description='Check Python, libraries, threads and disk.', add_help=False,
                     example='--json env.json')
    args = parser.parse_args(argv)
    if args.what is None:
        raise ConfigError("say what to check: 'fgvc doctor data --cfg FILE', 'fgvc doctor labels RUN' or "
                          "'fgvc doctor env'")
    return check_labels(args) if args.what == 'labels' else check_data(args)


def check_data(args):
    """Check the data set of ``args.cfg`` and write what was asked for; return the exit code."""
    from gluon_fgvc import config, data
    from gluon_fgvc.data import doctor, units
    from gluon_fgvc.data.findings import KINDS
    from gluon_fgvc.engine.log import progress
    from gluon_fgvc.files import write_atomically
    from gluon_fgvc.pages.data import PAGE, write_page
    from gluon_fgvc.run_folder.predictions import table
    from gluon_fgvc.runs import load_config
    if args.workers < 0:
        raise ConfigError(f'--workers {args.workers} must be at least 0')
    for kind in args.ignore:
        if kind not in KINDS:
            raise ConfigError(f"--ignore '{kind}' is no kind of finding{did_you_mean(kind, KINDS)}")
    cli.check_new(args.overwrite, args.json, args.units, args.report and args.report / PAGE)
    cfg = load_config(config.find(args.cfg), config.parse_overrides(args.overrides))
    source, findings = data.survey(cfg.data)
    with progress(doctor.count(source), 'looking') as bar:
        everything = doctor.examine(source, findings, args.workers, bar.update)
    report = everything.without(args.ignore)
    print('\n'.join(doctor.table(report)))
    tree = {'data': config.to_tree(cfg)['data'], 'ignored': args.ignore, **report.tree()}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        print(f'findings: {write_atomically(args.json, json.dumps(tree, indent=1))}')
    if args.units:
        args.units.parent.mkdir(parents=True, exist_ok=True)
        rows = units.of_groups(everything.look_alikes(), source) if source else []
        print(f'units: {write_atomically(args.units, table(units.COLUMNS, rows))}')
    if args.report:
        read = source.read if source else lambda name: None
        print(f'page: {write_page(args.report, tree, KINDS, read)}')
    return cli.PROBLEMS if report.findings else cli.OK


def _add_labels(names):
    labels = names.add_parser(
        'labels', description='List labels that are likely wrong, by what trained runs said of images they were not '
                              'trained on: several seeds are averaged, folds add up to all images. Nothing is removed.',
        example='work_dirs/study/hotdog/plain/seed* --report labels --csv labels.csv')
    labels.add_argument('runs', metavar='RUN', nargs='+', help='run folders on the same classes')
    labels.add_argument('--split', nargs='+', default=['test'], choices=('test', 'val'),
                        help='whose predictions, which fgvc evaluate writes; default: test')
    labels.add_argument('--csv', metavar='FILE', type=Path, help='write the list')
    labels.add_argument('--report', metavar='DIR', type=Path, help='write a page with the images')
    labels.add_argument('--overwrite', action='store_true', help='replace an earlier --csv or --report')
    cli.add_data_root(labels)


def check_labels(args):
    """List the suspect labels of ``args.runs`` and write what was asked for; return the exit code."""
    from gluon_fgvc.files import write_atomically
    from gluon_fgvc.pages.labels import PAGE, write_page
    from gluon_fgvc.run_folder.predictions import table
    from gluon_fgvc.runs.reporting import reader_of
    from gluon_fgvc.studies.labels import COLUMNS, pairs, suspect_labels
    cli.check_distinct(args.runs)
    cli.check_new(args.overwrite, args.csv, args.report and args.report / PAGE)
    found = suspect_labels(args.runs, args.split)
    classes = found.classes
    for (label, suggested), count in pairs(found.suspects):
        print(f"{count:>5}  labelled '{classes[label]}', look like '{classes[suggested]}'")
    print(f'{len(found.suspects):,} of {found.images:,} labels are suspect ({" and ".join(args.split)} images of '
          f'{len(args.runs)} run{"s" * (len(args.runs) > 1)}); look at each before you change any')
    if args.csv:
        args.csv.parent.mkdir(parents=True, exist_ok=True)
        print(f'list: {write_atomically(args.csv, table(COLUMNS, (s.row(classes) for s in found.suspects)))}')
    if args.report:
        print(f'page: {write_page(args.report, found, reader_of(args.runs[0], args.data_root))}')
    return cli.PROBLEMS if found.suspects else cli.OK

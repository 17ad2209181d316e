"""Check a data set or this machine; what is found is printed with its remedy, and the exit code is then 3."""
import json
import os
import runpy
import sys
from pathlib import Path

# 'env' must answer where gluon_fgvc cannot be imported: that is when it is needed.
DIAGNOSIS = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', 'gluon_fgvc', 'diagnosis.py')


def main(argv=None):
    argv = sys.argv[1:] if argv is None else list(argv)
    if argv[:1] == ['env']:
        return runpy.run_path(DIAGNOSIS)['main'](argv[1:])
    from gluon_fgvc import cli
    parser = cli.Parser(__doc__, 'python tools/doctor.py data --cfg configs/finetune/quickstart.yaml --report doctor')
    names = parser.add_subparsers(dest='what', metavar='data | env', parser_class=cli.Parser, required=True,
                                  help='data: the images of a configuration; env: Python, libraries, threads, disk')
    add_data(names)
    names.add_parser('env', description='', example='')
    return check_data(parser.parse_args(argv))


def add_data(names):
    from gluon_fgvc.data.findings import KINDS
    from gluon_fgvc.environment import available_cpus
    parser = names.add_parser(
        'data', example='python tools/doctor.py data --cfg configs/finetune/quickstart.yaml --ignore gray',
        description='Look at every image of a data set once: broken files, odd modes, thin classes, duplicates.')
    parser.add_argument('--cfg', '--config', '--config-file', dest='cfg', metavar='FILE', required=True,
                        help='configuration whose section data is checked')
    parser.add_argument('--workers', metavar='N', type=int, default=available_cpus(),
                        help='processes that read images; 0 reads in this one; default: the CPUs, %(default)s')
    parser.add_argument('--json', metavar='FILE', type=Path, help='write everything that was found')
    parser.add_argument('--report', metavar='DIR', type=Path, help='write a page with pictures of the worst')
    parser.add_argument('--ignore', metavar='KIND', nargs='+', default=[], choices=list(KINDS),
                        help=f'what is no problem here, of {", ".join(KINDS)}')
    parser.add_argument('--overwrite', action='store_true', help='replace an earlier --json or --report')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides of the file, e.g. data.fold=1')


def check_data(args):
    from gluon_fgvc import cli, config, data
    from gluon_fgvc.analysis.data_page import PAGE, write_page
    from gluon_fgvc.data import doctor
    from gluon_fgvc.data.findings import KINDS
    from gluon_fgvc.engine.log import progress
    from gluon_fgvc.engine.run import load_config
    from gluon_fgvc.errors import ConfigError
    from gluon_fgvc.files import write_atomically
    if args.workers < 0:
        raise ConfigError(f'--workers {args.workers} must be at least 0')
    page = args.report and args.report / PAGE
    for path in (args.json, page):
        if path and path.exists() and not args.overwrite:
            raise ConfigError(f"'{path}' exists; name another, or add --overwrite")
    cfg = load_config(args.cfg, config.parse_overrides(args.overrides))
    source, findings = data.survey(cfg.data)
    with progress(doctor.count(source), 'looking') as bar:
        report = doctor.examine(source, findings, args.workers, bar.update).without(args.ignore)
    print('\n'.join(doctor.table(report)))
    tree = {'data': config.to_tree(cfg)['data'], 'ignored': args.ignore, **report.tree()}
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        print(f"findings: {write_atomically(args.json, json.dumps(tree, indent=1) + chr(10))}")
    if page:
        print(f'page: {write_page(args.report, tree, KINDS, doctor.reader(source))}')
    return cli.PROBLEMS if report.findings else cli.OK


if __name__ == '__main__':
    from gluon_fgvc import cli
    sys.exit(cli.run(main))

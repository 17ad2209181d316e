"""Train a configuration, evaluate the epoch that validation chose, write the report."""
import os
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc train', __doc__, '--cfg finetune/quickstart train.epochs=2')
    cli.add_run_options(parser)
    parser.add_argument('--work-dir', metavar='D', type=Path,
                        help='the run folder itself; default <run.work_dir>/<config stem>/<timestamp>')
    parser.add_argument('--resume', nargs='?', const=True, metavar='PATH',
                        help="go on with run folder PATH, with --work-dir's, or with the newest of this configuration")
    parser.add_argument('--init-from', metavar='RUN', type=Path, help='start from the best weights of another run of '
                        'this backbone and method; a head for other classes begins anew')
    parser.add_argument('--print-config', action='store_true', help='print the resolved configuration and stop')
    parser.add_argument('--no-test', action='store_true', help='leave the test split untouched')
    args = parser.parse_intermixed_args(argv)
    if cli.is_override(args.resume):  # --resume KEY=VALUE
        args.overrides, args.resume = [args.resume, *args.overrides], True

    from gluon_fgvc import config, runs
    path = config.find(args.cfg)
    cfg = runs.load_config(path, cli.overrides(args))
    if args.print_config:
        print(config.dump(cfg), end='')
        return
    if args.init_from and args.resume is not None:
        raise ConfigError('give either --resume or --init-from: a resumed run has weights of its own')
    folder = _folder(args, cfg, path.stem) if not os.environ.get('DMLC_ROLE') else lambda: _made(args, cfg, path.stem)
    runs.train(cfg, folder, test=not args.no_test, init_from=args.init_from)


def _made(args, cfg, stem):
    """Return the run folder of a team, for which the process that writes asks alone."""
    folder = _folder(args, cfg, stem)
    return folder() if callable(folder) else folder


def _folder(args, cfg, stem):
    from gluon_fgvc import runs
    from gluon_fgvc.run_folder import RunFolder
    if args.resume is None:
        if args.work_dir and RunFolder(args.work_dir).has_checkpoint:
            raise ConfigError(f"--work-dir '{args.work_dir}' holds a run already; add --resume to go on, or name "
                              'another')
        return args.work_dir or (lambda: runs.new_folder(cfg, stem))
    if args.resume is not True and args.work_dir:
        raise ConfigError('give either --resume PATH or --work-dir, not both')
    if args.work_dir:
        return args.work_dir  # a first run that was killed before it wrote anything begins anew
    return runs.existing_folder(args.resume) if args.resume is not True else runs.latest_folder(cfg, stem)

#!/usr/bin/env python
"""Train several configurations with several seeds and write docs/results."""
import argparse
import re
import shlex
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from gluon_fgvc import cli  # noqa: E402
from gluon_fgvc.analysis import study  # noqa: E402
from gluon_fgvc.analysis.files import write_text  # noqa: E402
from gluon_fgvc.errors import ConfigError  # noqa: E402

OVERRIDE = re.compile(r'[A-Za-z_]\w*(\.\w+)+=.*', re.DOTALL)


def parser():
    p = argparse.ArgumentParser(
        description=__doc__ + ' Finished runs are skipped and unfinished ones resumed, so the same command '
        'may be given again at any time.',
        epilog='example: python tools/study.py --name elpv_binary --cfg configs/finetune/elpv_efficientnet_lite0.yaml '
        '--seeds 0 1 2 --evaluate')
    p.add_argument('--name', help='name of the study: docs/results/NAME.json')
    p.add_argument('--cfg', '--config', '--config-file', nargs='+', metavar='FILE', help='configuration files')
    p.add_argument('--seeds', nargs='+', type=int, default=[0], metavar='S', help='values of run.seed (default: 0)')
    p.add_argument('--folds', nargs='+', type=int, default=[], metavar='F',
                   help='values of data.fold, for data sets that have it')
    p.add_argument('--evaluate', action='store_true',
                   help='evaluate the test split once after each training (default: leave it untouched)')
    p.add_argument('--plan', action='store_true', help='only print what would be run')
    p.add_argument('--render', action='store_true', help='only write docs/results.md from docs/results/*.json')
    p.add_argument('--work-dir', default='work_dirs/study', metavar='DIR', help='folder of the runs (default: %(default)s)')
    p.add_argument('--results', default='docs/results', metavar='DIR',
                   help='folder of the results; the page is DIR.md (default: %(default)s)')
    p.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='configuration values for all runs')
    return p


def main(argv=None, train=(sys.executable, str(Path(__file__).with_name('train.py')))):
    argv = sys.argv[1:] if argv is None else list(argv)
    # overrides are taken out first: after '--seeds 0 1' argparse would count them as seeds
    overrides = [word for word in argv if OVERRIDE.fullmatch(word)]
    options = parser().parse_args([word for word in argv if word not in overrides])
    if options.overrides:
        raise ConfigError(f"'{options.overrides[0]}' is not of the form section.key=value, e.g. train.epochs=3")
    if not options.render:
        if not options.name or not options.cfg:
            raise ConfigError('--name and --cfg are required (or --render alone)')
        failed = _study(options, overrides, argv, list(train))
        if options.plan:
            return 0
    print(f"wrote {write_text(f'{options.results}.md', study.render(options.results))}")
    return 1 if not options.render and failed else 0


def _study(options, overrides, argv, train):
    runs = study.plan(options.name, options.cfg, options.seeds, options.folds, overrides, options.work_dir)
    results = Path(options.results) / f'{options.name}.json'
    if results.exists():
        study.check_same(study.load(results), runs, results)
    print('\n'.join(study.describe(runs, options.evaluate)), flush=True)
    if options.plan:
        return []
    failed = study.execute(runs, train, options.evaluate, say=lambda line: print(line, flush=True))
    print(f"wrote {study.collect(options.name, runs, shlex.join(['python', 'tools/study.py', *argv]), options.results)}")
    if failed:
        print(f"{len(failed)} of {len(runs)} runs failed: {', '.join(run.title for run in failed)}", file=sys.stderr)
    return failed


if __name__ == '__main__':
    sys.exit(cli.run(main))

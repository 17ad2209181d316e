"""Measure times and ratios; contenders take turns in one run, and medians are given with their spread.

Nothing else should run on the machine. Exit code 3 says that a target was missed. The benchmarks are in the source
tree, not in the installed package.
"""
import argparse
import datetime
import importlib
import json
import sys
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.files import write_atomically

ROOT = Path(__file__).resolve().parents[2]


def main(argv=None):
    parser = cli.Parser('fgvc benchmark', __doc__, 'training_loop --backbone resnet50_v1b --json loop.json')
    parser.add_argument('--list', action='store_true', help='list the benchmarks and stop')
    parser.add_argument('name', metavar='NAME', nargs='?', help='benchmark, one that --list names')
    parser.add_argument('words', metavar='…', nargs=argparse.REMAINDER, help='its options; NAME --help explains them')
    args = parser.parse_args(argv)
    benchmarks = _benchmarks()
    if args.list:
        for name in benchmarks.available():
            print(f'{name}: {benchmarks.load(name).__doc__.splitlines()[0]}')
        return cli.OK
    if args.name is None:
        raise ConfigError('name a benchmark; --list shows them')
    if args.name not in benchmarks.available():
        raise ConfigError(f"unknown benchmark '{args.name}'{did_you_mean(args.name, benchmarks.available())}")
    return measure(args.name, benchmarks.load(args.name), args.words)


def measure(name, benchmark, words):
    """Run the module ``benchmark`` with the options ``words`` and print what it says; return the exit code."""
    from gluon_fgvc import runs
    parser = cli.Parser(f'fgvc benchmark {name}', benchmark.__doc__)
    benchmark.add_options(parser)
    parser.add_argument('--json', metavar='FILE', type=Path, help='write all samples and what they say')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE')
    args = parser.parse_args(words)
    if args.json:
        cli.check_new(args.overwrite, args.json)
        args.json.parent.mkdir(parents=True, exist_ok=True)  # what was measured is not to be lost
    result, machine = benchmark.measure(args), runs.environment()
    print(f'{name}: ' + ', '.join(f'{key} {value}' for key, value in result.settings.items()))
    print(', '.join(f'{key} {value}' for key, value in machine.items()))
    print('\n'.join(result.table()))
    if args.json:
        write_atomically(args.json, json.dumps({
            'benchmark': name, 'settings': result.settings, 'machine': machine,
            'measured_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            **result.record()}, indent=1) + '\n')
    return cli.OK if result.kept() else cli.PROBLEMS


def _benchmarks():
    """Return the package of the benchmarks, which lies beside this one in the source tree.

    :raises ConfigError: outside of the source tree.
    """
    if not (ROOT / 'benchmarks' / 'comparison.py').is_file():
        raise ConfigError('the benchmarks are not part of the installed package; run fgvc benchmark, or '
                          'python tools/benchmark.py, in the source tree')
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    return importlib.import_module('benchmarks')

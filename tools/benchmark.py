"""Measure times and ratios; contenders take turns in one run, and medians are given with their spread.

Nothing else should run on the machine. Exit code 3 says that a target was missed.
"""
import datetime
import json
import sys

import benchmarks
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.runs import environment


def main(argv=None):
    parser = cli.Parser(__doc__, 'python tools/benchmark.py training_loop --backbone resnet50_v1b --json loop.json')
    parser.add_argument('--list', action='store_true', help='list the benchmarks and stop')
    names = parser.add_subparsers(dest='name', metavar='NAME', parser_class=cli.Parser, help='--list explains them')
    for name in benchmarks.available():
        module = benchmarks.load(name)
        own = names.add_parser(name, description=module.__doc__, example=f'python tools/benchmark.py {name}')
        module.add_options(own)
        own.add_argument('--json', metavar='FILE', help='write all samples and what they say')
    args = parser.parse_args(argv)
    if args.list:
        for name in benchmarks.available():
            print(f'{name}: {benchmarks.load(name).__doc__.splitlines()[0]}')
        return cli.OK
    if args.name is None:
        raise ConfigError('name a benchmark; --list shows them')

    result, machine = benchmarks.load(args.name).measure(args), environment()
    print(f'{args.name}: ' + ', '.join(f'{key} {value}' for key, value in result.settings.items()))
    print(', '.join(f'{key} {value}' for key, value in machine.items()))
    print('\n'.join(result.table()))
    if args.json:
        write_atomically(args.json, json.dumps({
            'benchmark': args.name, 'settings': result.settings, 'machine': machine,
            'measured_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
            **result.record()}, indent=1) + '\n')
    return cli.OK if result.kept() else cli.PROBLEMS


if __name__ == '__main__':
    sys.exit(cli.run(main))

"""``fgvc``: one entry to all commands, each a module of this room whose ``main(argv)`` parses, calls and prints."""
import importlib
import os
import sys
import traceback

from gluon_fgvc import __version__
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError, did_you_mean

COMMANDS = ('train', 'launch', 'evaluate', 'predict', 'export', 'visualize', 'doctor', 'compare', 'study', 'prune',
            'sweep', 'prepare-data', 'import-weights', 'benchmark', 'serve')


def main(argv=None):
    """Run the command line ``argv`` and return the exit code, see :func:`gluon_fgvc.commands.cli.run`."""
    if os.environ.get('DMLC_ROLE') != 'worker':
        return cli.run(_main, sys.argv[1:] if argv is None else list(argv))
    # One of several processes: at its end MXNet waits for the others, which wait for what a failed one still owes.
    code = cli.FAILED
    try:
        code = cli.run(_main, sys.argv[1:] if argv is None else list(argv))
    except Exception:
        traceback.print_exc()
    if code:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    return code


def load(command):
    """Return the module of ``command``.

    :raises ConfigError: with the nearest if there is no such command.
    """
    if command not in COMMANDS:
        raise ConfigError(f"unknown command '{command}'{did_you_mean(command, COMMANDS)}")
    return importlib.import_module(f"gluon_fgvc.commands.{command.replace('-', '_')}")


def _main(argv):
    first = argv[0] if argv else None
    if first in ('-h', '--help'):
        print(_help())
    elif first == '--version':
        print(f'gluon_fgvc {__version__}')
    elif first is None:
        raise ConfigError('name a command; fgvc --help lists them')
    else:
        return load(first).main(argv[1:])


def _help():
    width = max(map(len, COMMANDS))
    lines = [f'  {name:<{width}}  {load(name).__doc__.splitlines()[0]}' for name in COMMANDS]
    return '\n'.join(['usage: fgvc COMMAND …', '', 'Fine-grained image classification on Gluon/MXNet.', '', *lines, '',
                      'fgvc COMMAND --help explains one; fgvc --version says which version this is'])

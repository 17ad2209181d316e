"""What every command shares: exit codes, one-line errors, the options of a configured run.

Commands import what is heavy, mxnet first of all, in the functions that need it, so that ``--help`` is quick.
"""
import argparse
import errno
import os
import re
import signal
import sys
import threading
import time
import traceback
import warnings
from contextlib import contextmanager
from pathlib import Path

from gluon_fgvc.commands.output import courteous_output
from gluon_fgvc.errors import ConfigError, UserError
from gluon_fgvc.machine.environment import SetupError

OK, FAILED, USAGE, PROBLEMS = 0, 1, 2, 3


class Parser(argparse.ArgumentParser):
    """ArgumentParser whose help keeps line breaks, shows defaults and whose options must be spelt out.

    :param prog: the command, e.g. ``'fgvc train'``.
    :param example: words that may follow it.
    """

    def __init__(self, prog, description, example='', **kwargs):
        super().__init__(prog=prog, description=description, epilog=f'example:\n  {prog} {example}'.rstrip(),
                         allow_abbrev=False, formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)

    def parse_known_args(self, args=None, namespace=None):
        parsed, rest = super().parse_known_args(args, namespace)
        for name, value in vars(parsed).items():
            if isinstance(value, Path):
                setattr(parsed, name, value.expanduser())
        return parsed, rest

    def error(self, message):
        raise ConfigError(f'{message} (see {self.prog} --help)')


def run(main, argv=None):
    """Call ``main(argv)`` and return the exit code: errors of user and set-up, and warnings, become one line on stderr.

    0 ok, 1 failed, 2 usage or configuration, 3 a check found problems, 75 asked to end by SIGTERM or SIGUSR1 and able
    to go on. Anything that is not the user's to mend keeps its traceback.
    """
    try:
        with _no_interrupt_lost(), courteous_output(), _warnings_on_one_line():
            return main(argv) or OK
    except UserError as error:
        message, code = str(error), error.exit_code
    except SetupError as error:
        message, code = str(error), FAILED
    except KeyboardInterrupt:
        message, code = 'interrupted', 130
    except MemoryError:
        message, code = 'not enough memory; smaller batches or images, or fewer data.workers, take less', FAILED
    except OSError as error:
        if not (error.errno in _EXHAUSTED or error.errno in _OUTSIDE and error.filename):
            raise
        message, code = f"{error.strerror}: '{error.filename}'" if error.filename else error.strerror, FAILED
    print('error: ' + ' '.join(message.split()), file=sys.stderr)
    return code


@contextmanager
def _no_interrupt_lost():
    """Send Ctrl-C once more if it came during a destructor, where Python prints it and goes on.

    Arrays are destroyed all the time in training, so that happens. An array whose construction Ctrl-C broke off has
    nothing to be destroyed, which is not worth a word either.
    """
    ordinary, main = sys.unraisablehook, threading.main_thread().ident

    def hook(unraisable):
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Thread(target=interrupt).start()
        elif not (unraisable.exc_type is AttributeError
                  and getattr(unraisable.object, '__qualname__', None) == 'NDArrayBase.__del__'):
            ordinary(unraisable)

    def interrupt():
        time.sleep(0.02)
        while any(frame.f_code is hook.__code__ for frame, _ in traceback.walk_stack(sys._current_frames()[main])):
            time.sleep(0.02)  # within the hook it would be lost again
        signal.pthread_kill(main, signal.SIGINT)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = ordinary


@contextmanager
def _warnings_on_one_line():
    """Print what a warning says without the place in the program and its line of code, which say nothing to a user."""
    ordinary = warnings.formatwarning

    def one_line(message, category, filename, lineno, line=None):
        return 'warning: ' + ' '.join(str(message).split()) + '\n'

    warnings.formatwarning = one_line
    try:
        yield
    finally:
        warnings.formatwarning = ordinary


# Conditions of the machine rather than defects of the program.
_EXHAUSTED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE,
              errno.ENOMEM}
_OUTSIDE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.EISDIR, errno.ENOTDIR,
            errno.ENAMETOOLONG, errno.ELOOP, errno.EBADF, errno.ENXIO, errno.ENODEV, errno.EBUSY, errno.ETXTBSY,
            errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}


def positive(text):
    """Read a whole number of at least 1: the ``type`` of an argument."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def check_distinct(folders):
    """Refuse a run that a command line names twice, where each is to count once."""
    known = [Path(folder).resolve() for folder in folders]
    for folder, path in zip(folders, known):
        if known.count(path) > 1:
            raise ConfigError(f"'{folder}' is given twice: each run counts once")


def check_new(overwrite, *paths):
    """Refuse files that are there already, unless the command line says ``--overwrite``; None among ``paths`` is none.

    What is written over a folder fails by itself, in the system's words.
    """
    for path in paths:
        if path and not overwrite and path.exists() and not path.is_dir():
            raise ConfigError(f"'{path}' exists; name another, or add --overwrite")


_OVERRIDE = re.compile(r'[A-Za-z_]\w*(\.\w+)+=.*', re.DOTALL)


def is_override(word):
    """Return whether the value of an option is ``KEY=VALUE`` and no file."""
    return isinstance(word, str) and bool(_OVERRIDE.fullmatch(word)) and not os.path.exists(word)


def add_run_options(parser):
    """Add what every command that starts from a configuration takes."""
    add_cfg(parser)
    parser.add_argument('--list-configs', action=_ListConfigs, nargs=0,
                        help='list the packaged configurations and stop')
    parser.add_argument('--gpus', metavar='IDS', help='GPUs to use, e.g. 0,1; an empty string forces the CPU')
    parser.add_argument('--kv-store', metavar='NAME', help='how gradients are summed over devices (run.kvstore)')
    parser.add_argument('--seed', type=int, metavar='S', help='random seed (run.seed)')
    parser.add_argument('overrides', nargs='*', metavar='KEY VALUE | KEY=VALUE',
                        help='overrides of the file, e.g. train.epochs 3 data.batch_size=16')


def add_cfg(parser, **kwargs):
    """Add ``--cfg``, whose values are for :func:`gluon_fgvc.config.find`."""
    parser.add_argument('--cfg', '--config', '--config-file', dest='cfg', metavar='FILE', **{
        'required': True, 'help': 'configuration: a file, or the name of a packaged one, e.g. finetune/quickstart',
        **kwargs})


class _ListConfigs(argparse.Action):
    def __call__(self, parser, *_):
        from gluon_fgvc import config
        print('\n'.join(config.names()))
        parser.exit()


def add_data_root(parser):
    """Add ``--data-root``, for tools that read the images of a run."""
    parser.add_argument('--data-root', metavar='DIR', help="where the run's data set is now, if it has moved since the "
                        'training (data.root)')


def overrides(args):
    """Return all overrides of a command line: ``KEY VALUE``, then the flags of :func:`add_run_options`, which win."""
    from gluon_fgvc import config
    pairs = config.parse_overrides(args.overrides)
    gpus = getattr(args, 'gpus', None)
    flags = {'run.contexts': None if gpus is None else contexts_setting(gpus),
             'run.kvstore': getattr(args, 'kv_store', None), 'run.seed': getattr(args, 'seed', None)}
    return pairs + [(key, value) for key, value in flags.items() if value is not None]


def take_overrides(argv):
    """Return the overrides of all, dict of ``--variant`` → its overrides, and the other words of a command line."""
    overrides, variants, words, variant = [], {}, [], None
    for before, word in zip([None, *argv], argv):
        if before == '--variant':
            variant = variants.setdefault(word, [])
        elif word.startswith('--'):
            variant = None
        if _OVERRIDE.fullmatch(word):
            (overrides if variant is None else variant).append(word)
        else:
            words.append(word)
    return overrides, variants, words


def contexts_setting(gpus):
    """Turn the value of ``--gpus``, e.g. ``'0,1'``, into ``run.contexts``; nothing means the CPU."""
    ids = [part.strip() for part in gpus.split(',') if part.strip()]
    if not all(part.isdigit() for part in ids):
        raise ConfigError(f"--gpus '{gpus}' is not a list of numbers such as 0,1")
    return [f'gpu{part}' for part in ids] or ['cpu0']

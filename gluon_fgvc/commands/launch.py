"""Start a training as several processes, on this machine or several, and end all when one fails.

On this machine: fgvc launch -n 2 train --cfg FILE …
By ssh, from a file of host names:  fgvc launch -n 4 --hosts FILE train …
By hand:         with --print, one command a line, each after the name of its host.
Under Slurm or MPI, one task a worker:  srun -n 4 --kill-on-bad-exit=1 fgvc launch --join --root HOST --port P train …
"""
import argparse
import os
import sys
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.machine import jobs
from gluon_fgvc.machine.environment import available_cpus


def main(argv=None):
    parser = cli.Parser('fgvc launch', __doc__, '-n 2 train --cfg finetune/quickstart')
    parser.add_argument('-n', '--workers', metavar='N', type=cli.positive, default=2,
                        help='processes that train; default: %(default)s')
    parser.add_argument('-s', '--servers', metavar='S', type=cli.positive, default=1,
                        help='processes that add gradients; default: %(default)s')
    parser.add_argument('--hosts', metavar='FILE', type=Path, help='names of machines, one a line, reached by ssh '
                        'without a password; they have this folder, this Python and the data in the same places')
    parser.add_argument('--root', metavar='ADDRESS', help='of the scheduler; default: the first host, or this machine')
    parser.add_argument('--port', metavar='P', type=cli.positive, help='of the scheduler; default: a free one')
    parser.add_argument('--print', action='store_true', help='print the commands and start nothing')
    parser.add_argument('--join', action='store_true', help='be one of the tasks that Slurm or MPI has started')
    parser.add_argument('words', nargs=argparse.REMAINDER, metavar='train …', help='the training, as fgvc takes it')
    args = parser.parse_args(argv)
    words = [word for word in args.words[:1] if word != '--'] + args.words[1:]
    if words[:1] != ['train']:
        raise ConfigError('what is launched is a training: fgvc launch -n 2 train --cfg FILE …')
    if '--kv-store' not in words and not any('run.kvstore' in word for word in words):
        words += ['--kv-store', 'dist_sync']
    if args.join:
        processes = _own(args, words)
    else:
        hosts = _hosts(args.hosts) if args.hosts else []
        root = args.root or (hosts[0] if hosts else '127.0.0.1')
        if hosts and not args.port:
            raise ConfigError('--hosts needs --port: one that is free on the first host')
        processes = jobs.plan(words, args.workers, args.servers, hosts, (root, args.port or jobs.free_port()))
        if not hosts:
            _share_threads(processes, args.workers)
    if args.print:
        print('\n'.join(f'{process.host or root}: {process.line()}' for process in processes))
        return cli.OK
    return jobs.supervise(processes, lambda text: print(f'error: {text}', file=sys.stderr))


def _own(args, words):
    """Return the processes of this task: a worker, a server in the first tasks, and the scheduler in the very first."""
    found = jobs.place_among_tasks(os.environ)
    if found is None:
        raise ConfigError('--join: neither Slurm nor MPI has started this process; fgvc launch -n N starts several')
    number, count, address = found
    root = args.root or address
    if not root or not args.port:
        raise ConfigError('--join needs --root, the address of the first task, and --port, one that is free there')
    servers = min(args.servers, count)
    own = [process for process in jobs.plan(words, count, servers, [], (root, args.port))
           if process.number == number]
    for process in own:
        if process.role != 'scheduler' and 'DMLC_INTERFACE' not in process.variables:
            process.variables.pop('DMLC_NODE_HOST', None)  # its own address
    return own


def _hosts(path):
    try:
        lines = [line.split('#')[0].strip() for line in path.read_text(encoding='utf-8').splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--hosts: cannot read '{path}': {getattr(error, 'strerror', 'it is no text')}") from None
    hosts = [line for line in lines if line]
    wrong = [host for host in hosts if host.startswith('-') or len(host.split()) != 1]
    if wrong or not hosts:
        raise ConfigError(f"--hosts '{path}': " + (f"'{wrong[0]}' is not the name of a host" if wrong else 'is empty'))
    return hosts


def _share_threads(processes, workers):
    """Give each worker on this machine its share of the threads, all processors where the user has set none."""
    share = max(1, int(os.environ.get('OMP_NUM_THREADS') or available_cpus()) // workers)
    for process in processes:
        process.variables['OMP_NUM_THREADS'] = str(share if process.role == 'worker' else 1)

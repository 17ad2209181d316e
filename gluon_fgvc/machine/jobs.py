"""Processes of one training on one or several machines: who they are, how they start, and what ends them all.

MXNet's parameter server has a scheduler, through which the others find one another, servers, which add, and workers,
which train. None of them notices that another died; whoever starts them has to. Standard library only.
"""
import ctypes
import os
import shlex
import signal
import socket
import subprocess
import sys
import time

SERVE = 'from gluon_fgvc import machine; machine.prepare()'  # the import of MXNet does not return in these roles
GRACE = 60    # seconds for the other workers to keep what they have when one was asked to end
INTERRUPTED = 75
SSH = ['-o', 'BatchMode=yes', '-o', 'ConnectTimeout=30',
       '-o', 'ServerAliveInterval=10', '-o', 'ServerAliveCountMax=3']  # it ends when the machine is silent for 40 s
FORWARDED = (signal.SIGTERM, signal.SIGUSR1)


class Process:
    """One process of a job.

    :param role: 'scheduler', 'server' or 'worker'; ``number`` from 0 among those of its role, of which there are
        ``count``.
    :param host: name of the machine, or None for this one.
    :param variables: of its environment, besides those it finds.
    """

    def __init__(self, role, number, count, host, variables, words):
        self.role, self.number, self.count, self.host = role, number, count, host
        self.variables = dict(variables, DMLC_ROLE=role)
        self.words = list(words)
        self._started = None

    def __str__(self):
        place = " on '{}'".format(self.host) if self.host else ''
        return '{} {} of {}{}'.format(self.role, self.number, self.count, place)

    def line(self):
        """Return the command for a shell, in the folder that this process is in."""
        words = ['env'] + ['{}={}'.format(key, value) for key, value in sorted(self.variables.items())] + self.words
        return 'cd {} && {}'.format(shlex.quote(os.getcwd()), ' '.join(map(shlex.quote, words)))

    def start(self):
        """Start it, here or by ssh; it ends with the process that started it."""
        if self.host is None:
            self._started = subprocess.Popen(self.words, env=dict(os.environ, **self.variables),
                                             start_new_session=True, preexec_fn=_end_with_parent)
        else:  # a terminal of its own, so that the end of ssh is its end
            self._started = subprocess.Popen(['ssh', '-tt'] + SSH + [self.host, self.line()],
                                             stdin=subprocess.DEVNULL, start_new_session=True)

    def code(self):
        """Return the exit code, -N for signal N, or None while it runs."""
        return self._started.poll()

    def send(self, number):
        """Send it and its children a signal, if it runs."""
        try:
            if self._started is not None:
                os.killpg(self._started.pid, number)
        except ProcessLookupError:
            pass

    def wait(self):
        self._started.wait()


def _end_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def plan(words, workers, servers, hosts, root):
    """Return the list of :class:`Process` of one job, the scheduler first.

    :param words: what follows ``fgvc`` in each worker.
    :param hosts: names of machines, taken in turn; empty for this one.
    :param root: (address, port) of the scheduler.
    """
    variables = {'DMLC_PS_ROOT_URI': root[0], 'DMLC_PS_ROOT_PORT': str(root[1]), 'DMLC_NUM_WORKER': str(workers),
                 'DMLC_NUM_SERVER': str(servers)}
    if not hosts:
        variables.update(DMLC_NODE_HOST=root[0])
        if root[0] == '127.0.0.1':
            variables.update(DMLC_INTERFACE='lo')
    counts = {'scheduler': 1, 'server': servers, 'worker': workers}
    processes = []
    for role, count in counts.items():
        command = ['-m', 'gluon_fgvc'] + list(words) if role == 'worker' else ['-W', 'ignore', '-c', SERVE]
        for number in range(count):
            host = hosts[number % len(hosts)] if hosts else None
            processes.append(Process(role, number, count, host, variables, [sys.executable] + command))
    return processes


def free_port(address='127.0.0.1'):
    """Return the number of a port that nobody uses."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def supervise(processes, say):
    """Start ``processes`` and wait for the workers; the first that fails ends all.

    SIGTERM and SIGUSR1 are handed on to the workers.

    :param say: is told in one line which process failed.
    :returns: the exit code: 0, 75 where the workers were asked to end and kept all, else what failed or 1.
    """
    before = {number: signal.signal(number, lambda number, _: _send(processes, 'worker', number))
              for number in FORWARDED}
    try:
        for process in processes:
            process.start()
        failed = _first_failure(processes)
        if failed is None:
            return 0
        code = failed.code()
        if code == INTERRUPTED:
            end = time.monotonic() + GRACE
            while any(p.code() is None for p in processes if p.role == 'worker') and time.monotonic() < end:
                time.sleep(0.1)
            return INTERRUPTED
        how = 'died of signal {}'.format(-code) if code < 0 else 'ended with exit code {}'.format(code)
        say('{} {}: the job is ended; --resume goes on from the last checkpoint'.format(failed, how))
        return code if code > 0 else 1
    finally:
        for process in processes:
            if process._started is not None:
                process.send(signal.SIGKILL)
                process.wait()
        for number, handler in before.items():
            signal.signal(number, handler)


def _first_failure(processes):
    """Return the first process that fails, or None when all workers have ended well."""
    while True:
        for process in processes:
            code = process.code()
            if code or code == 0 and process.role != 'worker' and _running(processes):
                if code or _still_running(processes):
                    return process
        if not _running(processes):
            return None
        time.sleep(0.1)


def _running(processes):
    return any(process.code() is None for process in processes if process.role == 'worker')


def _still_running(processes, seconds=10):
    """Whether workers still run some seconds after a server has left, which it does when they do."""
    end = time.monotonic() + seconds
    while _running(processes) and time.monotonic() < end:
        time.sleep(0.1)
    return _running(processes)


def _send(processes, role, number):
    for process in processes:
        if process.role == role:
            process.send(number)


def place_among_tasks(environment):
    """Return (number, count, address of the first or None) of this process among those a scheduler has started.

    :param environment: as Slurm, Open MPI, MPICH or Intel MPI sets it; None where nothing of it is found.
    """
    for number, count in (('SLURM_PROCID', 'SLURM_NTASKS'), ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
                          ('PMI_RANK', 'PMI_SIZE')):
        if number in environment and count in environment:
            return int(environment[number]), int(environment[count]), environment.get('SLURM_LAUNCH_NODE_IPADDR')
    return None

"""fgvc serve under many clients, some of which misbehave, against the offline predictor: speed, waiting, memory.

The service and the predictor take turns. Everything runs on this machine, clients included, which take their share of
its processors from the service.
"""
import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gluon_fgvc.commands import cli
from gluon_fgvc.data.search import find_images
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.errors import CheckFailed

GROWTH, RATIO = 0.05, 0.9  # of memory at most; of the predictor's throughput at least
TURN = 20                  # seconds of the service's turn; the predictor's is half as long
SETTLE = 10                # seconds at the start that count for nothing: connections open, graphs are prepared


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--export', required=True, metavar='DIR', help='folder of an exported model')
    parser.add_argument('--images', required=True, nargs='+', metavar='INPUT', help='images to send: files, folders')
    parser.add_argument('--clients', type=cli.positive, default=200, metavar='N', help='default: %(default)s')
    parser.add_argument('--seconds', type=cli.positive, default=600, metavar='S',
                        help='of load, without the turns of the predictor; default: %(default)s')
    parser.add_argument('--engine', default='auto', help='default: %(default)s')


@dataclass(frozen=True)
class Load:
    """What came of it."""

    settings: dict
    served: list      # images a second, of each turn
    offline: list     # the same of the predictor
    waits: list       # seconds from a request to its answer
    statuses: dict    # of good clients
    faults: dict      # kind of fault → its answers
    memory: list      # MiB of the service, each second
    processor: dict   # 'service' and 'clients' → seconds of processor time in the service's turns

    @property
    def ratio(self):
        return float(np.median(self.served) / np.median(self.offline))

    @property
    def growth(self):
        tenth = max(1, len(self.memory) // 10)
        return float(np.median(self.memory[-tenth:]) / np.median(self.memory[:tenth]) - 1)

    def table(self):
        """Return the lines to print."""
        p50, p99 = np.percentile(self.waits, [50, 99])
        service, clients = self.processor['service'], self.processor['clients']
        return [f'service  {np.median(self.served):.1f} images/s, of turns {min(self.served):.1f} to '
                f'{max(self.served):.1f}; wait p50 {p50:.2f} s, p99 {p99:.2f} s, {len(self.waits)} answers',
                f'offline  {np.median(self.offline):.1f} images/s, of turns {min(self.offline):.1f} to '
                f'{max(self.offline):.1f}; the service has {self.ratio:.2f} of it (at least {RATIO})',
                f'clients  {clients:.0f} s of processor time, beside {service:.0f} s of the service: '
                f'{clients / (clients + service):.0%} that the predictor does not pay',
                f'memory   {self.memory[0]:.0f} MiB, at the end {self.memory[-1]:.0f}, largest '
                f'{max(self.memory):.0f}: grown by {self.growth:.1%} (at most {GROWTH:.0%})',
                f'status   {dict(sorted(self.statuses.items()))}; misbehaving '
                + ', '.join(f'{kind} {dict(answers)}' for kind, answers in sorted(self.faults.items()))]

    def kept(self):
        """Whether all that is asked for holds."""
        return self.ratio >= RATIO and self.growth <= GROWTH and set(self.statuses) == {'200'}

    def record(self):
        """Return all of it for the file."""
        return {'served': self.served, 'offline': self.offline, 'ratio': self.ratio, 'growth': self.growth,
                'memory': self.memory, 'processor': self.processor, 'statuses': self.statuses, 'waits': np.percentile(
                    self.waits, [1, 10, 25, 50, 75, 90, 99, 100]).tolist(),
                'faults': {kind: dict(answers) for kind, answers in self.faults.items()}}


def measure(options):
    """Return the :class:`Load` of the options of :func:`add_options`.

    :raises CheckFailed: if the service ends by itself, or not in peace when it is asked to.
    """
    images = [Path(path).read_bytes() for path in find_images(options.images)[:500]]
    predictor = Predictor(options.export, engine=options.engine, threads=2)
    command = ['-m', 'gluon_fgvc', 'serve', options.export, '--port', '0', '--engine', predictor.engine,
               '--predict-seconds', '300']  # how long they wait is a result here
    process = subprocess.Popen([sys.executable, '-W', 'ignore', *command], stdout=subprocess.PIPE, text=True)
    try:
        process.stdout.readline()
        port = int(re.search(r':(\d+),', process.stdout.readline()).group(1))
        load = asyncio.run(_alternate(process, port, predictor, images, options))
        process.send_signal(signal.SIGTERM)
        if process.wait(60) != 0:
            raise CheckFailed(f'the service ended with {process.returncode} when it was told to stop')
    finally:
        process.kill()
        process.wait()
    return load


async def _alternate(process, port, predictor, images, options):
    turns = max(1, round(options.seconds / TURN))
    clients = _Clients(port, images)
    served, offline, memory, processor = [], [], [], {'service': 0.0, 'clients': 0.0}
    await clients.load(options.clients, SETTLE)
    clients.forget()
    for _ in range(turns):
        watch = asyncio.ensure_future(_watch(process.pid, memory))
        before, own = _processor_seconds(process.pid), time.process_time()
        served.append(await clients.load(options.clients, options.seconds / turns))
        processor['clients'] += time.process_time() - own
        processor['service'] += _processor_seconds(process.pid) - before
        watch.cancel()
        if process.poll() is not None:
            raise CheckFailed(f'the service ended with {process.returncode} under load')
        offline.append(_offline(predictor, images, options.seconds / turns / 2))
    return Load({'engine': predictor.engine, 'clients': options.clients, 'seconds': options.seconds,
                 'images': len(images), 'batch_size': predictor.batch_size}, served, offline, clients.waits,
                dict(clients.statuses), clients.faults, memory, processor)


def _offline(predictor, images, seconds):
    """Return how many images a second the predictor classifies in full batches."""
    batch, count, start = (images * predictor.batch_size)[:4 * predictor.batch_size], 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        predictor.predict(batch)
        count += len(batch)
    return count / (time.perf_counter() - start)


def _processor_seconds(pid):
    """Return the seconds of processor time that a process has used, of user and kernel."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf('SC_CLK_TCK')


async def _watch(pid, memory):
    while True:
        text = Path(f'/proc/{pid}/status').read_text()
        memory.append(int(re.search(r'VmRSS:\s+(\d+) kB', text).group(1)) / 1024)
        await asyncio.sleep(1)


class _Clients:
    """Good clients, each sending one image after the other, and one of each kind of bad ones."""

    def __init__(self, port, images):
        self._port, self._requests = port, [_request(image) for image in images]
        self.forget()

    def forget(self):
        self.waits, self.statuses = [], Counter()
        self.faults = {name: Counter() for name in ('malformed', 'oversized', 'slow', 'killed')}

    async def load(self, count, seconds):
        """Send for so many seconds; return how many images were answered a second."""
        start, before = time.perf_counter(), len(self.waits)
        end = start + seconds
        bad = [asyncio.ensure_future(self._bad(name, end)) for name in self.faults]
        await asyncio.gather(*(self._good(i, end) for i in range(count)))
        taken = time.perf_counter() - start
        for task in bad:
            task.cancel()
        await asyncio.gather(*bad, return_exceptions=True)
        return (len(self.waits) - before) / taken

    async def _good(self, number, end):
        reader, writer = await asyncio.open_connection('127.0.0.1', self._port)
        while time.perf_counter() < end:
            number += 1
            start = time.perf_counter()
            writer.write(self._requests[number % len(self._requests)])
            status = await _answer(reader)
            self.statuses[status] += 1
            if status == '200':
                self.waits.append(time.perf_counter() - start)
            else:
                await asyncio.sleep(0.5)
                writer.close()
                reader, writer = await asyncio.open_connection('127.0.0.1', self._port)
        writer.close()

    async def _bad(self, name, end):
        whole = self._requests[0]
        text = {'malformed': _request(b'\x89PNG\r\n\x1a\n' + bytes(200)), 'slow': whole[:-10],
                'oversized': b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n',
                'killed': whole[:len(whole) // 2]}[name]
        while time.perf_counter() < end:
            reader, writer = await asyncio.open_connection('127.0.0.1', self._port)
            writer.write(text)
            try:
                self.faults[name][await _answer(reader) if name != 'killed' else 'closed'] += 1
            except (asyncio.IncompleteReadError, ConnectionError):
                self.faults[name]['closed'] += 1
            finally:
                writer.close()
            await asyncio.sleep(0.2)


def _request(image):
    return b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s' % (len(image), image)


async def _answer(reader):
    head = await reader.readuntil(b'\r\n\r\n')
    length = re.search(rb'content-length: (\d+)', head, re.I)
    await reader.readexactly(int(length.group(1)) if length else 0)
    return head[9:12].decode()

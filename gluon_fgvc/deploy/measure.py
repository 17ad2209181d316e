"""How fast formats of an export are and how much memory each needs: one process a format, taking turns.

``python -m gluon_fgvc.deploy.measure FOLDER FORMAT`` loads a format and answers each line of a number, of images in a
batch, with the seconds that it took, and an empty line with its largest memory in MiB.
"""
import contextlib
import json
import statistics
import subprocess
import sys
import time

import numpy as np

from gluon_fgvc.errors import CheckFailed


def measure(folder, names, batches=(1, 16), rounds=5):
    """Return dict of format → {'seconds': {batch: median}, 'peak_memory_mib': …}.

    Each round asks every format once for every batch, so that what else the machine does meets all alike. The memory is
    that of the whole process, with Python and the libraries.
    """
    with contextlib.ExitStack() as stack:
        words = [sys.executable, '-W', 'ignore', '-m', __name__, str(folder)]
        workers = {name: stack.enter_context(Worker(f"format '{name}'", [*words, name])) for name in names}
        seconds = {name: {batch: [] for batch in batches} for name in names}
        for _ in range(rounds):
            for batch in batches:
                for name, worker in workers.items():
                    seconds[name][batch].append(worker.ask(batch))
        return {name: {'seconds': {batch: statistics.median(values) for batch, values in seconds[name].items()},
                       'peak_memory_mib': worker.ask('')} for name, worker in workers.items()}


class Worker:
    """A process that answers each line, of JSON, until the end of the block; ``name`` is for messages."""

    def __init__(self, name, words):
        self._name = name
        self._process = subprocess.Popen(words, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._process.kill()
        self._process.communicate()

    def ask(self, words):
        """Return what it answers.

        :raises CheckFailed: with its last word, if it has ended.
        """
        try:
            self._process.stdin.write(f'{words}\n')
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # what it says on standard error tells why
        answer = self._process.stdout.readline()
        if not answer:
            reason = self._process.communicate()[1].strip().splitlines() or ['it ended']
            raise CheckFailed(f'{self._name} cannot be run: {reason[-1]}')
        return json.loads(answer)


def _answer(folder, name):
    from gluon_fgvc.deploy.formats import open_format
    from gluon_fgvc.deploy.metadata import Metadata
    model, size = open_format(folder, name), Metadata.read(folder).size
    warm = set()
    for line in sys.stdin:
        if not line.strip():
            print(json.dumps(_peak_memory()), flush=True)
            continue
        batch = int(line)
        pixels = np.random.RandomState(0).randint(0, 256, (batch, *size, 3)).astype('uint8')
        if batch not in warm:
            model(pixels)
            warm.add(batch)
        start = time.perf_counter()
        model(pixels)
        print(json.dumps(time.perf_counter() - start), flush=True)


def _peak_memory():
    """Return the largest memory of this process in MiB; getrusage would also count the process that it began in."""
    with open('/proc/self/status', encoding='ascii') as stream:
        return next(round(int(line.split()[1]) / 1024) for line in stream if line.startswith('VmHWM'))


if __name__ == '__main__':
    _answer(*sys.argv[1:])

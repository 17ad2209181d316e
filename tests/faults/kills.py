"""Trainings of every method that are killed at random moments and resumed until they end: as an undisturbed one does.

``python -m tests.faults.kills FOLDER COUNT SEED`` kills COUNT times or a few more, prints one line for each finding and
each method, and a summary.
"""
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

SIZE = 32
OPTIONS = (('backbone.name', 'cluttered_cnn'), ('data.train', {'random_resized_crop': SIZE, 'flip': True}),
           ('data.eval', {'resize': [SIZE, SIZE]}), ('run.save_every_batches', 1))


class Training:
    """The training of one method in folder ``parent``, and how its kills ended.

    :ivar counts: of 'kills', of those 'within' the training (there was a checkpoint, and batches to come), of
        'trainings' that ended, of 'unreadable' checkpoints, 'differing' ends and 'failed' attempts.
    """

    def __init__(self, parent, method, rng):
        from tests.faults import trainings
        self.method, self.parent, self.rng, self.counts = method, parent, rng, Counter()
        self.cfgs = [trainings.configuration(parent, method, (*trainings.OPTIONS['everything'], *OPTIONS),
                                             workers=workers) for workers in (0, 1)]
        self.whole, began = parent / method, time.monotonic()
        code, text = self.attempt(self.whole, 600)
        if code:
            raise SystemExit(f'{method} does not train undisturbed: {text}')
        self.span = time.monotonic() - began  # seconds in which a kill comes

    def attempt(self, run, seconds):
        """Train in ``run`` for some seconds; return (exit code, or None if killed, and the last lines of stderr)."""
        cfg = self.rng.choice(self.cfgs)
        with tempfile.TemporaryFile() as stream:
            child = os.fork()
            if not child:
                _train(cfg, run, stream.fileno())
            _group(child)
            end, code = time.monotonic() + seconds, None
            while code is None and time.monotonic() < end:
                time.sleep(0.001)
                ended, status = os.waitpid(child, os.WNOHANG)
                code = os.waitstatus_to_exitcode(status) if ended else None
            if code is None:
                os.killpg(child, signal.SIGKILL)  # and its loader process
                os.waitpid(child, 0)
            stream.seek(0)
            return code, ' | '.join(stream.read().decode(errors='replace').strip().splitlines()[-4:])

    def killed_to_the_end(self, run):
        """Kill and resume a training until it ends by itself; return what is wrong, or None."""
        code, before = None, None
        while code is None:
            code, text = self.attempt(run, self.rng.uniform(0, self.span))
            if code:
                self.counts['failed'] += 1
                return f'exit code {code}: {text}'
            self.counts['kills'] += code is None
            problem, now = _look(run)
            if problem:
                self.counts['unreadable'] += 1
                return problem
            self.counts['within'] += code is None and now is not None and now['epoch'] < self.cfgs[0].train.epochs
            # The machine may be busier or quieter than it was.
            self.span *= 0.95 if code is not None else 1.05 if now == before else 1
            before = now
        self.counts['trainings'] += 1
        from tests.faults.trainings import assert_same_to_the_end
        try:
            assert_same_to_the_end(run, self.whole)
        except AssertionError as error:
            self.counts['differing'] += 1
            return f'another end: {error}'


def _train(cfg, run, stream):
    """Be the child that trains, and end."""
    code = 99
    try:
        _group(0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(stream, 2)
        from gluon_fgvc import runs
        runs.training.report = lambda run: None  # matplotlib takes longer than the training
        runs.train(cfg, run)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _group(process):
    """Make ``process`` the head of a group; called by both sides, as either may be first."""
    try:
        os.setpgid(process, process)
    except (ProcessLookupError, PermissionError):
        pass


def _look(run):
    """Return what is unreadable of the checkpoints in ``run``, or None, and the progress of the last, or None.

    Without MXNet, whose threads would not survive the next fork.
    """
    from gluon_fgvc.engine import checkpoint
    from gluon_fgvc.errors import UserError
    from gluon_fgvc.run_folder import manifests
    from gluon_fgvc.weights.mxnet_params import load_params
    try:
        records = {kind: manifests.read(run, kind) for kind in ('last', 'best', 'previous')}
        for record in filter(None, records.values()):
            load_params(manifests.file_of(run, record, '.params'))
        for record in filter(None, (records['last'], records['previous'])):
            checkpoint.load_arrays(run, record)
    except (UserError, OSError) as error:
        return f'unreadable: {error}', None
    return None, records['last'] and records['last']['progress']


def main(folder, count, seed):
    import gluon_fgvc.runs  # noqa: F401 - once, for all children; nothing here starts MXNet's threads
    from gluon_fgvc import methods
    from tests import small_run
    folder, rng, began, number = Path(folder).resolve(), random.Random(int(seed)), time.monotonic(), 0
    folder.mkdir(parents=True, exist_ok=True)
    small_run.write(folder, train=12, test=2)
    trainings = [Training(folder, method, rng) for method in methods.available()]
    while sum(training.counts['kills'] for training in trainings) < int(count):
        training, number = min(trainings, key=lambda training: training.counts['kills']), number + 1
        problem = training.killed_to_the_end(folder / f'run{number}')
        if problem:
            print(f'{training.method}, run{number}: {problem}', flush=True)
        else:
            shutil.rmtree(folder / f'run{number}')
    total = Counter()
    for training in trainings:
        total += training.counts
        print(f'{training.method}: {dict(training.counts)}')
    print(f"{total['kills']} kills, {total['within']} of them within a training, {total['trainings']} trainings: "
          f"{total['unreadable']} unreadable checkpoints, {total['differing']} differing ends, "
          f"{total['failed']} failed; {time.monotonic() - began:.0f} s")
    return int(bool(total['unreadable'] + total['differing'] + total['failed']))


if __name__ == '__main__':
    import gluon_fgvc  # noqa: F401 - before mxnet: it sets the threads
    sys.exit(main(*sys.argv[1:]))

"""The log of a run: on the terminal, as lines for people and as records for programs."""
import datetime
import sys

from tqdm import tqdm

from gluon_fgvc.engine.tensorboard import Curves
from gluon_fgvc.run_folder import RunFolder


class Log:
    """Writes lines for people and records for programs into ``folder``.

    :param done: record of the checkpoint that training goes on from, if any; later records, left by a run that was cut
        off, are dropped so that a resumed log equals an uninterrupted one.
    :param tensorboard: whether records also become curves for TensorBoard.
    """

    def __init__(self, folder, done=None, tensorboard=False):
        self.folder = RunFolder(folder)
        epoch, step = (done['epoch'], done['progress']['step']) if done else (0, 0)
        self.records = [record for record in self.folder.read_records()
                        if record['epoch'] < epoch or 'step' in record and record['step'] <= step]
        self.folder.write_records(self.records)
        self._curves = Curves(self.folder.tensorboard, self.records) if tensorboard else None

    def line(self, text):
        """Print ``text`` (through the progress bar, if one is shown) and keep it with the time."""
        tqdm.write(text, file=sys.stdout)
        sys.stdout.flush()
        self.folder.add_to_log(f'{datetime.datetime.now():%Y-%m-%d %H:%M:%S} {text}')

    def record(self, **values):
        """Add one record; those of kind 'epoch' are also the rows of a table."""
        self.records.append(values)
        self.folder.add_record(values)
        if self._curves:
            self._curves.add(values)
        if values['kind'] == 'epoch':
            self.folder.write_metrics_table(self.records)


class Silence:
    """The log of a process that does not write."""

    folder = None

    def line(self, text):
        """Say nothing."""

    def record(self, **values):
        """Keep nothing."""


def progress(total, label, unit='img', shown=True):
    """Return a progress bar on a terminal, and a silent one elsewhere."""
    return tqdm(total=total, desc=label, unit=unit, leave=False, dynamic_ncols=True,
                disable=not (shown and sys.stderr.isatty()))

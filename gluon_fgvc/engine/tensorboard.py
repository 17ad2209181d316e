"""The records of a run as curves for TensorBoard, by the package tensorboardX, where ``run.tensorboard`` asks so."""
from pathlib import Path

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import remove

NEEDED = 'run.tensorboard: the package tensorboardX is not installed; run: pip install gluon_fgvc[tensorboard]'


def check_installed():
    """Raise the ConfigError of a missing package, before a training begins."""
    try:
        import tensorboardX  # noqa: F401
    except ImportError:
        raise ConfigError(NEEDED) from None


class Curves:
    """Curves in ``folder`` of all that :class:`~.log.Log` records: of steps, of epochs.

    The events there are written anew from ``records``, those of a run that is gone on with, so that the curves are what
    metrics.jsonl says, whatever was cut off.
    """

    def __init__(self, folder, records=()):
        check_installed()
        from tensorboardX import SummaryWriter
        for old in Path(folder).glob('events.out.tfevents.*'):
            remove(old)
        self._writer = SummaryWriter(str(folder), flush_secs=10)
        for record in records:
            self.add(record)

    def add(self, record):
        """Draw the numbers of ``record``: of a step over the steps, of an epoch over the epochs, which count from 1."""
        kind, place = record['kind'], record.get('step', record['epoch'] + 1)
        for name, value in record.items():
            if name not in ('epoch', 'step') and isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.add_scalar(f'{kind}/{name}', value, place)
        if kind == 'epoch':
            self._writer.flush()

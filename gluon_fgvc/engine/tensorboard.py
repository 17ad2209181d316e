"""The records of a run as curves for TensorBoard, by the package tensorboardX, where ``run.tensorboard`` asks so."""
import time
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
        from tensorboardX.event_file_writer import EventsWriter  # without the thread that loses the end of a run
        for old in Path(folder).glob('events.out.tfevents.*'):
            remove(old)
        Path(folder).mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(Path(folder) / 'events'))
        for record in records:
            self.add(record)

    def add(self, record):
        """Draw the numbers of ``record``: of a step over the steps, of an epoch over the epochs, which count from 1."""
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar
        kind, place = record['kind'], record.get('step', record['epoch'] + 1)
        for name, value in record.items():
            if name not in ('epoch', 'step') and isinstance(value, (int, float)) and not isinstance(value, bool):
                self._writer.write_event(Event(wall_time=time.time(), step=place,
                                               summary=scalar(f'{kind}/{name}', value)))
        self._writer.flush()

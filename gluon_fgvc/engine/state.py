"""How far a training has come, and its checkpoints: what a resumed run starts from."""
import json
import math
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Optional

import numpy as np
from mxnet import nd

from gluon_fgvc.engine import checkpoint, optim
from gluon_fgvc.engine.average import ParameterAverage
from gluon_fgvc.engine.monitor import Monitor
from gluon_fgvc.engine.team import Alone
from gluon_fgvc.errors import CheckpointError, TrainingError
from gluon_fgvc.nn.parameters import STATISTICS, contexts_of, structural, to_numpy

# Values of train.select_by → what it is called in the row of an epoch.
MEASURES = {'top1': 'val_top1', 'loss': 'val_loss', 'nll': 'val_loss', 'mean_class': 'val_mean_class_accuracy',
            'macro_f1': 'val_macro_f1'}


@dataclass
class Progress:
    """Where a training stands after ``epoch`` completed epochs, and within the next after ``batch`` batches.

    Behind the last batch of an epoch all devices hold the same statistics, and validation comes next.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    lr: Optional[float] = None                # of the last step
    best: dict = field(default_factory=dict)  # epoch, value and split of the best checkpoint
    without_gain: int = 0                     # epochs since then, for early stopping

    def __str__(self):
        return f'epoch {self.epoch}' + (f' and {self.batch} batches' if self.batch else '')


class State:
    """The progress of a training, its moving average and its checkpoints in one run folder.

    :param folder: run folder; ``net`` the block whose parameters are kept; ``settings`` the section ``train``.
    :param team: :class:`~.team.Team` of which the process of rank 0 has the folder; all call the same methods.
    """

    def __init__(self, folder, net, settings, team=None):
        self.folder, self.net, self.select_by, self.team = folder, net, settings.select_by, team or Alone()
        self.average = ParameterAverage(net, settings.ema) if settings.ema else None
        self.now, self.monitor, self._resumed = Progress(), None, None
        self._kept = 0, 0

    def resume(self, say):
        """Take up the last good checkpoint; return whether there was one.

        :param say: is told, in one line, where the last one is damaged and the one before it takes its place.
        """
        record, arrays = self._read(say) if self.team.writes else (None, {})
        if self.team.size > 1:
            record, arrays = self._spread(record, arrays)
        if record is None:
            return False
        if self.average:
            self.average.restore(_below(arrays, 'average:'), record['average_steps'])
        self.now = _progress(self.folder, record)
        self._kept, self._resumed = (self.now.epoch, self.now.batch), (arrays, record)
        return True

    def _read(self, say):
        record = checkpoint.recover(self.folder, say)
        if record is None:
            return None, {}
        checkpoint.remove_unnamed(self.folder)
        checkpoint.load_parameters(self.folder, record, self.net)
        return record, checkpoint.load_arrays(self.folder, record)

    def _spread(self, record, arrays):
        """Give all processes what the first one has: parameters, also where there is no checkpoint, and the rest."""
        own = {f'parameters:{name}': array for name, array in to_numpy(self.net).items()}
        facts = np.frombuffer(json.dumps(record).encode(), 'uint8')
        content = checkpoint.pack({**arrays, **own, 'record': facts}) if self.team.writes else b''
        arrays = checkpoint.unpack(self.team.collect(content)[0])
        parameters = structural(self.net)
        for name, array in _below(arrays, 'parameters:').items():
            parameters[name].set_data(nd.array(array, dtype=array.dtype))
        return json.loads(arrays.pop('record').tobytes()), arrays

    def begin_epoch(self, place, trainer, parameters, fresh):
        """Watch an epoch anew; right after :meth:`resume` with what the checkpoint knew of it, and of the optimizer.

        :param place: words for errors, see :class:`~.monitor.Monitor`.
        :param fresh: whether the optimizer is to forget.
        """
        self.monitor, resumed, self._resumed = Monitor(place), self._resumed, None
        if resumed is None:
            return
        arrays, record = resumed
        try:
            self._take_up(arrays, record, trainer, parameters, fresh)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, CheckpointError):
                raise
            raise CheckpointError(f"the last checkpoint in '{self.folder}' is not whole: {error!r}") from None

    def _take_up(self, arrays, record, trainer, parameters, fresh):
        if not fresh:
            optim.restore_states(trainer, parameters, _below(arrays, 'optimizer:'), record['update_counts'])
        if self.now.batch:
            watched = record['monitor']
            if len(watched) != self.team.size:
                raise CheckpointError(f'within an epoch training goes on with as many processes as before, '
                                      f'{len(watched)}; there are {self.team.size}')
            own = _below(arrays, f'process{self.team.rank}:')
            self.monitor.restore(_below(own, 'monitor:'), watched[self.team.rank], contexts_of(self.net))
            for name, array in _below(own, 'average:').items():
                self.average.arrays[name][:] = array
            for name, array in _below(own, 'device').items():
                device, _, name = name.partition(':')
                replicas = parameters[name].list_data()
                if int(device) < len(replicas):
                    replicas[int(device)][:] = array

    def judge(self, row):
        """Count the epoch of ``row`` as completed, and return whether it is the best so far.

        Validation decides; without a validation split the last epoch is the best by definition.
        """
        validated, epoch = 'val_loss' in row, self.now.epoch
        better = not validated or not self.now.best or _score(row, self.select_by) > self.now.best['score']
        self.now.epoch, self.now.batch = epoch + 1, 0
        self.now.without_gain = 0 if better else self.now.without_gain + 1
        if better:
            self.now.best = self._chosen(epoch, row) if validated else {'epoch': epoch, 'split': None}
        return better

    def start(self, summary):
        """Keep the parameters as they are as the checkpoints of epoch 0: a training there starts from them.

        :param summary: what validation said of them, which later epochs must beat; None without validation.
        """
        row = {f'val_{name}': value for name, value in (summary or {}).items()}
        self.now.best = self._chosen(-1, row) if row else {'epoch': -1, 'split': None}
        self.keep_best()
        self.keep_last(({}, {}))

    def keep_best(self):
        """Write the checkpoint 'best', of the average where there is one."""
        if not self.team.writes:
            return
        with self.averaged():
            checkpoint.save(self.folder, 'best', self.net, {'epoch': self.now.epoch, 'chosen_by': self.now.best})

    def keep_last(self, states):
        """Write the checkpoint 'last' and return the hash of its parameters.

        :param states: what :func:`.optim.states` returns.
        """
        within = self._within_epoch() if self.now.batch else None
        self._kept = self.now.epoch, self.now.batch
        if not self.team.writes:
            return None
        arrays, counts = states
        arrays = {f'optimizer:{name}': array for name, array in arrays.items()}
        if self.average:
            arrays.update({f'average:{name}': array for name, array in self.average.state().items()})
        record = {'epoch': self.now.epoch, 'progress': vars(self.now), 'update_counts': counts,
                  'average_steps': self.average.steps if self.average else 0}
        if within:
            record['monitor'] = [json.loads(own.pop('counts').tobytes()) for own in within]
            arrays.update({f'process{rank}:{name}': array for rank, own in enumerate(within)
                           for name, array in own.items()})
        try:
            return checkpoint.save(self.folder, 'last', self.net, record, arrays)
        except BaseException:
            self._kept = None
            raise

    def _within_epoch(self):
        """Return, of each process, the arrays that only it has in the middle of an epoch.

        What the log will say of the epoch, and the statistics of BatchNorm, of which each device has its own; those of
        the very first device are in the parameters.
        """
        watched, counts = self.monitor.state()
        own = {f'monitor:{name}': array for name, array in watched.items()}
        own['counts'] = np.frombuffer(json.dumps(counts).encode(), 'uint8')
        own.update({f'device{device}:{name}': array.asnumpy()
                    for name, parameter in structural(self.net).items() if name.endswith(STATISTICS)
                    for device, array in enumerate(parameter.list_data()) if device or self.team.rank})
        if self.average and self.team.rank:
            own.update({f'average:{name}': array.asnumpy() for name, array in self.average.statistics().items()})
        return [checkpoint.unpack(content) for content in self.team.collect(checkpoint.pack(own))]

    @property
    def is_kept(self):
        """Whether the checkpoint 'last' is of this batch; of an untrained network there need be none."""
        return self._kept == (self.now.epoch, self.now.batch)

    def averaged(self):
        """Return a context in which the network has the averaged parameters, or its own where there is no average."""
        return self.average.in_place() if self.average else nullcontext()

    def _chosen(self, epoch, row):
        temperature = {'temperature': row['val_temperature']} if 'val_temperature' in row else {}
        return {'epoch': epoch, 'split': 'val', 'metric': self.select_by, 'value': row[MEASURES[self.select_by]],
                'score': _score(row, self.select_by), **temperature}


def check_validation(summary):
    """Raise TrainingError where the validation loss is not finite."""
    if not math.isfinite(summary['loss']):
        raise TrainingError('the validation loss is not finite: the last update left the network broken; lower '
                            'train.optimizer.lr or add a warm-up; the checkpoints of earlier epochs are intact')


def _progress(folder, record):
    """Return the :class:`Progress` of a ``record``, whose types are checked."""
    try:
        now = Progress(**record['progress'])
        score = now.best.get('score', [0, 0])
        if (any(type(number) is not int or number < 0 for number in (now.epoch, now.batch, now.step, now.without_gain))
                or len(score) != 2 or not all(isinstance(number, (int, float)) for number in (*score, now.lr or 0))):
            raise TypeError
    except (KeyError, TypeError, AttributeError):
        raise CheckpointError(f"'{folder}': the last checkpoint does not say how far the training had come") from None
    return now


def _below(arrays, prefix):
    return {key[len(prefix):]: array for key, array in arrays.items() if key.startswith(prefix)}


def _score(row, select_by):
    """Return what is compared, larger is better: the chosen measure first, and loss, or top-1, to break ties."""
    key = MEASURES[select_by]
    return [-row['val_loss'], row['val_top1']] if key == 'val_loss' else [row[key], -row['val_loss']]

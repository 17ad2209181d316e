"""The story of a training: phases and epochs, validation, the best epoch, checkpoints. Explicit, and the only one."""
import time
from dataclasses import dataclass
from typing import Any, Callable

import mxnet as mx

from gluon_fgvc.engine import layer_decay, metrics, optim, phases, targets, temperature
from gluon_fgvc.engine.criteria import Criterion
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.engine.reuse import Feeds
from gluon_fgvc.engine.state import State, check_validation
from gluon_fgvc.engine.team import Alone
from gluon_fgvc.engine.train_epoch import train_epoch
from gluon_fgvc.errors import Interrupted
from gluon_fgvc.nn.parameters import compile_net, contexts_of, structural


@dataclass(frozen=True)
class TrainingData:
    """What a training is fed."""

    train: Any           # loader
    val: Any             # loader, or None: the last epoch is then the best
    normalize: Callable  # uint8 batch (N,H,W,3) → the network's input
    num_classes: int     # K


def fit(method, data, cfg, log, team=None):
    """Train ``method`` and return the final :class:`~.state.Progress`; resumes by itself what ``log.folder`` has.

    :param data: :class:`TrainingData`.
    :param cfg: configuration, of which ``train``, ``run`` and ``data.batch_size`` are used.
    :param log: :class:`~.log.Log` of the run folder, which also receives the checkpoints.
    :param team: :class:`~.team.Team` of processes that train together; None is this one alone.
    :raises TrainingError: when a loss is no longer finite; checkpoints are those of earlier epochs.
    :raises Interrupted: when the process was asked to end, see :mod:`.ending`; the checkpoint is of that batch.

    The random numbers of a step come from (seed, step), those of a sample from (seed, epoch, index), so a
    resumed run repeats an uninterrupted one bit for bit (for one kind of processor and number of threads).
    """
    team = team or Alone()
    training, trainer = Training(method, data, cfg, log, team), None
    timeline = phases.timeline(method.phases(cfg.train.epochs), cfg.train.epochs)
    state = State(log.folder, method.train_net, cfg.train, team)
    if state.resume(log.line):
        log.line(f'resuming after {state.now}')

    for epoch in range(state.now.epoch, cfg.train.epochs):
        if _has_stopped(state.now, cfg.run):
            log.line(f'stopped: no better validation {cfg.train.select_by} for {state.now.without_gain} epochs')
            break
        started, stretch = time.time(), timeline[epoch]
        fresh = stretch.phase.fresh_optimizer and epoch == stretch.first and not state.now.batch
        if trainer is None or stretch.phase is not timeline[epoch - 1].phase:
            training.enter(stretch.phase)
        if trainer is None or fresh:
            trainer = optim.make_trainer(training.parameters, cfg.train.optimizer, cfg.run.kvstore, team)
        state.begin_epoch(f"epoch {epoch + 1}, phase '{stretch.phase.name}'", trainer, training.parameters, fresh)

        try:
            row = {'epoch': epoch, 'phase': stretch.phase.name, **train_epoch(training, stretch, trainer, state)}
            if data.val is not None:
                row.update(training.validate(state))
        except Interrupted as request:
            training.keep(state, trainer)
            raise Interrupted(f'{request}: all is kept up to {state.now}; --resume goes on there') from None
        better = state.judge(row)
        _report(training, stretch.phase, {**row, 'seconds': round(time.time() - started, 2)}, better)
        if better:
            state.keep_best()
        is_last = state.now.epoch == cfg.train.epochs or _has_stopped(state.now, cfg.run)
        if state.now.epoch % cfg.run.save_every == 0 or is_last:
            digest = training.keep(state, trainer)
            if is_last:
                log.line(f'parameters after epoch {state.now.epoch}: sha256 {digest}')
    return state.now


class Training:
    """What stays the same from the first epoch to the last, and the phase that has been entered."""

    def __init__(self, method, data, cfg, log, team):
        self.method, self.data, self.cfg, self.log, self.team = method, data, cfg, log, team
        self.parameters, self.contexts = structural(method.train_net), contexts_of(method.train_net)
        factors = targets.class_weights(cfg.train.class_weights, data.train.image_set.labels, data.num_classes)
        self.class_weights = None if factors is None else {
            context: mx.nd.array(factors, ctx=context) for context in self.contexts}
        method.criterion = Criterion(cfg.train, data.train.image_set.labels, data.num_classes)
        self._feeds, self.feed = Feeds(method, data, self.contexts, reuse=team.size == 1), None

    def enter(self, phase):
        """Apply ``phase`` to the network and find where its batches come from."""
        learning = phases.enter(phase, self.method.train_net, self.cfg.run.hybridize)
        for name, factor in layer_decay.factors(self.parameters, self.cfg.train.optimizer.layer_decay).items():
            self.parameters[name].lr_mult *= factor
        if self.cfg.train.accumulate > 1:
            for name in learning:
                self.parameters[name].grad_req = 'add'
        if self.method.net is not self.method.train_net:
            compile_net(self.method.net, self.cfg.run.hybridize)
        self.feed, cheaper = self._feeds.of(phase, self.cfg.train, self.cfg.run.hybridize)
        statistics = phase.batch_norm
        if statistics == 'moving' and self.cfg.backbone.batch_norm == 'fixed':
            statistics += ", the backbone's fixed"
        self.log.line(f"phase '{phase.name}': {len(learning)} of {len(self.parameters)} parameters learn, BatchNorm "
                      f'statistics {statistics}' + (f'; {cheaper}' if cheaper else ''))

    def keep(self, state, trainer):
        """Write the checkpoint 'last' and return the hash of its parameters; None if it is there already."""
        if not state.is_kept:
            if state.now.batch:
                mx.nd.waitall()
                state.monitor.stop_if_bad()
                state.monitor.stop_if_broken(self.parameters)
            return state.keep_last(optim.states(trainer, self.parameters))

    def validate(self, state):
        """Return what the validation split says of the network that would be kept, ``val_…``."""
        scores = temperature.Scores(len(self.data.val.image_set), self.data.num_classes)
        with state.averaged():
            predictions = predict(self.feed.net, self.feed.prepare, self.feed.val, self.contexts, scores=scores)
        if self.team.size > 1:
            predictions = predictions.gather(self.team)
            scores.gather(self.team)
        summary = metrics.summary(predictions, self.data.num_classes)
        check_validation(summary)
        return {f'val_{name}': value for name, value in {**summary, 'temperature': scores.fit()}.items()}


def _has_stopped(now, run):
    return run.early_stop_patience and now.without_gain >= run.early_stop_patience


def _report(training, phase, row, better):
    """Write the records of an epoch, and its line for people."""
    log, epoch = training.log, row['epoch']
    log.record(kind='epoch', **row)
    facts = training.method.facts(phase)
    if facts:
        log.record(kind='method', epoch=epoch, phase=phase.name, **facts)
    words = [f"train loss {row['train_loss']:.4f}" + (f" top-1 {row['train_top1']:.4f}" if 'train_top1' in row else '')]
    if 'val_loss' in row:
        words.append(f"val loss {row['val_loss']:.4f} top-1 {row['val_top1']:.4f}")
    words += [f"{row['seconds']:.0f} s", *(['best so far'] if better and 'val_loss' in row else [])]
    log.line(f"epoch {epoch + 1}/{training.cfg.train.epochs} ({phase.name}): {' · '.join(words)}")

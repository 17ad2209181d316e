"""One epoch: batches become steps, and a line of the log every so often."""
import time

import mxnet as mx
import numpy as np
from mxnet.gluon.utils import split_and_load

from gluon_fgvc.engine import mixing, optim, targets
from gluon_fgvc.engine.gradient_norms import Probe, in_words
from gluon_fgvc.engine.log import progress
from gluon_fgvc.engine.step import Shard, Step
from gluon_fgvc.nn.parameters import unite_statistics


def train_epoch(training, stretch, trainer, state):
    """Train what is left of the next epoch of ``state`` and return its row of means.

    Between batches ``state`` is whole: it is kept every ``run.save_every_batches``, and by whoever catches
    :class:`~gluon_fgvc.errors.Interrupted`.

    :param training: :class:`~gluon_fgvc.engine.fit.Training`, with its phase entered.
    :param stretch: :class:`~gluon_fgvc.engine.phases.Stretch`, over which the learning rate is scheduled.
    :returns: dict: ``lr`` of the last step, ``train_loss``, ``train_top1`` and, of several terms, ``train_<term>``.
    :raises TrainingError: when a loss or a parameter is no longer finite.
    :raises Interrupted: when the process was asked to end.
    """
    settings, run, now, monitor = training.cfg.train, training.cfg.run, state.now, state.monitor
    loader, epoch, team = training.feed.train, now.epoch, training.team
    team.stop_if_asked()

    def take(kind, batch):
        """Hand a :class:`Step`, or what looks at one, to the method; both see the same random numbers."""
        generator = _seed_step(run.seed, now.step, *filter(None, [team.rank]))
        step = kind(training.method, stretch.phase, training.feed.train_net, trainer,
                    _shards(training, batch, generator), monitor, now.step, training.class_weights,
                    settings)
        training.method.step(step)
        return step

    mark, seen, batches, ended = time.time(), 0, len(loader), now.batch == len(loader)
    with progress(batches * training.cfg.data.batch_size, f'epoch {epoch + 1}/{settings.epochs}',
                  shown=team.writes) as bar:
        bar.update(now.batch * training.cfg.data.batch_size)
        # A loader of somebody else's may not know where to start, and need not where it is the beginning.
        for batch in loader.epoch(epoch, now.batch) if now.batch else loader.epoch(epoch):
            number = now.batch if batch.number is None else batch.number
            now.lr = optim.learning_rate(settings.schedule, settings.optimizer.lr,
                                         epoch - stretch.first + number / batches, stretch.length)
            trainer.set_learning_rate(now.lr)
            if run.log_gradients and now.step % run.log_gradients == 0:
                _log_gradients(training.log, take(Probe, batch).norms, epoch, now.step, stretch.phase)
            take(Step, batch)
            if state.average:
                state.average.update()
            now.step, now.batch = now.step + 1, number + 1
            seen += len(batch.indices)
            bar.update(len(batch.indices))
            if now.step % run.log_every == 0:
                means, clock = monitor.read(team), time.time()
                speed, mark, seen = seen / max(clock - mark, 1e-9), clock, 0
                training.log.record(kind='train', epoch=epoch, step=now.step, phase=stretch.phase.name, lr=now.lr,
                                    **means, images_per_s=round(speed, 2))
                bar.set_postfix_str(f"loss {means['loss']:.4f} top1 {means.get('top1', float('nan')):.3f}")
            if now.batch < batches:
                _keep_if_due(training, trainer, state)
                team.stop_if_asked()
    if not ended:  # resumed behind the last batch, the statistics are one already
        # A compiled backward pass moves BatchNorm's statistics unseen by the scheduler: nothing may read
        # them (validation, checkpoint) before it has ended.
        mx.nd.waitall()
        unite_statistics(training.parameters, team)
        if state.average:
            state.average.unite(team)
        now.batch = batches
        _keep_if_due(training, trainer, state)
    monitor.stop_if_bad()
    monitor.stop_if_broken(training.parameters)
    team.stop_if_asked()
    return {'lr': now.lr, **monitor.row(team)}


def _keep_if_due(training, trainer, state):
    every = training.cfg.run.save_every_batches
    if every and state.now.batch % every == 0:
        training.keep(state, trainer)


def _log_gradients(log, norms, epoch, step, phase):
    """Write the record and the line of what a :class:`~.gradient_norms.Probe` has found before ``step``."""
    log.record(kind='gradients', epoch=epoch, step=step, phase=phase.name, norms=norms)
    log.line(f'gradient before step {step + 1} · {in_words(norms)}')


def _seed_step(seed, step, *rank):
    """Seed MXNet for one step and return a numpy generator for what is drawn on the host; others in other ranks."""
    sequence = np.random.SeedSequence((seed, step, *rank))
    mx.random.seed(int(sequence.generate_state(1)[0] >> 1))
    return np.random.Generator(np.random.PCG64(sequence))


def _shards(training, batch, generator):
    """Spread ``batch`` over the devices, normalised, its labels turned into what the losses are held to."""
    settings, shards = training.cfg.train, []
    contexts = training.contexts[:len(batch.indices)]  # a small last batch leaves devices idle
    for images, labels in zip(split_and_load(batch.images, contexts, even_split=False),
                              split_and_load(batch.labels, contexts, even_split=False)):
        images, wanted = training.feed.prepare(images), labels
        mixes = settings.mixup or settings.cutmix
        if settings.label_smoothing or mixes:
            wanted = targets.probabilities(labels, training.data.num_classes, settings.label_smoothing)
        if mixes:
            images, wanted = mixing.mix(images, wanted, settings, generator)
        shards.append(Shard(images, labels, wanted))
    return shards

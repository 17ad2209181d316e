"""The training loop: phases, epochs, batches, devices. Explicit, and the only one."""
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass, field

import mxnet as mx
import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import split_and_load

from gluon_fgvc.engine import checkpoint, metrics, optim, phases, targets
from gluon_fgvc.engine.average import ParameterAverage
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.engine.log import progress
from gluon_fgvc.engine.parameters import structural
from gluon_fgvc.engine.reuse import Feeds
from gluon_fgvc.errors import ConfigError, TrainingError


@dataclass
class Progress:
    """Where a training stands after ``epoch`` completed epochs; what a resumed run starts from."""

    epoch: int = 0
    step: int = 0
    best: dict = field(default_factory=dict)  # epoch, value and split of the best checkpoint
    without_gain: int = 0                     # epochs since then, for early stopping


def fit(method, train, val, config, folder, log, *, normalize, contexts, num_classes):
    """Train ``method`` and return the final :class:`Progress`; resumes by itself if ``folder`` has a checkpoint.

    :param train, val: pairs (image set, loader); ``val`` may be None, and then the last epoch is the best.
    :param normalize: block that turns a uint8 batch (N,H,W,3) into the network's input.
    :raises TrainingError: when a loss is no longer finite; checkpoints are those of earlier epochs.

    The random numbers of a step come from (seed, step), those of a sample from (seed, epoch, index), so a
    resumed run repeats an uninterrupted one bit for bit (for one kind of processor and number of threads).
    """
    settings, run, net = config.train, config.run, method.train_net
    train_set, train_loader = train
    parameters = structural(net)
    timeline = phases.timeline(method.phases(settings.epochs), settings.epochs)
    class_weights = targets.class_weights(settings.class_weights, train_set.labels, num_classes)
    if class_weights is not None:
        class_weights = {context: mx.nd.array(class_weights, ctx=context) for context in contexts}
    average = ParameterAverage(net, settings.ema) if settings.ema else None
    feeds = Feeds(method, train_loader, val and val[1], normalize, contexts)
    trainer = None
    state = _resume(folder, net, average)
    if state.record:
        log.line(f'resuming after epoch {state.progress.epoch}')
    now = state.progress

    for epoch in range(now.epoch, settings.epochs):
        if run.early_stop_patience and now.without_gain >= run.early_stop_patience:
            log.line(f'stopped: no better validation {settings.select_by} for {now.without_gain} epochs')
            break
        phase, first, length = timeline[epoch]
        if trainer is None or phase is not timeline[epoch - 1][0]:
            learning = phases.enter(phase, net, run.hybridize)
            if method.net is not net:
                method.net.hybridize(run.hybridize, static_alloc=run.hybridize, static_shape=run.hybridize)
            feed, cheaper = feeds.of(phase, settings, run.hybridize)
            log.line(f"phase '{phase.name}': {len(learning)} of {len(parameters)} parameters learn, BatchNorm "
                     f'statistics {phase.batch_norm}' + (f'; {cheaper}' if cheaper else ''))
        if trainer is None or (phase.fresh_optimizer and epoch == first):
            trainer = optim.make_trainer(parameters, settings.optimizer, run.kvstore)
        if state.record and epoch == now.epoch and not (phase.fresh_optimizer and epoch == first):
            state.restore_optimizer(trainer, parameters)
        state.record = None

        means, epoch_means, bad = metrics.RunningMeans(), metrics.RunningMeans(), metrics.FirstBad()
        started = mark = time.time()
        images_seen = images_marked = 0
        bar = progress(len(train_loader) * config.data.batch_size, f'epoch {epoch + 1}/{settings.epochs}')
        for step_of_epoch, batch in enumerate(feed.train.epoch(epoch)):
            if len(batch.indices) < len(contexts):  # after broken images, not enough are left for all devices
                now.step += 1
                continue
            rate = optim.learning_rate(settings.schedule, settings.optimizer.lr,
                                       epoch - first + step_of_epoch / len(train_loader), length)
            trainer.set_learning_rate(rate)
            generator = _seed_step(run.seed, now.step)
            totals = []
            for images, labels in zip(split_and_load(batch.images, contexts, even_split=False),
                                      split_and_load(batch.labels, contexts, even_split=False)):
                images, wanted = feed.prepare(images), labels
                if settings.label_smoothing or settings.mixup:
                    wanted = targets.probabilities(labels, num_classes, settings.label_smoothing)
                if settings.mixup:
                    images, wanted = targets.mix(images, wanted, settings.mixup, generator)
                with autograd.record():
                    outputs = _named(method.OUTPUTS, feed.train_net(images))
                    terms = method.losses(outputs, wanted)
                    total = _weighted_sum(terms, phase, wanted, class_weights)
                totals.append(total)
                for name, values in {**terms, 'loss': total}.items():
                    bad.watch(name, values, now.step)
                    means.add(name, values)
                    if len(terms) > 1 and name in terms:
                        epoch_means.add(f'train_{name}', values)
                hard = labels if labels.ndim == 1 else labels.argmax(axis=1)
                hit = outputs['logits'].argmax(axis=1) == hard
                means.add('top1', hit)
                epoch_means.add('train_loss', total)
                epoch_means.add('train_top1', hit)
            autograd.backward(totals)
            trainer.step(len(batch.indices))
            if average:
                average.update()
            now.step += 1
            images_seen += len(batch.indices)
            bar.update(len(batch.indices))
            if now.step % run.log_every == 0:
                _stop_if_bad(bad, phase, epoch)
                values, clock = means.read(), time.time()
                speed = (images_seen - images_marked) / max(clock - mark, 1e-9)
                mark, images_marked = clock, images_seen
                log.record(kind='train', epoch=epoch, step=now.step, phase=phase.name, lr=rate, **values,
                           images_per_s=round(speed, 2))
                bar.set_postfix_str(f"loss {values['loss']:.4f} top1 {values['top1']:.3f}")
        bar.close()
        # A compiled backward pass moves BatchNorm's statistics unseen by the scheduler: nothing may read
        # them (validation, checkpoint) before it has ended.
        mx.nd.waitall()
        _stop_if_bad(bad, phase, epoch)
        _stop_if_broken(parameters, phase, epoch)
        row = epoch_means.read()

        if val is not None:
            row.update(_validate(feed, average, val[0], contexts, num_classes))
        # Validation decides; without a validation split the last epoch is the best by definition.
        better = val is None or not now.best or _score(row, settings.select_by) > now.best['score']
        now.epoch = epoch + 1
        now.without_gain = 0 if better else now.without_gain + 1
        if better:
            now.best = {'epoch': epoch, 'split': None} if val is None else _chosen(epoch, row, settings.select_by)
        log.record(kind='epoch', epoch=epoch, phase=phase.name, lr=rate, **row, seconds=round(time.time() - started, 2))
        facts = method.facts()
        if facts:
            log.record(kind='method', epoch=epoch, phase=phase.name, **facts)
        log.line(_epoch_line(epoch, settings.epochs, phase, row, time.time() - started, better and val is not None))
        if better:
            _save_best(folder, net, average, now)
        last_epoch = now.epoch == settings.epochs or (
            run.early_stop_patience and now.without_gain >= run.early_stop_patience)
        if now.epoch % run.save_every == 0 or last_epoch:
            digest = _save_last(folder, net, average, optim.states(trainer, parameters), now)
            if last_epoch:
                log.line(f'parameters after epoch {now.epoch}: sha256 {digest}')
    return now


def _seed_step(seed, step):
    """Seed MXNet for one step and return a numpy generator for what is drawn on the host."""
    sequence = np.random.SeedSequence((seed, step))
    mx.random.seed(int(sequence.generate_state(1)[0] >> 1))
    return np.random.Generator(np.random.PCG64(sequence))


def _named(names, outputs):
    """Pair the outputs of ``train_net`` with their names."""
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if len(outputs) != len(names):
        raise TypeError(f'train_net returns {len(outputs)} outputs, OUTPUTS names {len(names)}')
    return dict(zip(names, outputs))


def _weighted_sum(terms, phase, labels, class_weights):
    """Return the loss of each image (N,).

    A penalty of the batch (1,) is added to every image's loss before backward: the trainer divides by
    the number of images, and back-propagated by itself the penalty would be divided too.
    """
    unknown = set(phase.loss_weights) - set(terms)
    if unknown:
        raise ConfigError(f"phase '{phase.name}' weighs loss terms that do not exist: {sorted(unknown)} "
                          f'(there are: {sorted(terms)})')
    images = labels.shape[0]
    weights = None if class_weights is None else targets.image_weights(class_weights[labels.context], labels)
    total = mx.nd.zeros((images,), ctx=labels.context)
    for name, values in terms.items():
        factor = phase.loss_weights.get(name, 1.0)
        if factor == 0:
            continue
        if weights is not None and values.shape == (images,):
            values = values * weights
        total = mx.nd.broadcast_add(total, values * factor)
    return total


def _stop_if_bad(bad, phase, epoch):
    found = bad.read()
    if found:
        step, term = found
        raise TrainingError(f"loss '{term}' is not finite at step {step} (epoch {epoch + 1}, phase '{phase.name}'); "
                            f'lower train.optimizer.lr or add a warm-up; the checkpoints of earlier epochs are intact')


def _stop_if_broken(parameters, phase, epoch):
    """Look at what is about to be kept: a ReLU can turn NaN into 0, and the loss then stays finite."""
    for name, parameter in parameters.items():
        if not np.isfinite(parameter.list_data()[0].asnumpy()).all():
            raise TrainingError(f"parameter '{name}' is not finite after epoch {epoch + 1} (phase '{phase.name}'); "
                                'lower train.optimizer.lr or add a warm-up; the checkpoints of earlier epochs are '
                                'intact')


def _validate(feed, average, image_set, contexts, num_classes):
    with average.in_place() if average else nullcontext():
        predictions = predict(feed.net, feed.prepare, feed.val, image_set, contexts)
    summary = metrics.summary(predictions, num_classes)
    if not math.isfinite(summary['loss']):
        raise TrainingError('the validation loss is not finite: the last update left the network broken; lower '
                            'train.optimizer.lr or add a warm-up; the checkpoints of earlier epochs are intact')
    return {f'val_{name}': value for name, value in summary.items()}


def _chosen(epoch, row, select_by):
    return {'epoch': epoch, 'split': 'val', 'metric': select_by, 'value': row[f'val_{select_by}'],
            'score': _score(row, select_by)}


def _score(row, select_by):
    """Return what is compared, larger is better: the chosen measure first, the other one to break ties."""
    top1, loss = row['val_top1'], -row['val_loss']
    return [top1, loss] if select_by == 'top1' else [loss, top1]


def _epoch_line(epoch, epochs, phase, row, seconds, best):
    validation = f" · val loss {row['val_loss']:.4f} top-1 {row['val_top1']:.4f}" if 'val_loss' in row else ''
    return (f"epoch {epoch + 1}/{epochs} ({phase.name}): train loss {row['train_loss']:.4f} top-1 "
            f"{row['train_top1']:.4f}{validation} · {seconds:.0f} s{' · best so far' if best else ''}")


# --- checkpoints -----------------------------------------------------------------------------

@dataclass
class _Resumed:
    """What a checkpoint holds besides the parameters."""

    progress: Progress
    record: dict = None
    arrays: dict = field(default_factory=dict)

    def restore_optimizer(self, trainer, parameters):
        arrays = {key[len('optimizer:'):]: a for key, a in self.arrays.items() if key.startswith('optimizer:')}
        optim.restore_states(trainer, parameters, arrays, self.record['update_counts'])


def _resume(folder, net, average):
    record = checkpoint.read(folder, 'last')
    if record is None:
        return _Resumed(Progress())
    checkpoint.remove_unnamed(folder)
    checkpoint.load_parameters(folder, record, net)
    arrays = checkpoint.load_arrays(folder, record)
    if average:
        average.restore({key[len('average:'):]: a for key, a in arrays.items() if key.startswith('average:')},
                        record['average_steps'])
    return _Resumed(Progress(**record['progress']), record, arrays)


def begin(folder, net, best, ema=0.0):
    """Write the checkpoints of epoch 0 into ``folder``: a training there starts from the parameters of ``net``.

    :param best: what validation said of ``net``, a :class:`~gluon_fgvc.engine.metrics.Predictions`' summary, which
        later epochs must beat, and what it is measured by, 'top1' or 'loss'; None without validation.
    :param ema: ``train.ema`` of that training.
    """
    now, average = Progress(best={'epoch': -1, 'split': None}), ParameterAverage(net, ema) if ema else None
    if best is not None:
        summary, metric = best
        row = {f'val_{name}': value for name, value in summary.items()}
        now.best = _chosen(-1, row, metric)
    _save_best(folder, net, average, now)
    _save_last(folder, net, average, ({}, {}), now)


def _save_last(folder, net, average, states, now):
    arrays, counts = states
    arrays = {f'optimizer:{name}': array for name, array in arrays.items()}
    if average:
        arrays.update({f'average:{name}': array for name, array in average.state().items()})
    record = {'epoch': now.epoch, 'progress': vars(now), 'update_counts': counts,
              'average_steps': average.steps if average else 0}
    return checkpoint.save(folder, 'last', net, record, arrays)


def _save_best(folder, net, average, now):
    with average.in_place() if average else nullcontext():
        checkpoint.save(folder, 'best', net, {'epoch': now.epoch, 'chosen_by': now.best})

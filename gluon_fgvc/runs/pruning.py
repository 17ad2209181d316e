"""From a run to the run folder of its pruned network, with what pruning cost and saved."""
import time
from dataclasses import dataclass
from itertools import islice
from statistics import median
from typing import Optional

import mxnet as mx

from gluon_fgvc import data
from gluon_fgvc import pruning as prune
from gluon_fgvc.engine import metrics
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.nn import Classifier, attention_convolutions, complexity
from gluon_fgvc.nn.parameters import compile_net
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.runs.build import build_method, changed, loader_of
from gluon_fgvc.runs.opened import open_run
from gluon_fgvc.runs.training import start_from, train

BODY = 'body.'
ROUNDS = 5  # times that speed is measured


@dataclass(frozen=True)
class Pruning:
    """Which channels go, see :mod:`gluon_fgvc.pruning`."""

    ranking: str = 'attention'         # one of choices.RANKINGS
    fraction: Optional[float] = None   # of the channels of each layer that goes
    threshold: Optional[float] = None  # instead: channels of a lower score go
    scope: str = 'inner'               # channels inside blocks, or 'all'
    multiple: int = 1                  # what is kept of a layer is a multiple of it
    batches: int = 20                  # of training, for the Taylor ranking and for measuring BatchNorm anew


def prune_run(run, out, pruning, *, epochs=0, overrides=()):
    """Remove channels from the network of a :class:`Run` and make ``out`` the run folder of the result, at epoch 0.

    :param pruning: :class:`Pruning`.
    :param epochs: of fine-tuning; 0 leaves the network as it is.
    :param overrides: pairs (dotted key, value) of the configuration of ``out``.
    :returns: dict of ``figures``: 'before', 'after' and, with epochs, 'fine-tuned' → size, speed and validation;
        ``removed`` and ``channels`` in how many ``groups``; ``constants_dropped``, layers.
    :raises ConfigError: for networks or rankings that do not go together, or nothing to remove.
    :raises CheckpointError: if ``out`` holds a run.
    """
    prune.check_amount(pruning.fraction, pruning.threshold)  # before anything is computed
    if RunFolder(out).is_run:
        raise CheckpointError(f"'{out}' holds a run already; name another folder")
    net = run.method.deployed()
    groups, kept, pruned = _pruned(run, net, pruning)
    cfg, method = _build(run, out, pruned, epochs, overrides)
    source = run.source if cfg.data == run.cfg.data else data.build(cfg.data)
    prune.precise_bn(method.net, (images for images, _ in _batches(run, pruning.batches, 'statistics')))
    figures = {'before': _figures(run, net, 'before'), 'after': _figures(run, method.net, 'after')}
    figures['before']['images_per_s'], figures['after']['images_per_s'] = _speeds(run, [net, method.net])
    start_from(cfg, out, method, source, figures['after']['val'])
    if epochs:
        train(cfg, out, test=False, source=source)
        tuned = open_run(out, contexts=run.contexts, source=source)
        figures['fine-tuned'] = {**figures['after'], 'val': _figures(run, tuned.method.net, 'fine-tuned')['val']}
    total = sum(group.channels for group in groups)
    return {'groups': len(groups), 'channels': total, 'removed': total - sum(len(kept[group.name]) for group in groups),
            'constants_dropped': pruned.dropped, 'figures': figures}


def _pruned(run, net, pruning):
    """Return the groups of channels of ``net``, what is kept of each, and the network without the rest."""
    if type(net) is not Classifier:
        raise ConfigError(f"'{run.folder}': networks of method {run.cfg.method.name} cannot be pruned; those of "
                          'finetune and attention_scaled can')
    if pruning.ranking == 'attention' and not attention_convolutions(run.method.net):
        raise ConfigError(f"'{run.folder}' has no attention weights to rank by; use --ranking l1 or taylor")
    scores = prune.attention_scores(run.method.net) if pruning.ranking == 'attention' else None
    channels = prune.Channels(net)
    groups = channels.groups(pruning.scope)
    if not groups:
        raise ConfigError(f"'{run.cfg.backbone.name}' has no channels to remove inside blocks; try --scope all")
    if pruning.ranking == 'l1':
        scores = prune.l1_scores(channels, groups)
    elif pruning.ranking == 'taylor':
        scores = prune.taylor_scores(channels, groups, _batches(run, pruning.batches, 'ranking'))
    kept = prune.select(groups, scores, pruning.fraction, pruning.threshold, pruning.multiple)
    return groups, kept, prune.prune(channels, groups, kept)


def _batches(run, count, label):
    """Yield ``count`` training batches, prepared as in testing: (images, normalised; labels)."""
    transform = data.EvalTransform(run.cfg.data.eval)
    with data.Loader(run.source.train, transform, run.cfg.data.batch_size, train=True, seed=run.cfg.run.seed,
                     bad_image=run.cfg.data.bad_image) as loader, progress(count, label, 'batch') as bar:
        for batch in islice(loader.epoch(0), count):
            labels = mx.nd.array(run.source.train.labels[batch.indices], ctx=run.ctx)
            yield run.normalize(batch.images.as_in_context(run.ctx)), labels
            bar.update()


def _build(run, out, pruned, epochs, overrides):
    """Write channel plan and parameters into ``out``; return (configuration, method) of the pruned network."""
    files, widths = RunFolder(out), {layer[len(BODY):]: width for layer, width in pruned.widths.items()}
    cfg = changed(run.cfg, [
        ('backbone.widths', str(files.widths)), ('backbone.weights', str(files.pruned)),
        ('method', {'name': 'finetune', 'cut': 'all', 'lr_mult': 1.0, 'dropout': run.cfg.method.options.dropout}),
        ('train.epochs', epochs or run.cfg.train.epochs), *overrides])
    out.mkdir(parents=True, exist_ok=True)
    files.write_widths({'backbone': run.cfg.backbone.name, 'widths': {**run.widths, **widths}})
    mx.nd.save(str(files.pruned), {key: mx.nd.array(values) for key, values in pruned.parameters.items()})
    method, _ = build_method(cfg, len(run.classes), run.contexts)
    for key, parameter in method.net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(pruned.parameters[key]))
    return cfg, method


def _figures(run, net, label):
    """Return size, multiply-adds for one image, and what validation says of ``net``."""
    height, width = data.EvalTransform(run.cfg.data.eval).output_size or (224, 224)
    val, result = run.source.val, None
    compile_net(net)
    if val is not None:
        with loader_of(run.cfg, val) as loader, progress(len(val), f'validation {label}') as bar:
            predictions = predict(net, run.normalize, loader, run.contexts, bar)
        result = metrics.summary(predictions, len(run.classes))
    return {'parameters': complexity.parameters(net), 'multiply_adds': complexity.multiply_adds(net, 3, height, width),
            'side': [height, width], 'val': result}


def _speeds(run, nets):
    """Return the images/s of each of ``nets`` in prediction, in turns."""
    images = next(_batches(run, 1, 'speed'))[0]
    seconds = [[] for _ in nets]
    for _ in range(ROUNDS + 1):
        for net, samples in zip(nets, seconds):
            started = time.perf_counter()
            net(images).wait_to_read()
            samples.append(time.perf_counter() - started)
    return [len(images) / median(samples[1:]) for samples in seconds]

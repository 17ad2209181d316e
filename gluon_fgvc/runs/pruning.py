"""From a run to the run folder of its pruned network, with what pruning cost and saved."""
import json
import time
from itertools import islice
from statistics import median

import mxnet as mx

from gluon_fgvc import config, data, methods
from gluon_fgvc import pruning as prune
from gluon_fgvc.engine import metrics
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.nn import Classifier, attention_convolutions, complexity
from gluon_fgvc.runs.build import build_method, loader_of
from gluon_fgvc.runs.folder import WIDTHS
from gluon_fgvc.runs.opened import open_run
from gluon_fgvc.runs.training import start_from, train

BODY = 'body.'
ROUNDS = 5  # times that speed is measured


def prune_run(run, out, *, ranking='attention', fraction=None, threshold=None, scope='inner', multiple=1, batches=20,
              epochs=0, overrides=()):
    """Remove channels from the network of a :class:`Run` and make ``out`` the run folder of the result, at epoch 0.

    :param ranking, fraction, threshold, scope, multiple: which channels go, see :mod:`gluon_fgvc.pruning`.
    :param batches: training batches for the Taylor ranking and for measuring BatchNorm anew.
    :param epochs: of fine-tuning; 0 leaves the network as it is.
    :param overrides: pairs (dotted key, value) of the configuration of ``out``.
    :returns: dict of ``figures``: 'before', 'after' and, with epochs, 'fine-tuned' → size, speed and validation;
        ``removed`` and ``channels`` in how many ``groups``; ``constants_dropped``, layers.
    :raises ConfigError: for networks or rankings that do not go together, or nothing to remove.
    :raises CheckpointError: if ``out`` holds a run.
    """
    prune.check_amount(fraction, threshold)  # before anything is computed
    if (out / 'config.yaml').exists():
        raise CheckpointError(f"'{out}' holds a run already; name another folder")
    net = run.method.deployed()
    if type(net) is not Classifier:
        raise ConfigError(f"'{run.folder}': networks of method {run.cfg.method.name} cannot be pruned; those of "
                          'finetune and attention_scaled can')
    if ranking == 'attention' and not attention_convolutions(run.method.net):
        raise ConfigError(f"'{run.folder}' has no attention weights to rank by; use --ranking l1 or taylor")
    scores = prune.attention_scores(run.method.net) if ranking == 'attention' else None
    channels = prune.Channels(net)
    groups = channels.groups(scope)
    if not groups:
        raise ConfigError(f"'{run.cfg.backbone.name}' has no channels to remove inside blocks; try --scope all")
    if ranking == 'l1':
        scores = prune.l1_scores(channels, groups)
    elif ranking == 'taylor':
        scores = prune.taylor_scores(channels, groups, _batches(run, batches, 'ranking'))
    kept = prune.select(groups, scores, fraction, threshold, multiple)
    pruned = prune.prune(channels, groups, kept)

    cfg, method = _build(run, out, pruned, epochs, overrides)
    prune.precise_bn(method.net, (images for images, _ in _batches(run, batches, 'statistics')))
    figures = {'before': _figures(run, net, 'before'), 'after': _figures(run, method.net, 'after')}
    figures['before']['images_per_s'], figures['after']['images_per_s'] = _speeds(run, [net, method.net])
    start_from(cfg, out, method, run.source, figures['after']['val'])
    if epochs:
        train(cfg, out, test=False)
        tuned = open_run(out, contexts=run.contexts)
        figures['fine-tuned'] = {**figures['after'], 'val': _figures(run, tuned.method.net, 'fine-tuned')['val']}
    total = sum(group.channels for group in groups)
    return {'groups': len(groups), 'channels': total, 'removed': total - sum(len(kept[group.name]) for group in groups),
            'constants_dropped': pruned.dropped, 'figures': figures}


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
    name, plan, weights = run.cfg.backbone.name, out / WIDTHS, out / 'pruned.params'
    widths = {**run.widths, **{layer[len(BODY):]: width for layer, width in pruned.widths.items()}}
    tree = config.to_tree(run.cfg)
    tree['backbone'].update(widths=str(plan), weights=str(weights))
    tree['method'] = {'name': 'finetune', 'cut': 'all', 'lr_mult': 1.0, 'dropout': run.cfg.method.options.dropout}
    tree['train']['epochs'] = epochs or tree['train']['epochs']
    config.apply_overrides(tree, overrides)
    cfg = config.from_tree(tree, data.options, methods.options, 'the fine-tuning')
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(plan, json.dumps({'backbone': name, 'widths': widths}, indent=1) + '\n')
    mx.nd.save(str(weights), {key: mx.nd.array(values) for key, values in pruned.parameters.items()})
    method, _ = build_method(cfg, len(run.classes), run.contexts)
    for key, parameter in method.net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(pruned.parameters[key]))
    return cfg, method


def _figures(run, net, label):
    """Return size, multiply-adds for one image, and what validation says of ``net``."""
    height, width = data.EvalTransform(run.cfg.data.eval).output_size or (224, 224)
    val, result = run.source.val, None
    net.hybridize(static_alloc=True, static_shape=True)
    if val is not None:
        with loader_of(run.cfg, val) as loader, progress(len(val), f'validation {label}') as bar:
            predictions = predict(net, run.normalize, loader, val, run.contexts, bar)
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

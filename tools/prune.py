"""Remove channels from the network of a run, and say what that costs and saves.

The result is a run folder at epoch 0: evaluate, export and visualize it like any other; --epochs trains it on as a
whole, and so does tools/train.py --resume. Accuracies are those of the validation split. prune.json keeps the figures.
"""
import json
import sys
import time
from itertools import islice
from pathlib import Path
from statistics import median

import mxnet as mx

from gluon_fgvc import cli, config, data, methods
from gluon_fgvc.analysis import complexity, prune
from gluon_fgvc.engine import metrics, run
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.nn import Classifier, attention_convolutions, fold_attention

BODY = 'body.'
ROUNDS = 5  # times that speed is measured


def main(argv=None):
    parser = cli.Parser(__doc__, 'python tools/prune.py work_dirs/elpv/20260101-120000 --share 0.3 --out pruned '
                                 '--epochs 3 train.optimizer.lr=1e-4')
    parser.add_argument('run', metavar='RUN', type=Path, help='run folder of method finetune or attention_scaled')
    parser.add_argument('--out', metavar='DIR', type=Path, required=True, help='the run folder of the pruned network')
    parser.add_argument('--ranking', choices=prune.RANKINGS, default='attention', help='default: %(default)s')
    parser.add_argument('--share', type=float, metavar='S', help='share of the channels of each layer that goes')
    parser.add_argument('--threshold', type=float, metavar='T', help='instead: channels of a lower score go')
    parser.add_argument('--scope', choices=('inner', 'all'), default='inner', help='channels inside residual blocks, '
                        'or also those along shortcuts and between layers of a chain; default: %(default)s')
    parser.add_argument('--multiple', type=cli.positive, default=1, metavar='N', help='keep multiples of N channels')
    parser.add_argument('--batches', type=cli.positive, default=20, metavar='N', help='training batches for the Taylor '
                        'ranking and for recalibrating BatchNorm; default: %(default)s')
    parser.add_argument('--epochs', type=int, default=0, metavar='N', help='epochs of fine-tuning; default: none')
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides for the fine-tuning')
    args = parser.parse_intermixed_args(argv)  # overrides may follow options
    if args.epochs < 0:
        raise ConfigError(f'--epochs {args.epochs} must not be negative')
    prune.check_amount(args.share, args.threshold)  # before anything is computed
    if (args.out / 'config.yaml').exists():
        raise CheckpointError(f"'{args.out}' holds a run already; name another folder")

    opened = run.open_run(args.run, args.which)
    net = opened.method.net
    if type(net) is not Classifier:
        raise ConfigError(f"'{args.run}': networks of method {opened.cfg.method.name} cannot be pruned; those of "
                          'finetune and attention_scaled can')
    if args.ranking == 'attention' and not attention_convolutions(net):
        raise ConfigError(f"'{args.run}' has no attention weights to rank by; use --ranking l1 or taylor")
    scores = prune.attention_scores(net) if args.ranking == 'attention' else None
    channels = prune.Channels(fold_attention(net))
    groups = channels.groups(args.scope)
    if not groups:
        raise ConfigError(f"'{opened.cfg.backbone.name}' has no channels to remove inside blocks; try --scope all")
    if args.ranking == 'l1':
        scores = prune.l1_scores(channels, groups)
    elif args.ranking == 'taylor':
        scores = prune.taylor_scores(channels, groups, batches(opened, args.batches))
    kept = prune.select(groups, scores, args.share, args.threshold, args.multiple)
    pruned = prune.prune(channels, groups, kept)

    cfg, method = build(opened, args, pruned)
    prune.recalibrate(method.net, (images for images, _ in batches(opened, args.batches)))
    figures = {'before': figures_of(opened, net), 'after': figures_of(opened, method.net)}
    figures['before']['images_per_s'], figures['after']['images_per_s'] = speeds(opened, [net, method.net])
    run.start_from(cfg, args.out, method, opened.source, figures['after']['val'])
    if args.epochs:
        run.train(cfg, args.out, test=False)
        tuned = run.open_run(args.out, contexts=opened.contexts)
        figures['fine-tuned'] = {**figures['after'], 'val': figures_of(opened, tuned.method.net)['val']}
    write_atomically(args.out / 'prune.json', json.dumps({
        'run': str(args.run), 'ranking': args.ranking, 'share': args.share, 'threshold': args.threshold,
        'scope': args.scope, 'multiple': args.multiple, 'epochs': args.epochs, 'machine': run.environment(),
        'constants_dropped': pruned.dropped, 'figures': figures}, indent=1) + '\n')
    show(figures, groups, kept)
    print(f'pruned: {args.out}')


def batches(opened, count):
    """Yield ``count`` training batches, prepared as in testing: (images, normalised; labels)."""
    transform = data.TestTransform(opened.cfg.data.test)
    with data.Loader(opened.source.train, transform, opened.cfg.data.batch_size, train=True, seed=opened.cfg.run.seed,
                     bad_image=opened.cfg.data.bad_image) as loader:
        for batch in islice(loader.epoch(0), count):
            labels = mx.nd.array(opened.source.train.labels[batch.indices], ctx=opened.ctx)
            yield opened.normalize(batch.images.as_in_context(opened.ctx)), labels


def build(opened, args, pruned):
    """Write channel plan and parameters into ``--out``; return (configuration, method) of the pruned network."""
    name, plan, weights = opened.cfg.backbone.name, args.out / run.WIDTHS, args.out / 'pruned.params'
    widths = {**opened.widths, **{layer[len(BODY):]: width for layer, width in pruned.widths.items()}}
    tree = config.to_tree(opened.cfg)
    tree['backbone'].update(widths=str(plan), weights=str(weights))
    tree['method'] = {'name': 'finetune', 'cut': 'all', 'lr_mult': 1.0, 'dropout': opened.cfg.method.options.dropout}
    tree['train']['epochs'] = args.epochs or tree['train']['epochs']
    config.apply_overrides(tree, config.parse_overrides(args.overrides))
    cfg = config.from_tree(tree, data.options, methods.options, 'the fine-tuning')
    args.out.mkdir(parents=True, exist_ok=True)
    write_atomically(plan, json.dumps({'backbone': name, 'widths': widths}, indent=1) + '\n')
    mx.nd.save(str(weights), {key: mx.nd.array(values) for key, values in pruned.parameters.items()})
    method, _ = run.build_method(cfg, len(opened.classes), opened.contexts)
    for key, parameter in method.net._collect_params_with_prefix().items():
        parameter.set_data(mx.nd.array(pruned.parameters[key]))
    return cfg, method


def figures_of(opened, net):
    """Return size, multiply-adds for one image, and what validation says of ``net``."""
    height, width = data.TestTransform(opened.cfg.data.test).output_size or (224, 224)
    val, result = opened.source.val, None
    net.hybridize(static_alloc=True, static_shape=True)
    if val is not None:
        with run.loader_of(opened.cfg, val) as loader:
            result = metrics.summary(predict(net, opened.normalize, loader, val, opened.contexts), len(opened.classes))
    return {'parameters': complexity.parameters(net), 'multiply_adds': complexity.multiply_adds(net, 3, height, width),
            'side': [height, width], 'val': result}


def speeds(opened, nets):
    """Return the images/s of each of ``nets`` in prediction, in turns."""
    images = next(batches(opened, 1))[0]
    seconds = [[] for _ in nets]
    for _ in range(ROUNDS + 1):
        for net, samples in zip(nets, seconds):
            started = time.perf_counter()
            net(images).wait_to_read()
            samples.append(time.perf_counter() - started)
    return [len(images) / median(samples[1:]) for samples in seconds]


def show(figures, groups, kept):
    gone = sum(group.channels - len(kept[group.name]) for group in groups)
    print(f'{gone} of {sum(group.channels for group in groups)} channels in {len(groups)} groups are gone')
    print(f"{'':<10}  {'parameters':>12}  {'multiply-adds':>14}  {'images/s':>8}  {'val top-1':>9}  {'val loss':>8}")
    for name, row in figures.items():
        val = [f"{row['val'][key]:.4f}" if row['val'] else '–' for key in ('top1', 'loss')]
        print(f"{name:<10}  {row['parameters']:>12,}  {row['multiply_adds']:>14,}  {row['images_per_s']:>8.1f}  "
              f'{val[0]:>9}  {val[1]:>8}')


if __name__ == '__main__':
    sys.exit(cli.run(main))

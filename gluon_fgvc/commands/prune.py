"""Remove channels from the network of a run, and say what that costs and saves.

The result is a run folder at epoch 0: evaluate, export and visualize it like any other; --epochs trains it on as a
whole, and so does fgvc train --resume. Accuracies are those of the validation split. prune.json keeps the figures.
"""
import warnings
from pathlib import Path

from gluon_fgvc.choices import RANKINGS
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError


def main(argv=None):
    parser = cli.Parser('fgvc prune', __doc__, 'work_dirs/elpv/20260101-120000 --fraction 0.3 --out pruned --epochs 3 '
                                      'train.optimizer.lr=1e-4')
    parser.add_argument('run', metavar='RUN', type=Path, help='run folder of method finetune or attention_scaled')
    parser.add_argument('--out', metavar='DIR', type=Path, required=True, help='the run folder of the pruned network')
    parser.add_argument('--ranking', choices=RANKINGS, default='attention', help='default: %(default)s')
    parser.add_argument('--fraction', type=float, metavar='F', help='of the channels of each layer that goes')
    parser.add_argument('--share', type=float, metavar='F', help='old name of --fraction, read until 0.3')
    parser.add_argument('--threshold', type=float, metavar='T', help='instead: channels of a lower score go')
    parser.add_argument('--scope', choices=('inner', 'all'), default='inner', help='channels inside residual blocks, '
                        'or also those along shortcuts and between layers of a chain; default: %(default)s')
    parser.add_argument('--multiple', type=cli.positive, default=1, metavar='N', help='keep multiples of N channels')
    parser.add_argument('--batches', type=cli.positive, default=20, metavar='N', help='training batches for the Taylor '
                        'ranking and for measuring BatchNorm anew; default: %(default)s')
    parser.add_argument('--epochs', type=int, default=0, metavar='N', help='epochs of fine-tuning; default: none')
    parser.add_argument('--which', default='best', choices=('best', 'last'), help='checkpoint; default: %(default)s')
    parser.add_argument('overrides', nargs='*', metavar='KEY=VALUE', help='overrides for the fine-tuning')
    args = parser.parse_intermixed_args(argv)  # overrides may follow options
    if args.epochs < 0:
        raise ConfigError(f'--epochs {args.epochs} must not be negative')
    if args.share is not None:
        if args.fraction is not None:
            raise ConfigError('--share is the old name of --fraction; give one of them')
        warnings.warn('--share is now --fraction; the old name is read until gluon_fgvc 0.3')
        args.fraction = args.share
    asked = {key: getattr(args, key) for key in ('ranking', 'fraction', 'threshold', 'scope', 'multiple')}
    from gluon_fgvc import config, runs
    from gluon_fgvc.run_folder import RunFolder
    result = runs.prune_run(runs.open_run(args.run, args.which), args.out, runs.Pruning(batches=args.batches, **asked),
                            epochs=args.epochs, overrides=config.parse_overrides(args.overrides))
    RunFolder(args.out).write_pruning({'run': str(args.run), **asked, 'epochs': args.epochs,
                                       'machine': runs.environment(), **result})
    show(result)
    print(f'pruned: {args.out}')
    return cli.OK


def show(result):
    print(f"{result['removed']} of {result['channels']} channels in {result['groups']} groups are gone")
    print(f"{'':<10}  {'parameters':>12}  {'multiply-adds':>14}  {'images/s':>8}  {'val top-1':>9}  {'val loss':>8}")
    for name, row in result['figures'].items():
        val = [f"{row['val'][key]:.4f}" if row['val'] else '–' for key in ('top1', 'loss')]
        print(f"{name:<10}  {row['parameters']:>12,}  {row['multiply_adds']:>14,}  {row['images_per_s']:>8.1f}  "
              f'{val[0]:>9}  {val[1]:>8}')
    before, after = (result['figures'][name]['images_per_s'] for name in ('before', 'after'))
    if after < before:
        print('not faster: processors compute 8 or 16 channels at once, and --multiple 16 fills them')

"""Turn ImageNet weights of torchvision or timm into Gluon's, or weights of a run into torch's.

Reads .pth and .pt (both of torch's formats, nothing in them is executed), .safetensors and .params, compares
names and shapes with those of the backbone, and writes only what is whole: backbone.weights of a configuration
takes the file. With --to safetensors the way back, under the names of torchvision or timm.
"""
from pathlib import Path

from gluon_fgvc.choices import TORCH
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError, WeightsError
from gluon_fgvc.files import write_atomically


def main(argv=None):
    parser = cli.Parser('fgvc import-weights', __doc__,
                        'resnet50.pth --backbone resnet50_v1b --out resnet50.params')
    parser.add_argument('source', metavar='FILE | RUN', type=Path,
                        help='weight file, or with --to safetensors a run folder that fgvc train made')
    parser.add_argument('--backbone', metavar='NAME', help='network the weights are for; of a run: its own')
    parser.add_argument('--out', metavar='FILE', type=Path, required=True, help='file to write')
    parser.add_argument('--to', default='params', choices=('params', 'safetensors'),
                        help='what to write; default: %(default)s')
    parser.add_argument('--naming', default='auto', choices=('auto', *TORCH),
                        help="whose names the torch side has; default: what fits, or torchvision's for safetensors")
    parser.add_argument('--which', default='best', choices=('best', 'last'),
                        help='checkpoint of a run; default: %(default)s')
    parser.add_argument('--allow-partial', action='store_true',
                        help='use what fits; missing parameters get random values (seed 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace FILE')
    args = parser.parse_args(argv)
    cli.check_new(args.overwrite, args.out)

    from gluon_fgvc.backbones import convert
    deployed = args.to == 'safetensors' and args.source.is_dir() and not args.allow_partial
    backbone = deployed_by(args) if deployed else read(args)
    if args.to == 'params':
        content, kind, loader = convert.to_params(backbone), 'the backbone', None
    else:
        content, kind = convert.to_safetensors(backbone, args.naming)
        loader = convert.loader(backbone, args.naming, args.out)
    write_atomically(args.out, content)
    print(f'wrote {args.out}: {len(content):,} bytes, names of {kind}')
    if loader:
        print(f'\n{loader}')


def read(args):
    """Return the backbone with the weights of the file, or of the run's checkpoint as it is."""
    from gluon_fgvc import backbones, runs
    from gluon_fgvc.backbones import convert, loading
    name, path = source(args)
    runs.seed_initialisers(0)
    backbone = backbones.get(name)
    arrays, fit = loading.read(
        backbone, convert.namings_of(backbone, args.naming if args.to == 'params' else 'auto'), path)
    report(fit, backbone, path)
    loading.put(backbone, arrays, fit, path, args.allow_partial)
    return backbone


def deployed_by(args):
    """Return the backbone of the network that the run deploys, attention folded, with its classifier."""
    from gluon_fgvc import runs
    from gluon_fgvc.backbones import convert
    name, _ = source(args)
    opened = runs.open_run(args.source, args.which, runs.contexts_from('cpu0'))
    what = f"run '{args.source}' of method '{opened.cfg.method.name}'"
    backbone = convert.plain_backbone(opened.method.deployed(), what)
    mean, std = list(opened.normalize.mean), list(opened.normalize.std)
    print(f'{what} on {name}, {len(opened.classes)} classes; images are RGB, (pixel / 255 - {mean}) / {std}')
    return backbone


def source(args):
    """Return (name of the backbone, path of the file that holds its weights)."""
    from gluon_fgvc import backbones, runs
    from gluon_fgvc.run_folder import RunFolder, manifests
    if not args.source.is_dir():
        if not args.backbone:
            raise ConfigError(f'--backbone is missing (allowed: {", ".join(backbones.available())})')
        return args.backbone, str(args.source)
    folder = runs.existing_folder(args.source)
    name = runs.load_config(RunFolder(folder).config).backbone.name
    if args.backbone not in (None, name):
        raise ConfigError(f"--backbone {args.backbone}: run '{folder}' has {name}")
    record = manifests.read(folder, args.which)
    if record is None:
        raise WeightsError(f"'{folder}' has no '{args.which}' checkpoint yet")
    return name, str(manifests.file_of(folder, record, '.params'))


def report(fit, backbone, path):
    """Print how a file compares with the backbone: counts, then one line for each name that is not as it should be."""
    print(f'{path} for {backbone.name}, names of {fit.naming.kind}:')
    counts = {'matched': fit.matched, 'missing': fit.missing, 'other shape': fit.misshapen, 'unusable': fit.unusable,
              'unexpected': fit.unexpected, 'unused': fit.unused}
    for word, names in counts.items():
        if names or word in ('matched', 'missing', 'unexpected'):
            print(f'  {len(names):4} {word}' + (f' by design: {_parts(names)}' if word == 'unused' else ''))
    for name, shape in fit.missing.items():
        print(f'- {name} {shape}')
    for name, (found, wanted) in fit.misshapen.items():
        print(f'- {name} {wanted}\n+ {name} {found}')
    for name in fit.unusable:
        print(f'! {name} is not floating point, not finite or a negative variance')
    for name, shape in fit.unexpected.items():
        print(f'+ {name} {shape}')


def _parts(names):
    """Return what many names have in common: the counters of BatchNorm, else the tops of their hierarchies."""
    counters = {name for name in names if name.endswith('.num_batches_tracked')}
    tops = {f"{name.split('.')[0]}.*" for name in names if name not in counters}
    return ', '.join([*sorted(tops), *(['num_batches_tracked'] if counters else [])])

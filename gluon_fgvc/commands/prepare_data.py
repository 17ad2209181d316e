"""Prepare a data set from its archives: verify, unpack, list and, if wanted, pack into records of small images.

Archives are compared with their published sums, unpacked only if nothing in them leads out of --out, and read as the
data set itself; train.csv, test.csv, classes.txt and the records are for the data sets list_file and recordio.
An interrupted call is continued by the same one. Nothing outside --out is written, nothing in it is replaced.
"""
import importlib
import os
from pathlib import Path

from gluon_fgvc.commands import cli
from gluon_fgvc.errors import ConfigError

# By their files: importing the data sets would import mxnet.
DATASETS = sorted(path.stem for path in (Path(__file__).parents[1] / 'data' / 'datasets').glob('[!_]*.py'))


def main(argv=None):
    parser = cli.Parser('fgvc prepare-data', __doc__,
                        'cub200 --archive CUB_200_2011.tgz --out data/cub200 --record --resize 256',
                        usage='%(prog)s NAME [KEY=VALUE …] [--archive FILE …] --out DIR [--record …]')
    parser.add_argument('name', metavar='NAME', help=f"data set: {', '.join(DATASETS)}")
    parser.add_argument('--archive', metavar='FILE', nargs='+', default=[],
                        help='what was downloaded: archives, and annotation files that come alone')
    parser.add_argument('--out', metavar='DIR', required=True, help='folder to make or to continue')
    parser.add_argument('--record', action='store_true', help='also write train.rec, test.rec, …')
    parser.add_argument('--resize', metavar='PIXELS', type=cli.positive, help='shorter side of the images in the '
                        'records; larger ones are scaled down; default: as they are')
    parser.add_argument('--quality', metavar='Q', type=cli.positive, default=95, help='JPEG quality of the records, 1 '
                        'to 100; default: %(default)s')
    parser.add_argument('--workers', metavar='N', type=cli.positive, default=2,
                        help='processes that make records; default: %(default)s')
    parser.add_argument('options', nargs='*', metavar='KEY=VALUE',
                        help='options of the data set, as in the section data, e.g. supercategory=Amphibia')
    args = parser.parse_intermixed_args(argv)  # NAME, options of ours, then KEY=VALUE
    if args.quality > 100:
        raise ConfigError(f'--quality {args.quality} is more than 100')

    from gluon_fgvc import data
    from gluon_fgvc.data import datasets, prepare
    from gluon_fgvc.engine.log import progress
    options = read_options(args)
    published = getattr(importlib.import_module(f'{datasets.__name__}.{args.name}'), 'ARCHIVES', {})
    os.makedirs(args.out, exist_ok=True)
    for archive in args.archive:
        target = prepare.target_of(archive, args.out)
        if os.path.exists(target):
            print(f'{os.path.basename(archive)}: {target} is there already')
        else:
            print(prepare.verify(archive, published))
            print(f'  → {prepare.unpack(archive, args.out)}')
    source = data.build(options)
    print(f"{args.name}: {len(source.classes)} classes, "
          + ', '.join(f'{len(images):,} {images.name}' for images in source.splits()) + ' images')
    for path in prepare.write_lists(source, args.out):
        print(path)
    if args.record:
        for images in source.splits():
            path = os.path.join(args.out, f'{images.name}.rec')
            with progress(len(images), images.name) as bar:
                prepare.write_records(images, path, size=args.resize, quality=args.quality, workers=args.workers,
                                      progress=bar)
            print(path)


def read_options(args):
    """Return the DataConfig of the command line, read from ``--out`` unless it names another place."""
    from gluon_fgvc import config, data
    tree = {'name': args.name, 'val_fraction': 0}
    names = data.options(args.name).__dataclass_fields__
    if 'root' in names:
        tree['root'] = args.out
    for key, value in config.parse_overrides([f'data.{word}' for word in args.options]):
        tree[key.split('.', 1)[1]] = value
    if os.path.isfile(str(tree.get('root'))):  # which a reader would unpack beside it
        raise ConfigError(f"root '{tree['root']}' is a file; give it as --archive")
    return config.data_from_tree(tree, data.options, 'command line')

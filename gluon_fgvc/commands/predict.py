"""Classify images with a trained run or an exported model.

Writes predictions.csv and predictions.json (the most probable classes of each image) and
contact_sheet.jpg, and prints the first few. Folders are searched with all their sub-folders; quote
globs that the shell should not expand.
"""
import os
import sys
from pathlib import Path

from gluon_fgvc.choices import ENGINES
from gluon_fgvc.commands import cli
from gluon_fgvc.errors import CheckpointError, ConfigError

CSV, JSON, SHEET = 'predictions.csv', 'predictions.json', 'contact_sheet.jpg'
PRINTED, ON_SHEET = 20, 60


def main(argv=None):
    parser = cli.Parser('fgvc predict', __doc__, "work_dirs/quickstart/20260101-120000 cells/ 'more/*.png'")
    parser.add_argument('model', metavar='MODEL', type=Path, help='run folder, or folder of an exported model')
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='image, folder of images, or quoted glob')
    parser.add_argument('--out', metavar='DIR', type=Path, default=Path('predictions'), help='default: %(default)s')
    parser.add_argument('--top-k', metavar='K', type=int, default=5, help='classes an image; default: %(default)s')
    parser.add_argument('--format', choices=('csv', 'json', 'both'), default='both', help='default: %(default)s')
    parser.add_argument('--batch-size', metavar='N', type=int, default=32, help='default: %(default)s')
    parser.add_argument('--engine', choices=ENGINES, help='what runs an exported model; default: auto, the fastest '
                                                          'here that computes the same')
    parser.add_argument('--gpus', metavar='ID', help='the GPU to use; an empty string forces the CPU; default: '
                                                     'the first GPU, else the CPU')
    parser.add_argument('--no-sheet', action='store_true', help='write no contact sheet')
    parser.add_argument('--bad-image', choices=('fail', 'skip'), default='fail',
                        help='stop at an image that cannot be read, or leave it out; default: %(default)s')
    parser.add_argument('--overwrite', action='store_true', help='replace the predictions in --out')
    args = parser.parse_args(argv)
    for flag, value in (('--top-k', args.top_k), ('--batch-size', args.batch_size)):
        if value < 1:
            raise ConfigError(f'{flag} {value} must be at least 1')
    outputs = [name for name, wanted in ((CSV, args.format != 'json'), (JSON, args.format != 'csv'),
                                         (SHEET, not args.no_sheet)) if wanted]
    cli.check_new(args.overwrite, *(args.out / name for name in outputs))

    from gluon_fgvc.data.search import find_images
    from gluon_fgvc.deploy.predictions import classify, write_csv, write_json
    from gluon_fgvc.engine.log import progress
    paths = find_images(args.inputs)
    model = open_model(args.model, args.gpus, args.batch_size, args.engine)
    with progress(len(paths), 'predict') as bar:
        rows, bad = classify(model, paths, args.top_k, args.bad_image, bar)
    for reason in bad.values():
        print(f'skipped: {reason}', file=sys.stderr)
    args.out.mkdir(parents=True, exist_ok=True)
    writers = {CSV: write_csv, JSON: write_json, SHEET: write_sheet}
    for name in outputs:
        writers[name](args.out / name, rows, bad)
    show(rows)
    by = f' by {model.engine}' if model.engine else ''
    print(f"{len(rows)} images classified{by}{f', {len(bad)} skipped' if bad else ''}: "
          + ', '.join(str(args.out / name) for name in outputs))


def open_model(folder, gpus=None, batch_size=32, engine=None):
    """Return an :class:`~gluon_fgvc.deploy.ImageClassifier` of a run folder or an exported model."""
    from gluon_fgvc import runs
    from gluon_fgvc.data import EvalTransform
    from gluon_fgvc.deploy import ImageClassifier, Predictor
    from gluon_fgvc.deploy.metadata import METADATA
    from gluon_fgvc.run_folder import RunFolder, runs_in
    contexts = runs.contexts_from('auto' if gpus is None else cli.contexts_setting(gpus))
    if gpus is not None and len(contexts) > 1:
        raise ConfigError(f"--gpus '{gpus}': prediction runs on one device; name one")
    if (folder / METADATA).is_file():
        return Predictor(folder, contexts[0], batch_size, engine or 'auto')
    if not RunFolder(folder).is_run:
        held = runs_in(folder)
        hint = f"; it holds run folders, the newest is '{held[-1]}'" if held else ''
        raise CheckpointError(f"'{folder}' is neither a run folder (it has no {RunFolder.config}) nor an exported "
                              f'model (no {METADATA}){hint}')
    if engine:
        raise ConfigError(f"--engine {engine} is for an exported model; '{folder}' is a run folder, whose checkpoint "
                          'MXNet runs: fgvc export makes one of it')
    opened = runs.open_run(folder, contexts=contexts[:1])
    return ImageClassifier(opened.classes, EvalTransform(opened.cfg.data.eval),
                           lambda images: probabilities_of(opened, images), batch_size)


def probabilities_of(opened, images):
    """Return the probabilities, numpy (N,K), that an opened run gives images, numpy uint8 (N,H,W,3)."""
    from mxnet import nd
    return opened.probabilities(opened.normalize(nd.array(images, ctx=opened.ctx, dtype='uint8'))).asnumpy()


def write_sheet(path, rows, _):
    from gluon_fgvc.pages.contact_sheet import Item, contact_sheet
    contact_sheet([Item(image, [f'{name} {p:.1%}' for name, p in ranked[:2]] + [os.path.basename(image)])
                   for image, ranked in rows[:ON_SHEET]], path)


def show(rows):
    """Print the best class of the first images."""
    if hasattr(sys.stdout, 'reconfigure'):
        sys.stdout.reconfigure(errors='backslashreplace')  # a file name need not be text
    shown = [(image if len(image) <= 60 else '…' + image[-59:], *ranked[0]) for image, ranked in rows[:PRINTED]]
    width = max(len(image) for image, _, _ in shown)
    for image, name, probability in shown:
        print(f'{image:<{width}}  {probability:7.2%}  {name}')
    if len(rows) > PRINTED:
        print(f'… and {len(rows) - PRINTED} more')

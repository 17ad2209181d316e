"""Classify images with a trained run or an exported model.

Writes predictions.csv and predictions.json (the most probable classes of each image) and
contact_sheet.jpg, and prints the first few. Folders are searched with all their sub-folders; quote
globs that the shell should not expand.
"""
import csv
import io
import json
import os
import sys
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc import cli
from gluon_fgvc.data import TestTransform
from gluon_fgvc.data.search import find_images
from gluon_fgvc.deploy import ImageClassifier, Predictor
from gluon_fgvc.engine import run
from gluon_fgvc.engine.log import progress
from gluon_fgvc.errors import CheckpointError, ConfigError, DataError
from gluon_fgvc.files import write_atomically

CSV, JSON, SHEET = 'predictions.csv', 'predictions.json', 'contact_sheet.jpg'
PRINTED, ON_SHEET = 20, 60


def main(argv=None):
    parser = cli.Parser(__doc__, "python tools/predict.py work_dirs/quickstart/20260101-120000 cells/ 'more/*.png'")
    parser.add_argument('model', metavar='MODEL', type=Path, help='run folder, or folder of an exported model')
    parser.add_argument('inputs', metavar='INPUT', nargs='+', help='image, folder of images, or quoted glob')
    parser.add_argument('--out', metavar='DIR', type=Path, default=Path('predictions'), help='default: %(default)s')
    parser.add_argument('--top-k', metavar='K', type=int, default=5, help='classes an image; default: %(default)s')
    parser.add_argument('--format', choices=('csv', 'json', 'both'), default='both', help='default: %(default)s')
    parser.add_argument('--batch-size', metavar='N', type=int, default=32, help='default: %(default)s')
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
    for name in outputs:
        if (args.out / name).exists() and not args.overwrite:
            raise ConfigError(f"'{args.out / name}' exists; name another folder with --out, or add --overwrite")

    paths = find_images(args.inputs)
    model = open_model(args.model, args.gpus, args.batch_size)
    rows, bad = classify(model, paths, args.top_k, args.bad_image)
    args.out.mkdir(parents=True, exist_ok=True)
    writers = {CSV: write_csv, JSON: write_json, SHEET: write_sheet}
    for name in outputs:
        writers[name](args.out / name, rows, bad)
    show(rows)
    print(f"{len(rows)} images classified{f', {len(bad)} skipped' if bad else ''}: "
          + ', '.join(str(args.out / name) for name in outputs))


def open_model(folder, gpus=None, batch_size=32):
    """Return an :class:`~gluon_fgvc.deploy.ImageClassifier` of a run folder or an exported model."""
    contexts = run.contexts_of('auto' if gpus is None else cli.contexts_setting(gpus))
    if gpus is not None and len(contexts) > 1:
        raise ConfigError(f"--gpus '{gpus}': prediction runs on one device; name one")
    if (folder / 'model.json').is_file():
        return Predictor(folder, contexts[0], batch_size)
    if not (folder / 'config.yaml').is_file():
        runs = sorted(folder.glob('*/config.yaml'))
        hint = f"; it holds run folders, the newest is '{runs[-1].parent}'" if runs else ''
        raise CheckpointError(f"'{folder}' is neither a run folder (it has no config.yaml) nor an exported model (no "
                              f'model.json){hint}')
    opened = run.open_run(folder, contexts=contexts[:1])
    return ImageClassifier(opened.classes, TestTransform(opened.cfg.data.test),
                           lambda images: mx.nd.softmax(opened.method.net(opened.normalize(images))),
                           opened.ctx, batch_size)


def classify(model, paths, count, bad_image='fail'):
    """Return what the model says of ``paths``, and the images that could not be read.

    :returns: list of (path, its :func:`ranking` of ``count`` classes), in the order of ``paths``; dict path → reason.
    :raises DataError: at the first unreadable image, if ``bad_image`` is 'fail'; if none can be read.
    """
    bad = {}

    def readable():
        for path in paths:
            try:
                yield path, model.load(path)
            except DataError as error:
                if bad_image == 'fail':
                    raise DataError(f'{error} (--bad-image skip leaves such images out)') from None
                bad[path] = str(error)

    found = {}
    with progress(len(paths), 'predict') as bar:
        for path, row in model.stream(readable()):
            found[path] = ranking(model.classes, row, count)
            bar.update()
    for reason in bad.values():
        print(f'skipped: {reason}', file=sys.stderr)
    if not found:
        raise DataError(f'none of the {len(paths)} images could be read')
    return [(path, found[path]) for path in paths if path in found], bad


def ranking(classes, probabilities, count):
    """Return the ``count`` most probable classes, the best first: list of (name, probability)."""
    order = np.argsort(-probabilities, kind='stable')[:count]
    return [(classes[i], float(f'{probabilities[i]:.7g}')) for i in order]


def write_csv(path, rows, bad):
    """Columns path, class_1, probability_1, class_2, …"""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(['path'] + [f'{column}_{rank}' for rank in range(1, len(rows[0][1]) + 1)
                                for column in ('class', 'probability')])
    for image, ranked in rows:
        writer.writerow([image] + [value for pair in ranked for value in pair])
    write_atomically(path, table.getvalue().encode('utf-8', 'surrogateescape'))  # paths are bytes to the system


def write_json(path, rows, bad):
    """The same as a tree, with the images that were skipped and why."""
    tree = {'images': [{'path': image, 'predictions': [{'class': name, 'probability': p} for name, p in ranked]}
                       for image, ranked in rows],
            'skipped': [{'path': image, 'reason': reason} for image, reason in bad.items()]}
    write_atomically(path, json.dumps(tree, indent=1) + '\n')


def write_sheet(path, rows, bad):
    # Imported here: a sheet needs matplotlib, which the rest can do without.
    from gluon_fgvc.analysis.contact_sheet import Item, contact_sheet

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


if __name__ == '__main__':
    sys.exit(cli.run(main))

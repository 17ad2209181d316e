"""What a model says of a list of image files, and the tables that tell it."""
import csv
import io
import json

from gluon_fgvc.deploy.predictor import ranking
from gluon_fgvc.errors import DataError
from gluon_fgvc.files import write_atomically


def classify(model, paths, count, bad_image='fail', progress=None):
    """Return what ``model`` (an ImageClassifier) says of ``paths``, and the images that could not be read.

    :returns: list of (path, its :func:`~gluon_fgvc.deploy.predictor.ranking` of ``count`` classes), in the order of
        ``paths``; dict path → reason.
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
    for path, row in model.stream(readable()):
        found[path] = ranking(model.classes, row, count)
        if progress is not None:
            progress.update()
    if not found:
        raise DataError(f'none of the {len(paths)} images could be read')
    return [(path, found[path]) for path in paths if path in found], bad


def write_csv(path, rows, _):
    """Write ``rows`` of :func:`classify` with columns path, class_1, probability_1, class_2, …"""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(['path'] + [f'{column}_{rank}' for rank in range(1, len(rows[0][1]) + 1)
                                for column in ('class', 'probability')])
    for image, ranked in rows:
        writer.writerow([image] + [value for pair in ranked for value in pair])
    write_atomically(path, table.getvalue().encode('utf-8', 'surrogateescape'))  # paths are bytes to the system


def write_json(path, rows, bad):
    """Write the same as a tree, with the images that were skipped and why."""
    tree = {'images': [{'path': image, 'predictions': [{'class': name, 'probability': p} for name, p in ranked]}
                       for image, ranked in rows],
            'skipped': [{'path': image, 'reason': reason} for image, reason in bad.items()]}
    write_atomically(path, json.dumps(tree, indent=1) + '\n')

"""Two classifiers on the same images: where only one of them is right."""
from pathlib import Path
from typing import NamedTuple

from gluon_fgvc import run_folder as run_files
from gluon_fgvc.errors import CheckpointError


class Pairing(NamedTuple):
    """Counts of images by who was right; they sum to ``images``."""

    both: int
    only_first: int
    only_second: int
    neither: int

    @property
    def images(self):
        return sum(self)

    @property
    def correct(self):
        """Images that the first and that the second got right."""
        return self.both + self.only_first, self.both + self.only_second


def read_predictions(path, split='test'):
    """Return a dict of image → :class:`~gluon_fgvc.run_folder.Prediction`.

    :param path: a ``predictions*.csv``, or the folder of a run that has evaluated ``split``.
    :raises CheckpointError: if it is not there, not readable, without labels, or names an image twice.
    """
    path = Path(path)
    if path.is_dir():
        path = run_files.RunFolder(path).predictions_file(run_files.suffix_of(split))
    rows = run_files.read_predictions(path)
    found = {row.path: row for row in rows}
    if not rows:
        raise CheckpointError(f"'{path}' has no image with a label")
    if len(found) < len(rows):
        raise CheckpointError(f"'{path}' names {len(rows) - len(found)} images more than once")
    return found


def pair(first, second):
    """Return the :class:`Pairing` of two results of :func:`read_predictions`.

    :raises CheckpointError: unless they are of the same images with the same labels.
    """
    differing = sorted(first.keys() ^ second.keys())
    if differing:
        raise CheckpointError(f"the predictions are not of the same images: {len(differing)} are in one file only, "
                              f"e.g. '{differing[0]}'; evaluate both on one split")
    for path in first:
        if first[path].label_name != second[path].label_name:
            raise CheckpointError(f"'{path}' has label '{first[path].label_name}' in one file and "
                                  f"'{second[path].label_name}' in the other: they are not of the same task")
    right = [(first[path].correct, second[path].correct) for path in first]
    return Pairing(*(right.count(case) for case in ((True, True), (True, False), (False, True), (False, False))))


def share_tested(paths, predictions, split='test'):
    """Return images of ``split`` over training images for runs that differ in their images, 0 where they do not.

    :param paths: of run folders, or files in them; ``predictions`` what :func:`read_predictions` made of them.
    :returns: its mean, or None where a run folder does not say how many images it was trained on.
    """
    if all(one.keys() == predictions[0].keys() for one in predictions):
        return 0.0
    shares = []
    for path, rows in zip(map(Path, paths), predictions):
        record = run_files.RunFolder(path if path.is_dir() else path.parent).read_split()
        if record is None or 'train' not in record['splits']:
            return None
        shares.append(len(rows) / record['splits']['train']['images'])
    return sum(shares) / len(shares)

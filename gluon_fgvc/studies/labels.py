"""Which labels are likely wrong, by what runs said of images that they were not trained on.

Confident learning (Northcutt, Jiang, Chuang, JAIR 70, 2021, Sec. 3.1): a run says class k of an image where it gives k
at least the probability that it gives k on average to the images labelled k. So a class that the runs hardly know
needs little, and runs that are too sure of everything need much. Where what it says is not the label, the label is
suspect; some of these are wrong labels, the others hard images, and only a look can tell.
"""
from collections import Counter
from typing import Mapping, NamedTuple

import numpy as np

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.studies.pairing import read_predictions

COLUMNS = ('path', 'label', 'label_name', 'suggested', 'suggested_name', 'label_probability', 'suggested_probability',
           'runs', 'runs_that_agree')


class Said(NamedTuple):
    """What all runs together said of an image; probabilities are means over the ``runs`` that saw it."""

    path: str
    label: int
    probability: float           # of the label
    others: Mapping[int, float]  # of other classes, as far as they were among the five most probable; else 0
    firsts: Mapping[int, int]    # class → how many runs thought it the most probable

    @property
    def runs(self):
        return sum(self.firsts.values())


class Suspect(NamedTuple):
    """An image whose label is likely wrong."""

    path: str
    label: int
    suggested: int
    label_probability: float
    suggested_probability: float
    runs: int   # that saw the image
    agree: int  # of them, that thought the suggested class the most probable

    @property
    def margin(self):
        return self.suggested_probability - self.label_probability

    def row(self, classes):
        """Return the values of ``COLUMNS``."""
        return (self.path, self.label, classes[self.label], self.suggested, classes[self.suggested],
                f'{self.label_probability:.6f}', f'{self.suggested_probability:.6f}', self.runs, self.agree)


class Found(NamedTuple):
    """The suspects among ``images`` images, and the names of the classes."""

    suspects: list
    images: int
    classes: list


def pool(tables):
    """Return a :class:`Said` of each image, by path.

    :param tables: lists of :class:`~gluon_fgvc.run_folder.Prediction`, one a run; of several runs on an image, be they
        seeds, the means are taken, and runs of several folds add up to all images.
    :raises CheckpointError: if an image has several labels.
    """
    found = {}
    for row in (row for table in tables for row in table):
        found.setdefault(row.path, []).append(row)
    pooled = []
    for path, rows in sorted(found.items()):
        labels = {row.label for row in rows}
        if len(labels) > 1:
            names = "', '".join(sorted({row.label_name for row in rows}))
            raise CheckpointError(f"'{path}' has the labels '{names}': the runs are not of the same task")
        label, = labels
        sums = Counter()
        for row in rows:
            sums.update({k: p for k, p in row.top.items() if k != label})
        pooled.append(Said(path, label, sum(row.label_probability for row in rows) / len(rows),
                           {k: p / len(rows) for k, p in sums.items()}, Counter(row.predicted for row in rows)))
    return pooled


def suspects(pooled):
    """Return the :class:`Suspect` images of what :func:`pool` returned, those by the widest margin first."""
    labels = np.array([said.label for said in pooled])
    own = np.array([said.probability for said in pooled])
    usual = {int(k): own[labels == k].mean() for k in np.unique(labels)}
    found = []
    for said in pooled:
        # A class that is no image's label has no mean to be compared with, so it is never suggested.
        sure = {k: p for k, p in said.others.items() if k in usual and p >= usual[k]}
        if not sure:
            continue
        best = max(sure, key=lambda k: (sure[k], -k))
        if sure[best] > said.probability:  # else the runs think the label right, though less surely than others
            found.append(Suspect(said.path, said.label, best, said.probability, sure[best], said.runs,
                                 said.firsts[best]))
    return sorted(found, key=lambda suspect: (-suspect.margin, suspect.path))


def pairs(found):
    """Return how many of the suspects were labelled i and look like j: list of ((i, j), count), most first."""
    counts = Counter((suspect.label, suspect.suggested) for suspect in found)
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def suspect_labels(folders, splits=('test',)):
    """Return what was :class:`Found` in the predictions of run folders on ``splits``, 'test' and 'val'.

    :raises CheckpointError: if a folder is no run, has not evaluated a split, or has other classes than the first.
    """
    tables, classes = [], None
    for files in map(RunFolder, folders):
        own = files.read_classes()
        if own is None:
            raise CheckpointError(f"'{files}' is not a run folder: {RunFolder.classes} is missing")
        if own != (classes or own):
            raise CheckpointError(f"'{files}' and '{folders[0]}' have other classes")
        classes = own
        tables += [list(read_predictions(files, split).values()) for split in splits]
        if any(row.label_probability is None for row in tables[-1]):
            raise CheckpointError(f"the predictions of '{files}' do not say how probable the labels are; fgvc evaluate "
                                  'writes them anew')
    said = pool(tables)
    return Found(suspects(said), len(said), classes)

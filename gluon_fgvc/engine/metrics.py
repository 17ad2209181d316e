"""Accuracies and confusion from recorded predictions, and running means that stay on the device."""
from dataclasses import dataclass
from typing import Optional

import numpy as np
from mxnet import nd

from gluon_fgvc.engine import statistics

TOP = 5  # how many best classes of an image are recorded


@dataclass
class Predictions:
    """What a network said of N images; padding never enters, so every row counts.

    ``indices`` (N,) rows of the image set; ``labels`` (N,) int64; ``top`` (N,≤5) classes from most to
    least probable and ``top_probabilities`` beside them; ``label_probabilities`` (N,); ``losses`` (N,)
    cross-entropy in nats against the hard label. ``calibrated`` (N,2) are the probability of the most probable
    class and the loss at the temperature fitted on validation, None where there is none.
    """

    indices: np.ndarray
    labels: np.ndarray
    top: np.ndarray
    top_probabilities: np.ndarray
    label_probabilities: np.ndarray
    losses: np.ndarray
    calibrated: Optional[np.ndarray] = None

    @classmethod
    def join(cls, parts):
        """Join the predictions of several batches."""
        fields = ([getattr(part, name) for part in parts] for name in cls.__dataclass_fields__)
        return cls(*(None if arrays[0] is None else np.concatenate(arrays) for arrays in fields))

    def gather(self, team):
        """Return the predictions of all processes of ``team`` together, by index."""
        own = [getattr(self, name) for name in self.__dataclass_fields__]
        together = [None if values is None else team.gather(values) for values in own]
        order = np.argsort(together[0], kind='stable')
        return Predictions(*(None if values is None else values[order] for values in together))

    def __len__(self):
        return len(self.labels)

    @property
    def correct(self):
        """(N,) bool: the most probable class is the label."""
        return self.top[:, 0] == self.labels


def predictions_of(scores, labels, indices, temperature=None):
    """Record ``scores`` (N,K) numpy of images ``indices`` (N,) with hard ``labels`` (N,)."""
    scores = scores.astype('float64')
    log_probabilities = _log_softmax(scores)
    # A stable sort of the negated scores: among equals the lower class index wins, on every machine.
    top = np.argsort(-scores, axis=1, kind='stable')[:, :TOP]
    rows = np.arange(len(labels))
    of_label, calibrated = log_probabilities[rows, labels], None
    if temperature is not None:
        cooled = _log_softmax(scores / temperature)
        calibrated = np.stack([np.exp(cooled[rows, top[:, 0]]), -cooled[rows, labels]], axis=1)
    return Predictions(np.asarray(indices), labels, top, np.exp(np.take_along_axis(log_probabilities, top, 1)),
                       np.exp(of_label), -of_label, calibrated)


def _log_softmax(scores):
    shifted = scores - scores.max(axis=1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return shifted


def top_k(predictions, k):
    """Return the share of images whose label is among the ``k`` ≤ 5 most probable classes."""
    return float((predictions.top[:, :k] == predictions.labels[:, None]).any(axis=1).mean())


def confusion(predictions, num_classes):
    """Return counts (K,K): row = label, column = most probable class."""
    counts = np.zeros((num_classes, num_classes), 'int64')
    np.add.at(counts, (predictions.labels, predictions.top[:, 0]), 1)
    return counts


def summary(predictions, num_classes):
    """Return loss, top-1 and, where K is larger, top-3 and top-5, and means over classes, as shares in [0, 1]."""
    result = {'loss': float(predictions.losses.mean()), 'top1': top_k(predictions, 1)}
    result.update({f'top{k}': top_k(predictions, k) for k in (3, 5) if num_classes > k})
    return {**result, **macro(per_class(predictions, range(num_classes)))}


def calibration(predictions, temperature=None):
    """Return how far sureness and accuracy lie apart (``ece``), and with a temperature also that and the loss under it.
    """
    result = {'ece': statistics.calibration(predictions.top_probabilities[:, 0], predictions.correct)[1]}
    if temperature is not None and predictions.calibrated is not None:
        sureness, losses = predictions.calibrated.T
        result.update(temperature=temperature, calibrated_ece=statistics.calibration(sureness, predictions.correct)[1],
                      calibrated_loss=float(losses.mean()))
    return result


def per_class(predictions, classes):
    """Return one dict a class: name, images, correct, accuracy, which is its recall, precision and F1.

    All three are None for a class without images. A class that nothing was taken for has precision 0.
    """
    counts = confusion(predictions, len(classes))
    rows = []
    for k, name in enumerate(classes):
        images, correct, taken = int(counts[k].sum()), int(counts[k, k]), int(counts[:, k].sum())
        accuracy, precision, f1 = (correct / images, correct / max(taken, 1), 2 * correct / (images + taken)) \
            if images else (None,) * 3
        rows.append({'name': name, 'images': images, 'correct': correct, 'accuracy': accuracy, 'precision': precision,
                     'recall': accuracy, 'f1': f1})
    return rows


def macro(rows):
    """Return the means of the rows of :func:`per_class` over the classes that have images.

    ``mean_class_accuracy`` is the mean recall; ``macro_f1`` the mean of the classes' F1, not that of the means.
    """
    rows = [row for row in rows if row['images']]
    return {name: float(np.mean([row[key] for row in rows])) for name, key in
            (('mean_class_accuracy', 'recall'), ('macro_precision', 'precision'), ('macro_f1', 'f1'))}


def per_group(rows, groups):
    """Sum the rows of :func:`per_class` over super-categories.

    :param groups: the super-category of each class.
    :returns: one dict a super-category, by name: name, classes, images, correct, accuracy (None without images).
    """
    result = []
    for name in sorted(set(groups)):
        own = [row for row, group in zip(rows, groups) if group == name]
        images, correct = (sum(row[key] for row in own) for key in ('images', 'correct'))
        result.append({'name': name, 'classes': len(own), 'images': images, 'correct': correct,
                       'accuracy': correct / images if images else None})
    return result


def per_certainty(predictions, targets, classes):
    """Return how many images of each class are right, by how sure its annotators were.

    :param targets: (M,K) class probabilities of the image set that ``predictions`` index; an image's certainty is that
        of its label, rounded to hundredths.
    :returns: one dict for each that occurs, by class, the surest first: name, certainty, images, correct, accuracy.
    """
    certainty = np.round(targets[predictions.indices, predictions.labels].astype('float64'), 2)
    kinds, kind_of = np.unique(np.stack([predictions.labels, -certainty], 1), axis=0, return_inverse=True)
    images = np.bincount(kind_of.ravel(), minlength=len(kinds))
    correct = np.bincount(kind_of.ravel(), predictions.correct, len(kinds)).astype(int)
    return [{'name': classes[int(label)], 'certainty': float(-negative), 'images': int(n), 'correct': int(right),
             'accuracy': float(right / n)} for (label, negative), n, right in zip(kinds, images, correct)]


class RunningMeans:
    """Weighted means of named values, summed on the devices and read with one synchronisation."""

    def __init__(self):
        self.sums, self.counts = {}, {}

    def add(self, name, values):
        """Add the elements of NDArray ``values``."""
        key = (name, values.context)
        total = values.sum()
        self.sums[key] = self.sums[key] + total if key in self.sums else total
        self.counts[name] = self.counts.get(name, 0) + values.size

    def means(self, team=None):
        """Return name → mean as floats, over all processes of ``team``. One synchronisation."""
        totals = {}
        for (name, _), value in self.sums.items():
            totals[name] = totals.get(name, 0.0) + value.asscalar()
        counts = self.counts
        if team is not None and team.size > 1:
            values = team.add(np.array([[totals[name], counts[name]] for name in totals], 'float64').ravel())
            totals, counts = dict(zip(totals, values[::2])), dict(zip(totals, values[1::2]))
        return {name: float(total) / counts[name] for name, total in totals.items()}

    def read(self, team=None):
        """Return :meth:`means` and start anew."""
        means = self.means(team)
        self.__init__()
        return means

    def state(self):
        """Return (sums, counts): ``<name>@<device>``, numbered as they came, → numpy (1,), and name → int."""
        devices = list(dict.fromkeys(context for _, context in self.sums))
        return ({f'{name}@{devices.index(context)}': value.asnumpy() for (name, context), value in self.sums.items()},
                dict(self.counts))

    def restore(self, sums, counts, contexts):
        """Take up where :meth:`state` left off, on the devices ``contexts``, of which there may be fewer now."""
        self.sums, self.counts = {}, dict(counts)
        for key, value in sums.items():
            name, _, device = key.rpartition('@')
            context = contexts[min(int(device), len(contexts) - 1)]
            value = nd.array(value, ctx=context, dtype=value.dtype)
            self.sums[name, context] = self.sums[name, context] + value if (name, context) in self.sums else value


class FirstBad:
    """The first step at which a loss term was not finite, kept on the device until asked for."""

    _NEVER = 2.0 ** 30  # float32 holds every step up to 2^24 exactly; 2^30 is none of them

    def __init__(self):
        self.first = {}

    def watch(self, term, values, step):
        """Look at NDArray ``values`` of loss ``term`` at ``step`` without waiting for them."""
        key = (term, values.context)
        finite = nd.contrib.isfinite(values).min()
        seen = finite * self._NEVER + (1 - finite) * step
        self.first[key] = nd.minimum(self.first[key], seen) if key in self.first else seen

    def read(self):
        """Return (step, term) of the first bad value, or None. One synchronisation."""
        found = [(int(value.asscalar()), term) for (term, _), value in self.first.items()]
        found = [item for item in found if item[0] < self._NEVER]
        return min(found) if found else None

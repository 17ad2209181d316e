"""What predictions are worth where some images are left to a person, or where one of two classes must not be missed."""
import math

import numpy as np

COVERAGES = tuple(k / 20 for k in range(1, 21))  # shares of the images that are answered
RECALLS = 0.8, 0.9, 0.95, 0.99                   # shares of a class that are to be found


def selective(sureness, correct, coverages=COVERAGES):
    """Return how accurate the surest predictions are: selective classification (Geifman and El-Yaniv, NIPS 2017).

    :param sureness: (N,) probability of the predicted class; N above 0.
    :param correct: (N,) whether the prediction was right.
    :param coverages: the least shares of the images that are answered, each in (0, 1]. Images that are equally sure are
        answered together.
    :returns: one dict for each that differs: images that are answered, coverage, which share of all they are, correct,
        accuracy, and probability, that of the least sure of them.
    """
    sureness, correct = np.asarray(sureness, 'float64'), np.asarray(correct, bool)
    surest = np.sort(sureness)[::-1]
    rows = []
    for least in dict.fromkeys(surest[_count(coverage, len(surest)) - 1] for coverage in coverages):
        answered = sureness >= least
        images, right = int(answered.sum()), int(correct[answered].sum())
        rows.append({'coverage': images / len(surest), 'images': images, 'correct': right, 'accuracy': right / images,
                     'probability': float(least)})
    return rows


def roc_auc(scores, positive):
    """Return the probability that a positive has the larger score than a negative, of which ties count half.

    That is the area under the ROC curve, by ranks (Hanley and McNeil 1982).

    :param scores: (N,) numbers.
    :param positive: (N,) bool, of which there are some of both.
    """
    from scipy.stats import rankdata  # a second, when it is needed
    positive = np.asarray(positive, bool)
    found, others = int(positive.sum()), int((~positive).sum())
    return float((rankdata(scores)[positive].sum() - found * (found + 1) / 2) / (found * others))


def operating_points(scores, positive, recalls=RECALLS):
    """Return, for each of ``recalls``, the largest threshold of ``scores`` that finds at least this share of positives.

    :param scores, positive: as of :func:`roc_auc`; an image is taken where its score is at least the threshold.
    :param recalls: shares in (0, 1].
    :returns: one dict for each that differs: threshold, found and recall, of the positives; mistaken and
        false_positive_rate, of the negatives; precision.
    """
    scores, positive = np.asarray(scores, 'float64'), np.asarray(positive, bool)
    wanted = np.sort(scores[positive])[::-1]
    rows = []
    for threshold in dict.fromkeys(wanted[_count(recall, len(wanted)) - 1] for recall in recalls):
        found, mistaken = (int((scores[group] >= threshold).sum()) for group in (positive, ~positive))
        rows.append({'threshold': float(threshold), 'found': found, 'recall': found / len(wanted), 'mistaken': mistaken,
                     'false_positive_rate': mistaken / int((~positive).sum()),
                     'precision': found / (found + mistaken)})
    return rows


def _count(share, whole):
    """The fewest of ``whole`` that are at least this share; 0.95 of 20 are 19 whatever rounding makes of it."""
    return max(1, math.ceil(share * whole - 1e-9))


def summary(predictions, classes, temperature=None):
    """Return what an evaluation keeps: ``selective`` and, of two classes, ``roc_auc`` and ``operating_points``.

    The latter are of both classes, the one with fewer images first, each with its ``name`` and the ``probability`` of
    the class from which on an image is taken.

    :param predictions: :class:`~.metrics.Predictions`.
    :param temperature: what the logits are divided by before they become probabilities; None leaves them, and so do
        predictions that are not ``calibrated``, such as the mean of several networks.
    """
    if predictions.calibrated is None:
        temperature = None
    sureness = predictions.top_probabilities[:, 0] if temperature is None else predictions.calibrated[:, 0]
    result = {'selective': selective(sureness, predictions.correct)}
    if len(classes) != 2 or len(np.unique(predictions.labels)) < 2:
        return result
    odds, second = _log_odds(predictions) / (temperature or 1.0), predictions.labels == 1
    points = []
    for k in (0, 1) if second.mean() >= 0.5 else (1, 0):
        for point in operating_points(odds if k else -odds, second if k else ~second):
            threshold = point.pop('threshold')
            points.append({'name': classes[k], 'probability': _sigmoid(threshold), **point})
    return {**result, 'roc_auc': roc_auc(odds, second), 'operating_points': points}


def _log_odds(predictions):
    """Return (N,) log of the odds of class 1 against class 0; those of a probability of 0 are those of 1e-300."""
    logs = np.log(np.maximum(predictions.top_probabilities, 1e-300))
    return np.where(predictions.top[:, 0] == 1, 1, -1) * (logs[:, 0] - logs[:, 1])


def _sigmoid(value):
    return 1 / (1 + math.exp(-value)) if value > -700 else 0.0

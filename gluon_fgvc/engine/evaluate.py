"""Run a network over a split, write what it said of each image, and sum it up."""
import datetime

import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import split_and_load

from gluon_fgvc.engine import ending, metrics, operating
from gluon_fgvc.engine.temperature import usable
from gluon_fgvc.errors import DataError
from gluon_fgvc.run_folder import RunFolder


def predict(net, normalize, loader, contexts, progress=None, **calibration):
    """Return :class:`~gluon_fgvc.engine.metrics.Predictions` of ``net`` over one pass of ``loader``.

    Labels are the image set's class indices, also where training targets are soft.

    :param calibration: ``temperature`` or ``scores`` as of :func:`predict_together`.
    """
    return predict_together([[(net, normalize, loader)]], contexts, progress, **calibration)[0]


def predict_together(members, contexts, progress=None, *, temperature=None, scores=None):
    """Return the predictions of several networks, each by several views of every image, and of each by itself.

    :param members: for each network the list of its views, (net, normalize, loader); the loaders go through the
        same images in batches of the same size.
    :param temperature: of the first view of the first network, for ``calibrated`` predictions; None without.
    :param scores: :class:`~.temperature.Scores` that take in what that view says; None without.
    :returns: Predictions of the mean probability over networks and views, every one counting the same, and a list
        of each network's Predictions by its first view.
    """
    views = [(number, view) for number, member in enumerate(members) for view in member]
    firsts = [next(i for i, (owner, _) in enumerate(views) if owner == number) for number in range(len(members))]
    together, alone, image_set = [], [[] for _ in members], members[0][0][2].image_set
    for batches in zip(*(loader.epoch(0) for _, (_, _, loader) in views)):
        ending.stop_if_asked()
        indices = batches[0].indices
        if not all(np.array_equal(batch.indices, indices) for batch in batches):
            raise DataError(f"split '{image_set.name}': an image could be read for one view and not for another")
        found = [_scores(net, normalize, batch.images, contexts)
                 for (_, (net, normalize, _)), batch in zip(views, batches)]
        labels = image_set.labels[indices]
        if scores is not None:
            scores.add(found[0], labels)
        for parts, first in zip(alone, firsts):
            parts.append(metrics.predictions_of(found[first], labels, indices, None if first else temperature))
        if len(views) > 1:
            together.append(metrics.predictions_of(_log_mean_probabilities(found), labels, indices))
        if progress is not None:
            progress.update(len(indices))
    if not alone[0]:
        raise DataError(f"split '{image_set.name}' has no readable image")
    alone = [metrics.Predictions.join(parts) for parts in alone]
    return metrics.Predictions.join(together) if together else alone[0], alone


def _scores(net, normalize, images, contexts):
    shards = split_and_load(images, contexts[:len(images)], even_split=False)
    with autograd.predict_mode():
        scores = [net(normalize(shard)) for shard in shards]  # launched on all devices before any is read
    return np.concatenate([array.asnumpy() for array in scores])


def _log_mean_probabilities(scores):
    """Return log of the mean of softmax over a list of scores (N,K), in float64."""
    logs = []
    for values in scores:
        values = values.astype('float64') - values.max(axis=1, keepdims=True)
        logs.append(values - np.log(np.exp(values).sum(axis=1, keepdims=True)))
    return np.logaddexp.reduce(logs, axis=0) - np.log(len(logs))


def evaluation(predictions, loader, classes, origin, groups=None):
    """Return the JSON-able summary of one evaluation; what a run folder keeps of it.

    :param loader: what the predictions were made of; broken images that it skipped are counted.
    :param origin: dict of ``chosen_by``, what chose the epoch, with the temperature that validation has fitted, and
        ``checkpoint``, 'best' or 'last'.
    :param groups: the super-category of each class, where the data set has them.
    """
    rows, targets = metrics.per_class(predictions, classes), loader.image_set.targets
    fitted = origin['chosen_by'].get('temperature')
    return {
        'split': loader.image_set.name, 'images': len(predictions), 'skipped': len(loader.bad),
        **metrics.summary(predictions, len(classes)),
        **metrics.calibration(predictions, fitted), **operating.summary(predictions, classes, usable(fitted)),
        'per_class': rows, **({'per_group': metrics.per_group(rows, groups)} if groups else {}),
        **({} if targets is None else {'per_certainty': metrics.per_certainty(predictions, targets, classes)}),
        'confusion': metrics.confusion(predictions, len(classes)).tolist(),
        'chosen_by': origin['chosen_by'], 'checkpoint': origin['checkpoint'],
        'evaluated_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
    }


def write_evaluation(folder, predictions, image_set, classes, result):
    """Write the evaluation ``result`` and what was said of each image into the run folder ``folder``."""
    rows = []
    for row in np.argsort(predictions.indices, kind='stable'):
        label, top = predictions.labels[row], predictions.top[row]
        shares = [f'{share:.6f}' for share in predictions.top_probabilities[row]]
        rows.append([image_set.paths[predictions.indices[row]], label, classes[label], top[0], classes[top[0]],
                     shares[0], f'{predictions.label_probabilities[row]:.6f}', int(top[0] == label),
                     ' '.join(map(str, top)), ' '.join(shares)])
    RunFolder(folder).write_evaluation(result, rows)

"""Run a network over a split, write what it said of each image, and sum it up."""
import csv
import datetime
import io
import json

import numpy as np
from mxnet import autograd
from mxnet.gluon.utils import split_and_load

from gluon_fgvc.engine import metrics
from gluon_fgvc.errors import DataError
from gluon_fgvc.files import append, write_atomically


def predict(net, normalize, loader, image_set, contexts, progress=None):
    """Return :class:`~gluon_fgvc.engine.metrics.Predictions` of ``net`` over one pass of ``loader``.

    Labels are the image set's class indices, also where training targets are soft.
    """
    return predict_together([[(net, normalize, loader)]], image_set, contexts, progress)[0]


def predict_together(members, image_set, contexts, progress=None):
    """Return the predictions of several networks, each by several views of every image, and of each by itself.

    :param members: for each network the list of its views, (net, normalize, loader); the loaders go through the
        same images in batches of the same size.
    :returns: Predictions of the mean probability over networks and views, every one counting the same, and a list
        of each network's Predictions by its first view.
    """
    views = [(number, view) for number, member in enumerate(members) for view in member]
    firsts = [next(i for i, (owner, _) in enumerate(views) if owner == number) for number in range(len(members))]
    together, alone = [], [[] for _ in members]
    for batches in zip(*(loader.epoch(0) for _, (_, _, loader) in views)):
        indices = batches[0].indices
        if not all(np.array_equal(batch.indices, indices) for batch in batches):
            raise DataError(f"split '{image_set.name}': an image could be read for one view and not for another")
        scores = [_scores(net, normalize, batch.images, contexts)
                  for (_, (net, normalize, _)), batch in zip(views, batches)]
        labels = image_set.labels[indices]
        for parts, first in zip(alone, firsts):
            parts.append(metrics.predictions_of(scores[first], labels, indices))
        if len(views) > 1:
            together.append(metrics.predictions_of(_log_mean_probabilities(scores), labels, indices))
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


def evaluation(predictions, image_set, classes, skipped, chosen_by, checkpoint, groups=None):
    """Return the JSON-able summary of one evaluation; the format of ``evaluation.json``.

    :param groups: the super-category of each class, where the data set has them.
    """
    rows = metrics.per_class(predictions, classes)
    accuracies = [row['accuracy'] for row in rows if row['accuracy'] is not None]
    return {
        'split': image_set.name, 'images': len(predictions), 'skipped': skipped,
        **metrics.summary(predictions, len(classes)),
        'mean_class_accuracy': float(np.mean(accuracies)),
        'per_class': rows, **({'per_group': metrics.per_group(rows, groups)} if groups else {}),
        'confusion': metrics.confusion(predictions, len(classes)).tolist(),
        'chosen_by': chosen_by, 'checkpoint': checkpoint,
        'evaluated_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
    }


def write_evaluation(folder, predictions, image_set, classes, result):
    """Write ``evaluation*.json`` and ``predictions*.csv`` into the run folder; return both paths.

    The files of the best checkpoint on the test split, by a single view, carry no suffix; every test evaluation is
    also added to ``test_evaluations.jsonl``, so that nobody has to trust that there was only one.
    """
    suffix = suffix_of(result['split'], result['checkpoint'], result.get('views'))
    table = io.StringIO()
    writer = csv.writer(table, lineterminator='\n')
    writer.writerow(['path', 'label', 'label_name', 'predicted', 'predicted_name', 'probability',
                     'label_probability', 'correct', 'top5', 'top5_probabilities'])
    for row in np.argsort(predictions.indices, kind='stable'):
        label, top = predictions.labels[row], predictions.top[row]
        shares = [f'{share:.6f}' for share in predictions.top_probabilities[row]]
        writer.writerow([image_set.paths[predictions.indices[row]], label, classes[label], top[0], classes[top[0]],
                         shares[0], f'{predictions.label_probabilities[row]:.6f}', int(top[0] == label),
                         ' '.join(map(str, top)), ' '.join(shares)])
    predictions_path, result_path = folder / f'predictions{suffix}.csv', folder / f'evaluation{suffix}.json'
    list_test(folder, result)  # before its figures can be read
    write_atomically(predictions_path, table.getvalue())
    write_atomically(result_path, json.dumps(result, indent=1) + '\n')
    return result_path, predictions_path


def suffix_of(split, checkpoint, views):
    """Return what the names of an evaluation's files carry: what differs from the usual."""
    words = ((split, 'test'), (checkpoint, 'best'), (views, None))
    return ''.join(f'_{word}' for word, usual in words if word != usual)


def list_test(folder, result):
    """Add evaluation ``result`` to those of the test split that run folder ``folder`` lists, if it is of that split."""
    if result['split'] == 'test':
        keys = ('evaluated_at', 'checkpoint', 'chosen_by', 'images', 'loss', 'top1', 'views', 'ensemble')
        record = {key: result[key] for key in keys if key in result}
        append(folder / 'test_evaluations.jsonl', json.dumps(record) + '\n')

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
    parts = []
    for batch in loader.epoch(0):
        shards = split_and_load(batch.images, contexts[:len(batch.indices)], even_split=False)
        with autograd.predict_mode():
            scores = [net(normalize(shard)) for shard in shards]  # launched on all devices before any is read
        scores = np.concatenate([array.asnumpy() for array in scores])
        parts.append(metrics.predictions_of(scores, image_set.labels[batch.indices], batch.indices))
        if progress is not None:
            progress.update(len(batch.indices))
    if not parts:
        raise DataError(f"split '{image_set.name}' has no readable image")
    return metrics.Predictions.join(parts)


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

    The files of the best checkpoint on the test split carry no suffix; every test evaluation is also
    added to ``test_evaluations.jsonl``, so that nobody has to trust that there was only one.
    """
    suffix = ''.join(f'_{word}' for word, usual in ((result['split'], 'test'), (result['checkpoint'], 'best'))
                     if word != usual)
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
    if result['split'] == 'test':  # listed before its figures can be read
        record = {key: result[key] for key in ('evaluated_at', 'checkpoint', 'chosen_by', 'images', 'loss', 'top1')}
        append(folder / 'test_evaluations.jsonl', json.dumps(record) + '\n')
    write_atomically(predictions_path, table.getvalue())
    write_atomically(result_path, json.dumps(result, indent=1) + '\n')
    return result_path, predictions_path

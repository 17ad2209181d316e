"""Writes run folders such as training leaves them, with made-up but plausible numbers."""
import csv
import json
import math
from pathlib import Path

import numpy as np

CONFIG = """\
data:
  name: elpv
  labels: {labels}
  train: {{resize: 256, crop: 224, flip: true}}
  eval: {{resize: 256, crop: 224}}
  batch_size: 32
  val_fraction: 0.1
  val_seed: 0
backbone: {{name: efficientnet_lite0, weights: 'package:efficientnet-lite0', global_pool: gap}}
method: {{name: finetune, cut: all, lr_mult: 10.0}}
train:
  epochs: {epochs}
  optimizer: {{name: adam, lr: 0.0006}}
  schedule: {{name: cosine, warmup: 1.0}}
run: {{seed: {seed}, work_dir: work_dirs}}
"""

ENV = {'gluon_fgvc': '0.1.0', 'python': '3.11.2', 'mxnet': '1.9.1', 'numpy': '1.23.5', 'system': 'Linux',
       'cpu': 'AMD EPYC', 'cores': 2, 'omp_num_threads': '2', 'gpus': 0}


def write_run(folder, classes=('functional', 'defective'), images=656, epochs=9, accuracy=0.88, paths=None, seed=0,
              phases=None, split='test', chosen='val'):
    """Write every file of a run to ``folder`` and return it.

    :param paths: image paths to predict on; invented names where None.
    :param phases: phase name of each epoch.
    """
    rng = np.random.default_rng(seed)
    folder, count = Path(folder), len(classes)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'config.yaml').write_text(CONFIG.format(labels='binary', epochs=epochs, seed=seed))
    (folder / 'env.json').write_text(json.dumps(ENV))
    (folder / 'classes.json').write_text(json.dumps(list(classes)))

    lines = []
    for e in range(epochs):
        done, rate = (e + 1) / epochs, 6e-4 * (0.3 if e == 0 else 0.5 * (1 + math.cos(math.pi * e / epochs)))
        record = {'kind': 'epoch', 'epoch': e, 'phase': phases[e] if phases else 'all', 'lr': rate,
                  'train_loss': 0.16 + 0.5 * math.exp(-3 * done) + rng.normal(0, 0.006),
                  'train_top1': 0.95 - 0.3 * math.exp(-3 * done) + rng.normal(0, 0.004),
                  'val_loss': 0.30 + 0.3 * math.exp(-4 * done) + 0.03 * done + rng.normal(0, 0.012),
                  'val_top1': accuracy - 0.2 * math.exp(-4 * done) + rng.normal(0, 0.008), 'seconds': 151.2}
        lines += [{'kind': 'train', 'epoch': e, 'step': 20, 'phase': 'all', 'lr': rate, 'loss': 0.5}, record]
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    best = max((line for line in lines if line['kind'] == 'epoch'), key=lambda line: line['val_top1'])

    paths = list(paths) if paths is not None else [f'images/cell{i:04d}.png' for i in range(images)]
    confusion, rows, shares = np.zeros((count, count), int), [], rng.beta(12 * accuracy, 12 * (1 - accuracy), count)
    for i, path in enumerate(paths):
        label = int(rng.integers(count) if i >= count else i)
        near = [(label + d) % count for d in (1, -1, 2)]
        predicted = label if rng.random() < shares[label] else near[int(rng.choice(3, p=(0.65, 0.25, 0.1)))]
        right = predicted == label
        probability = float(np.clip(rng.beta(9, 1.2) if right else rng.beta(4, 2), 1 / count, 1))
        confusion[label, predicted] += 1
        rows.append([path, label, classes[label], predicted, classes[predicted], f'{probability:.6f}',
                     f'{1 - probability if count == 2 and not right else probability if right else 0.05:.6f}',
                     int(right), str(predicted), f'{probability:.6f}'])
    with open(folder / 'predictions.csv', 'w', newline='', encoding='utf-8', errors='surrogateescape') as stream:
        writer = csv.writer(stream)
        writer.writerow('path label label_name predicted predicted_name probability label_probability correct top5 '
                        'top5_probabilities'.split())
        writer.writerows(rows)

    totals, right = confusion.sum(1), np.diag(confusion)
    evaluation = {
        'split': split, 'images': len(paths), 'skipped': 0, 'loss': 0.31, 'top1': float(right.sum() / len(paths)),
        'mean_class_accuracy': float(np.mean(right[totals > 0] / totals[totals > 0])),
        'per_class': [{'name': name, 'images': int(n), 'correct': int(r), 'accuracy': float(r / n) if n else None}
                      for name, n, r in zip(classes, totals, right)],
        'confusion': confusion.tolist(), 'checkpoint': 'best', 'evaluated_at': '2026-11-21T09:30:00+00:00',
        'chosen_by': {'epoch': best['epoch'], 'split': chosen, 'metric': 'top1', 'value': best['val_top1']}
        if chosen else {'epoch': epochs - 1, 'split': None}}
    for k in (3, 5):
        if count > k:
            evaluation[f'top{k}'] = 1 - (1 - evaluation['top1']) / k
    (folder / 'evaluation.json').write_text(json.dumps(evaluation))
    (folder / 'best.json').write_text(json.dumps({'chosen_by': evaluation['chosen_by']}))
    return folder

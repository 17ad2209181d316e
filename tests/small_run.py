"""The smallest real run: pictures of circles and squares in folders, and a configuration that trains on them."""
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[1]

CONFIG = '''\
data: {name: image_folder, root: images, train: {random_resized_crop: 32, flip: true}, eval: {resize: [32, 32]},
       batch_size: 4, workers: 0, val_fraction: 0.25}
backbone: {name: mobilenetv2_0.25, weights: none}
method: {name: finetune, lr_mult: 1, dropout: 0.3}
train: {epochs: 1, optimizer: {name: sgd, lr: 0.002, momentum: 0.9}, schedule: cosine}
run: {contexts: [cpu0], log_every: 1}
'''


def write(folder, train=16, test=4, classes=('circle', 'square'), seed=0):
    """Write ``cfg.yaml`` and ``images/{train,test}/<class>`` into ``folder``; ``train`` and ``test`` say how many."""
    rng = np.random.RandomState(seed)
    for split, count in (('train', train), ('test', test)):
        for label, name in enumerate(classes):
            (folder / 'images' / split / name).mkdir(parents=True)
            for i in range(count // len(classes)):
                image = rng.randint(0, 90, (40, 48, 3)).astype('uint8')
                if label:
                    cv2.rectangle(image, (8, 8), (30, 30), (200, 60, 200), -1)
                else:
                    cv2.circle(image, (20, 20), 12, (30, 200, 40), -1)
                assert cv2.imwrite(str(folder / 'images' / split / name / f'{i}.jpg'), image)
    (folder / 'cfg.yaml').write_text(CONFIG)
    return folder


def start(tool, *words, variables=None, **kwargs):
    """Start ``tools/<tool>.py`` as its own process group, its output piped unless ``kwargs`` say otherwise.

    :param variables: of its environment, besides this one's.
    """
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'PYTHONUNBUFFERED': '1', **(variables or {})}
    kwargs = {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE, 'text': True, **kwargs}
    return subprocess.Popen([sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *map(str, words)], env=environment,
                            start_new_session=True, **kwargs)


def records(folder):
    """Return the records of ``metrics.jsonl`` without what depends on the clock."""
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return [{key: value for key, value in row.items() if key not in ('seconds', 'images_per_s')} for row in rows]

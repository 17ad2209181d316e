"""A small network with what makes exports go wrong: BatchNorm, dropout, deferred shapes."""
import json

import cv2
import mxnet as mx
import numpy as np
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import deploy
from gluon_fgvc.config import EvalView
from gluon_fgvc.deploy.metadata import signature_of

CLASSES = ('hot dog', 'not hot dog', 'other')
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Net(HybridBlock):
    """Parameters are named as those of a method: ``body.0.weight``, ``classifier.weight``."""

    def __init__(self, num_classes=3, pool=None, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = nn.HybridSequential()
            self.body.add(nn.Conv2D(6, 3, strides=2), nn.BatchNorm(), nn.Activation('relu'),
                          pool or nn.GlobalAvgPool2D(), nn.Flatten(), nn.Dropout(0.5))
            self.classifier = nn.Dense(num_classes)

    def hybrid_forward(self, F, images):
        return self.classifier(self.body(images))


def build_net(**kwargs):
    mx.random.seed(3)
    net = Net(**kwargs)
    net.initialize(mx.init.Xavier(magnitude=6))
    with mx.autograd.record():  # moves the running statistics away from 0 and 1
        net(mx.nd.random.normal(1, 3, shape=(4, 3, 24, 20)))
    return net


def export_net(net, folder, **kwargs):
    settings = dict(classes=CLASSES, eval_view=EvalView(resize=(24, 20)), input_size=(24, 20), mean=MEAN, std=STD,
                    method='finetune', source={'run': '20240102-030405', 'epoch': 7})
    return deploy.export(net, folder, **{**settings, **kwargs})


def edit(folder, change):
    """Let ``change`` alter the tree of ``model.json``, and sign it again."""
    path = folder / 'model.json'
    metadata = json.loads(path.read_text())
    change(metadata)
    path.write_text(json.dumps({**metadata, 'sha256': signature_of(metadata)}))


def write_pictures(folder, count=5):
    """Write ``count`` PNG files of different sizes; return their paths."""
    rng, paths = np.random.RandomState(1), []
    folder.mkdir(parents=True)
    for i in range(count):
        image = cv2.resize(rng.randint(0, 256, (4, 5, 3)).astype('uint8'), (30 + 7 * i, 40))
        paths.append(str(folder / f'{i}.png'))
        assert cv2.imwrite(paths[-1], image)
    return paths

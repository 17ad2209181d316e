"""The book's side of the comparison in test_hotdog.py: its code for data and trainer, and its loop, twice.

Imported, this is plain Gluon, with the loop of ``train_ch13`` written anew. As a program, it calls the book's own
``train_ch13`` from the package d2l, under NumPy semantics:

    python tests/hotdog_book.py settings.json results.npz
"""
import json
import os
import sys

import mxnet as mx
import numpy as np
from mxnet import autograd, gluon
from mxnet.gluon.data.vision import transforms
from mxnet.gluon.model_zoo import vision

PREFIX = 'resnet18_v2_'


def initial_parameters(seed=0):
    """Return Parameter name → numpy array of a ResNet-18 with two classes, Xavier-initialised."""
    mx.random.seed(seed)
    np.random.seed(seed)
    return _values(_network())


def train_plain(settings):
    """Train with :func:`train_ch13`; return its rows and the final parameters."""
    net = _network(np.load(settings['initial']))
    return train_ch13(net, *_iterators(settings), gluon.loss.SoftmaxCrossEntropyLoss(), _trainer(net, settings),
                      settings['epochs']), _values(net)


def train_ch13(net, train_iter, test_iter, loss, trainer, num_epochs):
    """What the book's function of this name does on one device; returns (loss, accuracy, test accuracy) per epoch.

    The losses of a batch are summed by backward and divided by the batch in ``step``; loss and accuracy of an epoch
    are means over images, of the scores before the update.
    """
    rows = []
    for _ in range(num_epochs):
        loss_sum = correct = images = 0
        for features, labels in train_iter:
            with autograd.record():
                scores = net(features)
                values = loss(scores, labels)
            values.backward()
            trainer.step(len(labels))
            loss_sum += values.asnumpy().sum(dtype='float64')
            correct += (scores.asnumpy().argmax(axis=1) == labels.asnumpy()).sum()
            images += len(labels)
        right = [net(features).asnumpy().argmax(axis=1) == labels.asnumpy() for features, labels in test_iter]
        rows.append((loss_sum / images, correct / images, np.concatenate(right).mean()))
    return rows


def train_d2l(settings):
    """Train with d2l's own ``train_ch13``; return what it draws at the end of each epoch and the final parameters."""
    from d2l import mxnet as d2l
    mx.npx.set_np()
    drawn = {}

    class Recorder:
        """Stands in for the Animator, which draws into a notebook; the printed figures have only three digits."""

        def __init__(self, **_):
            pass

        def add(self, epoch, values):
            drawn.setdefault(epoch, []).append(values)

    d2l.Animator = Recorder
    net = _network(np.load(settings['initial']))
    d2l.train_ch13(net, *_iterators(settings), gluon.loss.SoftmaxCrossEntropyLoss(), _trainer(net, settings),
                   settings['epochs'], [mx.cpu()])
    rows = []
    for epoch in range(1, settings['epochs'] + 1):
        (loss, accuracy, _), (_, _, test_accuracy) = drawn[epoch]
        rows.append((loss, accuracy, test_accuracy))
    return rows, _values(net)


def pixels():
    """Return what the book does to the pixels of an image (H,W,3) or a batch (N,H,W,3) once it has its size."""
    return transforms.Compose([transforms.ToTensor(),
                               transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])])


def _network(values=None):
    net = vision.resnet18_v2(classes=2, prefix=PREFIX)
    net.initialize(mx.init.Xavier())
    array = mx.np.array if mx.util.is_np_array() else mx.nd.array
    net(array(np.zeros((1, 3, 32, 32), 'float32')))  # fixes the deferred shapes
    if values is not None:
        for name, parameter in net.collect_params().items():
            parameter.set_data(array(values[name]))
    # Before the trainer is made, as in the book: it hands the multipliers to the optimizer.
    net.output.collect_params().setattr('lr_mult', 10)
    return net


def _values(net):
    mx.nd.waitall()  # a pass that is still running may be rearranging the weights while they are read
    return {name: parameter.data().asnumpy() for name, parameter in net.collect_params().items()}


def _trainer(net, settings):
    return gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': settings['lr'], 'wd': settings['wd']})


def _iterators(settings):
    def iterator(split, **order):
        images = gluon.data.vision.ImageFolderDataset(os.path.join(settings['folder'], split))
        return gluon.data.DataLoader(images.transform_first(pixels()), settings['batch_size'], **order)
    return iterator('train', sampler=settings['order']), iterator('test')


def main(settings_path, results_path):
    with open(settings_path, encoding='utf-8') as stream:
        settings = json.load(stream)
    rows, values = train_d2l(settings)
    np.savez(results_path, rows=np.array(rows), **values)


if __name__ == '__main__':
    main(*sys.argv[1:])

"""Training and evaluation, without a configuration's data set or backbone.

``fit`` tells the story of a training, ``train_epoch`` makes steps of batches, ``step`` an update of a batch; ``state``
is what a resumed run starts from.
"""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

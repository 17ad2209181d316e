"""A network that is differentiated as the function it is in prediction."""
from contextlib import contextmanager

from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.nn.parameters import walk


@contextmanager
def as_in_prediction(net):
    """Let ``net`` compute in training mode, too, what it computes in prediction, so that ``record()`` is right for it.

    BatchNorm normalises by its running statistics and leaves them alone, and dropout passes all. That is what
    ``record(train_mode=False)`` is for, whose gradients are wrong on MXNet 1.9.1: those of max pooling on CPUs, where
    the places of the maxima are not kept outside training, and those of BatchNorm on GPUs (issue 18209 of MXNet).

    :param net: Block; inside the context it runs operator by operator. Afterwards all switches are as they were, and
        what was compiled still is.
    """
    blocks = {id(block): block for block in (net, *(block for _, block in walk(net)))}.values()
    saved = []

    def switch(settings, name, value):
        saved.append((settings, name, settings[name]))
        settings[name] = value

    for block in blocks:
        if isinstance(block, HybridBlock):
            switch(vars(block), '_active', False)  # a graph keeps the switches it was traced with
        if isinstance(block, nn.BatchNorm):
            switch(block._kwargs, 'use_global_stats', True)
        if isinstance(block, nn.Dropout):
            switch(vars(block), '_rate', 0)
    try:
        yield
    finally:
        for settings, name, value in saved:
            settings[name] = value

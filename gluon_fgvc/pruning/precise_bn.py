"""Precise BN: BatchNorm's statistics measured over many batches instead of kept as a moving average.

Wu and Johnson, "Rethinking 'Batch' in BatchNorm", 2021. After pruning the moving averages are those of another network;
these are of the weights that it has now. Mean and variance are the means of the batches' own; unlike there, the
spread of the batches' means is not added to the variance, since shuffled batches hardly differ in them.
"""
from mxnet import autograd
from mxnet.gluon import nn

from gluon_fgvc.nn.parameters import walk


def precise_bn(net, batches):
    """Give each BatchNorm the mean and variance of its inputs over ``batches``, each normalised by its own statistics.

    :param batches: iterable of images (N,3,H,W), normalised, all on one device. Gradients and weights stay as they are.
    """
    layers = {name: block for name, block in walk(net) if isinstance(block, nn.BatchNorm)}
    sums, count = {}, 0

    def look(name, values):
        mean = values.mean(axis=(0, 2, 3))
        square = (values - mean.reshape((1, -1, 1, 1))).square().mean(axis=(0, 2, 3))
        old = sums.get(name, (0, 0))
        sums[name] = old[0] + mean, old[1] + square

    net.hybridize(False)
    hooks = [block.register_forward_pre_hook(lambda block, inputs, name=name: look(name, inputs[0]))
             for name, block in layers.items()]
    fixed = {name: block._kwargs['use_global_stats'] for name, block in layers.items()}
    try:
        for block in layers.values():
            block._kwargs['use_global_stats'] = False
        for images in batches:
            with autograd.train_mode():
                net(images).wait_to_read()
            count += 1
    finally:
        for name, block in layers.items():
            block._kwargs['use_global_stats'] = fixed[name]
        for hook in hooks:
            hook.detach()
    for name, (mean, variance) in sums.items():
        layers[name].running_mean.set_data(mean / count)
        layers[name].running_var.set_data(variance / count)

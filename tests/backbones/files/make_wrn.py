"""Writes ``wrn.npz``: what a WRN-28-10 of WARN computes in torch (2.13), for ``test_wide_resnet.py``.

A second implementation, from the description of the net: WRN-28-10 (Zagoruyko and Komodakis, Table 1) with the
shortcut's 1×1 convolution on the raw input. The names are those of WARN's released code. Parameters are drawn by
``draw``, which the test uses as well, since 36 million are too many for a file.

    python tests/backbones/files/make_wrn.py
"""
import os
import zlib

import numpy as np

CLASSES = 10


def draw(name, shape):
    """Return the parameter ``name``: every one has its own stream of random numbers."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    if name.endswith('running_var'):
        return random.uniform(0.5, 1.5, shape).astype('float32')
    if len(shape) == 1:
        return random.uniform(-0.2, 0.2, shape).astype('float32') + (name.endswith('weight'))
    return random.standard_normal(shape).astype('float32') * np.float32(np.sqrt(1 / np.prod(shape[1:])))


def images():
    return np.random.RandomState(0).standard_normal((2, 3, 16, 16)).astype('float32')


def shapes(stem_bn):
    """Return the dict of name → shape of the net, with or without BN-ReLU behind the first convolution."""
    found = {'conv0.weight': (16, 3, 3, 3)}

    def bn(name, channels):
        found.update({f'{name}.{part}': (channels,) for part in ('weight', 'bias', 'running_mean', 'running_var')})

    before = 16
    if stem_bn:
        bn('bn0', 16)
    for group, channels in enumerate((160, 320, 640)):
        for index in range(4):
            block = f'group_{group}.block_{index}.'
            bn(block + 'bn0', before)
            found[block + 'conv0.weight'] = (channels, before, 3, 3)
            bn(block + 'bn1', channels)
            found[block + 'conv1.weight'] = (channels, channels, 3, 3)
            if before != channels:
                found[block + 'conv_reduce.weight'] = (channels, before, 1, 1)
            before = channels
    bn('bn_g2' if stem_bn else 'bn', 640)
    found.update({'classifier.weight': (CLASSES, 640), 'classifier.bias': (CLASSES,)})
    return found


def main():
    import torch
    import torch.nn.functional as functional

    def forward(x, arrays, stem_bn):
        def bn_relu(x, name):
            mean, var, weight, bias = (arrays[f'{name}.{part}'] for part in (
                'running_mean', 'running_var', 'weight', 'bias'))
            return functional.relu(functional.batch_norm(x, mean, var, weight, bias))

        x = functional.conv2d(x, arrays['conv0.weight'], padding=1)
        if stem_bn:
            x = bn_relu(x, 'bn0')
        for group in range(3):
            for index in range(4):
                block, stride = f'group_{group}.block_{index}.', 2 if group and not index else 1
                out = bn_relu(x, block + 'bn0')
                out = functional.conv2d(out, arrays[block + 'conv0.weight'], stride=stride, padding=1)
                out = bn_relu(out, block + 'bn1')
                out = functional.conv2d(out, arrays[block + 'conv1.weight'], padding=1)
                reduce = arrays.get(block + 'conv_reduce.weight')
                x = out + (x if reduce is None else functional.conv2d(x, reduce, stride=stride))
        x = bn_relu(x, 'bn_g2' if stem_bn else 'bn').mean((2, 3))
        return x @ arrays['classifier.weight'].T + arrays['classifier.bias']

    results = {}
    for stem_bn, name in ((True, 'warn_wideresnet28_10'), (False, 'warn_wideresnet28_10_base')):
        arrays = {key: torch.from_numpy(draw(key, shape)) for key, shape in shapes(stem_bn).items()}
        with torch.no_grad():
            results[name] = forward(torch.from_numpy(images()), arrays, stem_bn).numpy()
    np.savez(os.path.join(os.path.dirname(__file__), 'wrn.npz'), **results)


if __name__ == '__main__':
    main()

"""Channels cut out of a network's parameters, what they handed on kept as constants.

A filter that is gone leaves a constant behind, what BatchNorm and activation make of 0: β − γμ/σ after BatchNorm. It
is propagated into the bias or the BatchNorm of its consumers, exactly but for the pixels near the border that see
the padding. Afterwards :mod:`gluon_fgvc.pruning.precise_bn` measures BatchNorm's statistics anew.
"""
from dataclasses import dataclass

import numpy as np
from mxnet import nd

from gluon_fgvc.nn.parameters import copies
from gluon_fgvc.pruning.channels import STILL, SUMS


@dataclass(frozen=True)
class Pruned:
    """What is left of a network."""

    widths: dict      # convolution → number of output channels, those that changed
    parameters: dict  # structural name → numpy array
    dropped: list     # convolutions without a bias or BatchNorm to take the constants handed to them


def prune(channels, groups, kept):
    """Return :class:`Pruned`: the parameters of ``channels.net`` without the channels that are not ``kept``."""
    arrays = copies(channels.parameters)
    of_group = {id(group): kept[group.name] for group in groups}
    dropped = _propagate_constants(channels, of_group, arrays)
    widths = {}
    for number, node in enumerate(channels.nodes):
        layer = channels.layers[number]
        if layer is None:
            continue
        stay = of_group.get(id(channels.group(number)))
        before = of_group.get(id(channels.group(node['inputs'][0][0])))
        if node['op'] == 'BatchNorm':
            if stay is not None:
                for name in ('gamma', 'beta', 'running_mean', 'running_var'):
                    arrays[f'{layer}.{name}'] = arrays[f'{layer}.{name}'][stay]
            continue
        if before is not None and int(node['attrs'].get('num_group', 1)) == 1:
            arrays[f'{layer}.weight'] = arrays[f'{layer}.weight'][:, before]
        if stay is not None:
            for name in ('weight', 'bias'):
                if f'{layer}.{name}' in arrays:
                    arrays[f'{layer}.{name}'] = arrays[f'{layer}.{name}'][stay]
            if len(stay) < channels.group(number).channels:
                widths[layer] = len(stay)
    return Pruned(widths, arrays, dropped)


def _propagate_constants(channels, of_group, arrays):
    """Add to ``arrays`` what the channels that go hand on, and return the convolutions where there was no place."""
    constants, dropped = {}, []  # node → (C,), valid for channels that go
    for number, node in enumerate(channels.nodes):
        group = channels.group(number)
        layer, source = channels.layers[number], node['inputs'][0][0] if node['inputs'] else None
        if node['op'] == 'Convolution':
            weight, bias = arrays[f'{layer}.weight'], arrays.get(f'{layer}.bias')
            before = channels.group(source)
            depthwise = group is before
            if depthwise and source in constants:
                constants[number] = constants[source] * weight.sum(axis=(1, 2, 3)) + (0 if bias is None else bias)
            elif id(group) in of_group:
                constants[number] = np.zeros(group.channels, 'float32') if bias is None else bias.copy()
            if not depthwise and source in constants:
                gone = np.setdiff1d(np.arange(before.channels), of_group[id(before)])
                handed_on = weight[:, gone].sum(axis=(2, 3)) @ constants[source][gone]
                if not _take(channels, number, layer, handed_on, arrays):
                    dropped.append(layer)
        elif id(group) in of_group:
            constants[number] = _constant(node, layer, [constants[s[0]] for s in node['inputs'] if s[0] in constants],
                                          arrays)
    return dropped


def _take(channels, number, layer, handed_on, arrays):
    """Add constants (O,) to the output of the convolution at node ``number``; return whether that could be."""
    if not handed_on.any():
        return True
    if f'{layer}.bias' in arrays:
        arrays[f'{layer}.bias'] += handed_on
        return True
    users = channels.users.get(number, [])
    if len(users) == 1 and channels.nodes[users[0]]['op'] == 'BatchNorm':
        arrays[f'{channels.layers[users[0]]}.running_mean'] -= handed_on
        return True
    return False


def _constant(node, layer, inputs, arrays):
    attributes = node.get('attrs', {})
    if node['op'] == 'BatchNorm':
        gamma, beta, mean, variance = (arrays[f'{layer}.{name}']
                                       for name in ('gamma', 'beta', 'running_mean', 'running_var'))
        if attributes.get('fix_gamma', 'True') == 'True':
            gamma = np.ones_like(gamma)
        return gamma * (inputs[0] - mean) / np.sqrt(variance + float(attributes.get('eps', 1e-3))) + beta
    if node['op'] in SUMS:
        return sum(inputs)
    if node['op'] in STILL:
        return inputs[0]
    operator = getattr(nd, node['op'], None) or getattr(nd._internal, node['op'])
    public = {key: value for key, value in attributes.items() if not key.startswith('__')}
    return operator(nd.array(inputs[0]).reshape((1, -1, 1, 1)), **public).asnumpy().ravel()

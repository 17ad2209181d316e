"""Structured pruning: whole channels leave a network, with everything that belongs to them.

An output channel of a convolution, its BatchNorm entries, the depthwise filters behind it and the inputs of its
consumers go together; maps that are added to each other share their channels. Such groups are read from the graph.
Channels are ranked by attention (the paper's future work), by the L1 norm of their filters (Li et al., ICLR 2017) or
by the first-order Taylor expansion of the loss (Molchanov et al., ICLR 2017).

A filter that is gone leaves a constant behind, what BatchNorm and activation make of 0: β − γμ/σ after BatchNorm. It
is propagated into the bias or the BatchNorm of its consumers, exactly but for the pixels near the border that see
the padding. Afterwards :func:`precise_bn` measures BatchNorm's statistics anew.
"""
import json
from dataclasses import dataclass, field
from typing import List, Optional

import numpy as np
from mxnet import autograd, nd, sym
from mxnet.gluon import nn

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import cross_entropy
from gluon_fgvc.nn import attention_convolutions

_POINTWISE = {'Activation', 'relu', 'sigmoid', 'tanh', 'clip', 'LeakyReLU', '_mul_scalar', '_div_scalar',
              '_plus_scalar', '_minus_scalar'}
_STILL = {'Pooling', 'Pad', 'Dropout', '_copy', 'BlockGrad'}  # a constant comes out as it went in
_SUMS = {'elemwise_add', 'broadcast_add', 'add_n'}


@dataclass
class Group:
    """Channels that can only be removed together; layers by structural name."""

    channels: int
    producers: List[str] = field(default_factory=list)   # convolutions that compute them, depthwise ones included
    consumers: List[str] = field(default_factory=list)   # convolutions that sum over them
    joined: bool = False                                 # whether an addition ties several maps together
    fixed: Optional[str] = None                          # the operator that needs all of them, if one does

    @property
    def name(self):
        return self.producers[0]

    def is_inner(self, depth):
        """Whether the channels live inside one block, a layer ``depth`` names below the root, and join no shortcut."""
        blocks = {tuple(name.split('.')[:depth]) for name in self.producers + self.consumers}
        return not self.joined and len(blocks) == 1


class Channels:
    """Which channels of ``net`` belong together, read from its graph.

    :param net: HybridBlock of one input, its attention folded.
    """

    def __init__(self, net):
        self.net = net
        self.parameters = net._collect_params_with_prefix()
        layer_of = {p.name: name.rpartition('.')[0] for name, p in self.parameters.items()}
        graph = json.loads(net(sym.var('data')).tojson())
        self.nodes = graph['nodes']
        self.layers = [self._layer(node, layer_of) for node in self.nodes]
        self.users = {}
        for number, node in enumerate(self.nodes):
            for source in node['inputs']:
                self.users.setdefault(source[0], []).append(number)
        self._of = {}  # node → number of a group
        self._groups = []
        for number, node in enumerate(self.nodes):
            self._visit(number, node)
        for head in graph['heads']:
            self._fix([head[0]], 'output')

    def _layer(self, node, layer_of):
        if node['op'] not in ('Convolution', 'BatchNorm'):
            return None
        source = self.nodes[node['inputs'][1][0]]
        if source['op'] != 'null':
            raise ValueError(f"the filter of '{node['name']}' is computed by {source['op']}: fold the attention first")
        return layer_of[source['name']]

    def group(self, number):
        """Return the :class:`Group` of the map that node ``number`` computes, or None."""
        return self._groups[self._of[number]] if number in self._of else None

    def groups(self, scope='inner', depth=3):
        """Return the groups that can be pruned, in the order of the network.

        :param scope: 'inner', those inside residual and inverted residual blocks; 'all', also those along chains
            of layers and along shortcuts.
        :param depth: how many names deep a block is, e.g. 3 for ``body.stage1.0``.
        """
        unique = {id(group): group for group in self._groups if group is not None and not group.fixed}
        return [group for group in unique.values() if group.producers and group.consumers
                and (scope == 'all' or group.is_inner(depth))]

    def _visit(self, number, node):
        inputs = [source[0] for source in node['inputs'] if source[0] in self._of]
        op = node['op']
        if op == 'Convolution':
            self._convolution(number, node)
        elif op in _SUMS and len(inputs) == len(node['inputs']):
            self._join(number, inputs)
        elif (op in _POINTWISE | _STILL | {'BatchNorm'} and len(inputs) == 1
              and node.get('attrs', {}).get('act_type') != 'prelu'):
            self._of[number] = self._of[inputs[0]]
        else:
            self._fix(inputs, op)

    def _convolution(self, number, node):
        source, layer = node['inputs'][0][0], self.layers[number]
        outputs = self.parameters[f'{layer}.weight'].shape[0]
        groups, before = int(node['attrs'].get('num_group', 1)), self.group(source)
        if groups == 1 or before is None:
            if before is not None:
                before.consumers.append(layer)
            self._new(number, Group(outputs, [layer], fixed=None if groups == 1 else 'grouped convolution'))
        elif groups == outputs == before.channels:
            before.producers.append(layer)
            self._of[number] = self._of[source]
        else:
            before.fixed = 'grouped convolution'
            self._new(number, Group(outputs, [layer], fixed='grouped convolution'))

    def _new(self, number, group):
        self._of[number] = len(self._groups)
        self._groups.append(group)

    def _join(self, number, inputs):
        first = self.group(inputs[0])
        for other in (self.group(source) for source in inputs[1:]):
            if other is not first:
                if other.channels != first.channels:
                    first.fixed = other.fixed = 'addition of maps of different sizes'
                    continue
                first.producers += other.producers
                first.consumers += other.consumers
                first.fixed = first.fixed or other.fixed
                self._groups = [first if group is other else group for group in self._groups]
        first.joined = True
        self._of[number] = self._of[inputs[0]]

    def _fix(self, inputs, op):
        for source in inputs:
            if source in self._of:
                self.group(source).fixed = self.group(source).fixed or op


# --- ranking ---------------------------------------------------------------------------------

def attention_scores(net):
    """Return dict of convolution → (O,), the mean size of each filter's attention weights; before folding."""
    return {name: np.abs(conv.attention.list_data()[0].asnumpy()).mean(axis=(1, 2, 3))
            for name, conv in attention_convolutions(net).items()}


def l1_scores(channels, groups):
    """Return dict of convolution → (O,), the L1 norm of each filter over the mean of its layer's."""
    scores = {}
    for layer in (layer for group in groups for layer in group.producers):
        norms = np.abs(channels.parameters[f'{layer}.weight'].list_data()[0].asnumpy()).sum(axis=(1, 2, 3))
        scores[layer] = norms / max(norms.mean(), 1e-30)
    return scores


def taylor_scores(channels, groups, batches):
    """Return dict of convolution → (O,), how much the loss would change without each channel, to first order.

    |Σ_hw z·∂L/∂z| of the maps z that the consumers read, summed over images, over its Euclidean norm in the layer.

    :param batches: iterable of (images (N,3,H,W), normalised; labels (N,)). BatchNorm is as in prediction.
    """
    blocks, totals, gates = _blocks(channels.net), {}, {}
    consumers = sorted({layer for group in groups for layer in group.consumers})

    def gated(layer, forward):
        def multiplied(x):
            gates[layer] = gate = nd.ones((*x.shape[:2], 1, 1), ctx=x.context)
            gate.attach_grad()
            return forward(x * gate)  # the gradient of a gate of 1 is Σ_hw z·∂L/∂z
        return multiplied

    channels.net.hybridize(False)
    for layer in consumers:
        blocks[layer].forward = gated(layer, blocks[layer].forward)
    try:
        for images, labels in batches:
            with autograd.record(train_mode=False):
                loss = cross_entropy(channels.net(images), labels).sum()
            for layer, change in zip(gates, autograd.grad(loss, list(gates.values()), train_mode=False)):
                totals[layer] = totals.get(layer, 0) + change.abs().sum(axis=(0, 2, 3)).asnumpy()
    finally:
        for layer in consumers:
            del blocks[layer].forward
    scores = {}
    for group in groups:
        changes = sum(totals[layer] / max(np.linalg.norm(totals[layer]), 1e-30) for layer in set(group.consumers))
        scores.update({layer: changes / len(set(group.consumers)) for layer in group.producers})
    return scores


def check_amount(share, threshold):
    """Raise ConfigError unless one of both is given, and the share, if it is the one, lies in [0, 1)."""
    if (share is None) == (threshold is None):
        raise ConfigError('give a share of the channels or a threshold, not both')
    if share is not None and not 0 <= share < 1:
        raise ConfigError(f'share {share} must be at least 0 and below 1')


def select(groups, scores, share=None, threshold=None, multiple=1):
    """Return which channels stay: dict of group name → sorted indices.

    A group's score is the mean of its producers'.

    :param share: this share of the channels of each group goes, those of the lowest scores; in [0, 1).
    :param threshold: instead, channels of a lower score go.
    :param multiple: so many channels, or a multiple of it, stay, where that can be; vector units like 8 or 16.
    :raises ConfigError: if not one of share and threshold is given, or the threshold removes a whole layer.
    """
    check_amount(share, threshold)
    kept = {}
    for group in groups:
        values = np.mean([scores[layer] for layer in group.producers], axis=0)
        order = np.argsort(-values, kind='stable')
        if threshold is None:
            count = group.channels - int(share * group.channels + 1e-9)
        else:
            count = int((values >= threshold).sum())
            if not count:
                raise ConfigError(f"threshold {threshold:g} removes all {group.channels} channels of '{group.name}', "
                                  f'whose scores are {values.min():.6g} to {values.max():.6g}; lower it, or give a '
                                  'share instead')
        count = min(group.channels, -(-count // multiple) * multiple)
        kept[group.name] = np.sort(order[:count])
    return kept


# --- removing --------------------------------------------------------------------------------

@dataclass(frozen=True)
class Pruned:
    """What is left of a network."""

    widths: dict      # convolution → number of output channels, those that changed
    parameters: dict  # structural name → numpy array
    dropped: list     # convolutions for whose share of constants there was no bias and no BatchNorm to take it


def prune(channels, groups, kept):
    """Return :class:`Pruned`: the parameters of ``channels.net`` without the channels that are not ``kept``."""
    arrays = {name: p.list_data()[0].asnumpy().copy() for name, p in channels.parameters.items()}
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
    if node['op'] in _SUMS:
        return sum(inputs)
    if node['op'] in _STILL:
        return inputs[0]
    operator = getattr(nd, node['op'], None) or getattr(nd._internal, node['op'])
    public = {key: value for key, value in attributes.items() if not key.startswith('__')}
    return operator(nd.array(inputs[0]).reshape((1, -1, 1, 1)), **public).asnumpy().ravel()


# --- afterwards ------------------------------------------------------------------------------

def precise_bn(net, batches):
    """Give each BatchNorm the mean and variance of its inputs over ``batches``, each normalised by its own statistics.

    :param batches: iterable of images (N,3,H,W), normalised, all on one device. Gradients and weights stay as they are.
    """
    layers = {name: block for name, block in _blocks(net).items() if isinstance(block, nn.BatchNorm)}
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


def _blocks(block, path=''):
    """Return dict of structural name → block, of all blocks inside ``block``."""
    found = {}
    for name, child in block._children.items():
        found[path + name] = child
        found.update(_blocks(child, f'{path}{name}.'))
    return found

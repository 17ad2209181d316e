"""Which channels attention singles out, and which images move a channel most and least."""
import json

import numpy as np
from mxnet import nd, sym
from mxnet.gluon import ParameterDict, SymbolBlock

from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.nn import attention_convolutions
from gluon_fgvc.run_folder import RunFolder


def ranking(net):
    """Return dict of convolution → (O,), the attention of each output channel: a, or the mean of a over its inputs.

    The mean instead of the paper's sum, so that layers compare; within a layer the order is the same.
    """
    return {name: conv.attention.list_data()[0].asnumpy().mean(axis=(1, 2, 3))
            for name, conv in attention_convolutions(net).items()}


def block_of(net, layer):
    """Return the block with structural name ``layer`` inside ``net``.

    :raises ConfigError: if there is none.
    """
    block = net
    for name in layer.split('.'):
        if name not in block._children:
            raise ConfigError(f"there is no layer '{layer}'"
                              f'{did_you_mean(layer, list(attention_convolutions(net)))}')
        block = block._children[name]
    return block


def default_layer(net):
    """Return the third last convolution, in the order of construction: where the paper looks in ResNet-50."""
    return list(attention_convolutions(net))[-3:][0]


def map_of(net, layer):
    """Return a block from images to the map (N,C,h,w) that the activation behind ``layer`` sees: that of the BatchNorm.

    What a convolution puts out is not yet what later layers see: BatchNorm moves it, with a negative gain turns it
    round, and a ReLU deletes all below zero. Of a layer without BatchNorm behind it the map is its own output.

    :param net: HybridBlock, whose parameters are shared; it is left unhybridized.
    :raises ConfigError: if there is no such layer.
    """
    data, seen = sym.var('data', dtype='float32'), []
    net.hybridize(False)
    hook = block_of(net, layer).register_forward_hook(lambda block, inputs, output: seen.append(output))
    try:
        outputs = net(data)
    finally:
        hook.detach()
    whole = sym.Group(outputs) if isinstance(outputs, (list, tuple)) else outputs
    nodes = json.loads(whole.tojson())['nodes']
    name = seen[0].name
    number = next(index for index, node in enumerate(nodes) if node['name'] == name)
    behind = [node['name'] for node in nodes if node['op'] == 'BatchNorm' and node['inputs'][0][0] == number]
    parameters = ParameterDict('')
    parameters.update(net.collect_params())
    return SymbolBlock(whole.get_internals()[f'{behind[0] if behind else name}_output'], data, parameters)


def responses(net, layer, batches):
    """Return the L1 norm of each channel's activated map behind ``layer``, meaned over pixels: (images, C).

    Activated: the positive part of :func:`map_of`.

    :param batches: iterable of images (N,3,H,W), normalised. ``net`` is left unhybridized.
    """
    block = map_of(net, layer)
    return np.concatenate([nd.relu(block(images)).mean(axis=(2, 3)).asnumpy() for images in batches])


def histograms(folder):
    """Return the histograms that training kept in run folder ``folder``, one dict an epoch in which attention learned.

    Keys: ``epoch``, ``phase``, ``attention_range`` and ``attention``, layer → ``counts`` and moments.
    """
    records = RunFolder(folder).read_records()
    return [record for record in records if record['kind'] == 'method' and 'attention' in record]


def first_alive(scores, norms, count):
    """Return the ``count`` channels of the highest ``scores`` (C,) that any image moves, ``norms`` (images,C), at all.

    A channel that is 0 for all images means nothing, and its attention follows the penalty alone.
    """
    alive = norms.max(axis=0) > 1e-6 * norms.max()
    return [int(channel) for channel in np.argsort(-scores, kind='stable') if alive[channel]][:count]

"""How much each channel matters.

By attention (the paper's future work), by the L1 norm of the filters (Li et al., ICLR 2017) or by the first-order
Taylor expansion of the loss (Molchanov et al., ICLR 2017). Scores are dicts of convolution → (O,), a number a filter.
"""
import numpy as np
from mxnet import autograd, nd

from gluon_fgvc.methods.base import cross_entropy
from gluon_fgvc.nn import as_in_prediction, attention_convolutions
from gluon_fgvc.nn.parameters import copies, walk


def attention_scores(net):
    """Return dict of convolution → (O,), the mean size of each filter's attention weights; before folding."""
    attention = copies({name: conv.attention for name, conv in attention_convolutions(net).items()})
    return {name: np.abs(factors).mean(axis=(1, 2, 3)) for name, factors in attention.items()}


def l1_scores(channels, groups):
    """Return dict of convolution → (O,), the L1 norm of each filter over the mean of its layer's."""
    scores = {}
    filters = copies({layer: channels.parameters[f'{layer}.weight'] for group in groups for layer in group.producers})
    for layer, weight in filters.items():
        norms = np.abs(weight).sum(axis=(1, 2, 3))
        scores[layer] = norms / max(norms.mean(), 1e-30)
    return scores


def taylor_scores(channels, groups, batches):
    """Return dict of convolution → (O,), how much the loss would change without each channel, to first order.

    |Σ_hw z·∂L/∂z| of the maps z that the consumers read, summed over images, over its Euclidean norm in the layer.

    :param batches: iterable of (images (N,3,H,W), normalised; labels (N,)). BatchNorm is as in prediction.
    """
    blocks, totals, gates = dict(walk(channels.net)), {}, {}
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
            with as_in_prediction(channels.net), autograd.record():
                loss = cross_entropy(channels.net(images), labels).sum()
            for layer, change in zip(gates, autograd.grad(loss, list(gates.values()))):
                totals[layer] = totals.get(layer, 0) + change.abs().sum(axis=(0, 2, 3)).asnumpy()
    finally:
        for layer in consumers:
            del blocks[layer].forward
    scores = {}
    for group in groups:
        changes = sum(totals[layer] / max(np.linalg.norm(totals[layer]), 1e-30) for layer in set(group.consumers))
        scores.update({layer: changes / len(set(group.consumers)) for layer in group.producers})
    return scores

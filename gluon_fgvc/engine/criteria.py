"""What a method's scores are held to, where it is not plain cross-entropy: focal loss, logit adjustment; and what
images of different classes have in common: pairwise confusion.
"""
import numpy as np
from mxnet import nd

from gluon_fgvc.methods.base import cross_entropy
from gluon_fgvc.nn.losses import TINY


def focal(logits, labels, gamma):
    """Return −Σ_k y_k (1 − p_k)^γ log p_k of p = softmax(``logits``): (N,). Lin et al., ICCV 2017, Eq. 4.

    γ = 0 is cross-entropy. Of labels that are probabilities y, every class counts with its share.

    :param logits: (N,K); gradient flows to them. :param labels: indices (N,) or probabilities (N,K).
    """
    logs = nd.log_softmax(logits, axis=-1)
    if labels.ndim == 1:
        logs = nd.pick(logs, labels, axis=-1, keepdims=True)
    terms = -logs * nd.maximum(1 - nd.exp(logs), TINY) ** gamma  # below 1, γ gives a power of 0 an infinite slope
    return (terms if labels.ndim == 1 else terms * labels).sum(axis=-1)


class Criterion:
    """Scores (N,K) and labels → losses (N,), as ``settings``, the section ``train``, says.

    :param labels: (M,) class indices of the training images, whose frequencies logit adjustment takes.
    """

    def __init__(self, settings, labels, num_classes):
        self._gamma = settings.focal_gamma
        counts = np.bincount(labels, minlength=num_classes)
        # log of the frequencies, Menon et al., ICLR 2021, Eq. 10; their mean does not matter to a softmax.
        self._shifts = settings.logit_adjustment * np.log(np.maximum(counts, 1) / len(labels))
        self._adjusts = settings.logit_adjustment > 0

    def __call__(self, logits, labels):
        if self._adjusts:
            logits = logits + nd.array(self._shifts[None], ctx=logits.context, dtype=logits.dtype)
        return focal(logits, labels, self._gamma) if self._gamma else cross_entropy(logits, labels)


def pairwise_confusion(logits, labels):
    """Return the mean over pairs of the squared distance of their probabilities, where classes differ: (1,).

    Dubey et al., "Pairwise Confusion", ECCV 2018, Eq. 2: image i of the first half of the batch is paired with image i
    of the second; a last odd one has no partner. Of labels that are probabilities, a pair counts with that of being of
    different classes.

    :param logits: (N,K); gradient flows to them. :param labels: indices (N,) or probabilities (N,K).
    """
    half = logits.shape[0] // 2
    if not half:
        return nd.zeros((1,), ctx=logits.context)
    if labels.ndim == 1:
        labels = nd.one_hot(labels, logits.shape[1])
    probabilities = nd.softmax(logits, axis=-1)
    first, second = slice(0, half), slice(half, 2 * half)
    differ = 1 - (labels[first] * labels[second]).sum(axis=-1)
    distance = ((probabilities[first] - probabilities[second]) ** 2).sum(axis=-1)
    return (differ * distance).mean()

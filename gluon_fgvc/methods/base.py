"""The contract between a method and everything else: two networks, named loss terms, phases.

A *method* builds two HybridBlocks on the same Parameters: ``train_net`` (all that its losses need)
and ``net`` (what is deployed: images in, scores out). A *phase* says which parameters learn, how
fast, in which BatchNorm mode, and which loss terms count. The training loop knows nothing else.
"""
from dataclasses import dataclass, field
from typing import Mapping, Optional

from mxnet import nd


@dataclass(frozen=True)
class Phase:
    """A run of epochs under one rule of what learns.

    Regular expressions are matched in full (``re.fullmatch``) against structural parameter names such
    as ``body.stage4.0.conv1.weight``; one that matches nothing is an error.
    """

    name: str
    epochs: int
    trainable: str = '.*'                    # which parameters learn; all others have grad_req 'null'
    lr_mult: Mapping[str, float] = field(default_factory=dict)   # regex → factor on the rate; last match wins
    batch_norm: str = 'moving'               # 'moving': batch statistics; 'fixed': running statistics
    loss_weights: Mapping[str, float] = field(default_factory=dict)  # term → factor; default 1
    batch_norm_momentum: Optional[float] = None  # share of a moving statistic that a step keeps; None: the layer's own
    fresh_optimizer: bool = False            # forget momenta and restart the learning-rate schedule


class Method:
    """Base of all methods; a subclass is called ``Method`` and lives in a file named after its idea.

    A method file defines two names: ``Options``, a frozen dataclass of its configuration keys, and
    ``Method(backbone, num_classes, options)``. :func:`gluon_fgvc.methods.create` finds both by the
    file's name. ``softmax(net(images))`` is the class probability for every method.
    """

    OUTPUTS = ('logits',)  # names of what train_net returns, in order
    square_images = False  # whether all images must be squares of one size

    net = None        # HybridBlock: images (N,3,H,W), normalised → scores (N,K)
    train_net = None  # HybridBlock: images (N,3,H,W), normalised → OUTPUTS

    def phases(self, epochs):
        """Return the list of :class:`Phase` that make up ``epochs`` epochs."""
        raise NotImplementedError

    def losses(self, outputs, labels):
        """Return the loss terms of one batch on one device.

        :param outputs: dict of ``OUTPUTS`` → NDArray, first axis N.
        :param labels: class indices (N,) or class probabilities (N,K).
        :returns: dict of term name → NDArray (N,), one value an image, or (1,), a penalty of the batch.
        """
        raise NotImplementedError

    def maps(self, images):
        """Return pictures of what the network looks at: dict of name → NDArray (N,h,w), non-negative."""
        raise NotImplementedError

    def values(self, images):
        """Return shares that a network decides on, for bar charts: dict of title → dict of name → NDArray (N,).

        They lie in [0, 1]. A method need not have any. Maps named "TITLE …" are drawn beside the bars of that title.
        """
        return {}

    def grids(self, images):
        """Return where the network samples images on its way: dict of name → NDArray (N,2,O,O), empty if nowhere.

        x before y, from -1 to 1 between the centres of the outermost pixels, as ``BilinearSampler`` takes them.
        """
        return {}

    def seen(self, images):
        """Return where the backbone of ``net`` samples images, (N,2,O,O) as in :meth:`grids`; None if it does not."""
        return None

    def regions(self, images):
        """Return parts into which the network divides images: dict of name → NDArray (N,H,W), 1 within and 0 without.

        A method need not have any.
        """
        return {}

    def split(self):
        """Return ``(trunk, top)`` with ``top(trunk(x)) = train_net(x)`` where features can be reused, else None."""
        return None

    def phase_net(self, phase):
        """Return (block, why) that trains in ``phase`` in place of ``train_net``, or None.

        The block has the same parameters and gives the same outputs and gradients, at less cost; ``why`` ends a
        line of the log. ``phase`` has been entered: BatchNorm is as it says.
        """
        return None

    def calibrate(self, first_batch):
        """Look at the first batch before training, if at all, and return a line for the log or None.

        :param first_batch: callable without arguments: (images (N,3,H,W), normalised, labels), on one device.
        """
        return None

    def facts(self):
        """Return what is worth keeping of the state after an epoch, JSON-able, for metrics.jsonl, or None."""
        return None


def cross_entropy(scores, labels):
    """Cross-entropy of ``softmax(scores)`` (N,K) against indices (N,) or probabilities (N,K): (N,).

    Gradient flows to ``scores`` only.
    """
    log_probabilities = nd.log_softmax(scores, axis=-1)
    if labels.ndim == 1:
        return -nd.pick(log_probabilities, labels, axis=-1)
    return -(log_probabilities * labels).sum(axis=-1)

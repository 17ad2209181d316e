"""The contract between a method and everything else: two networks, named loss terms, phases, one step.

A *method* builds two HybridBlocks on the same Parameters: ``train_net`` (all that its losses need) and ``net`` (what is
deployed: images in, logits out). A *phase* says which parameters learn, how fast, in which BatchNorm mode, and which
loss terms count. The training loop knows nothing else.
"""
from dataclasses import dataclass, field
from typing import Any, Mapping, Optional

from mxnet import nd

from gluon_fgvc.nn.class_activation import class_activation


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


@dataclass(frozen=True)
class Explanation:
    """What a network looks at in N images, all on the images' device; whatever a method has not is empty."""

    # Pictures, name → (N,h,w), non-negative, of any size.
    maps: Mapping[str, Any] = field(default_factory=dict)
    # Fractions that the network decides on, such as gates: title → name → (N,) in [0, 1]. Drawn as bars, beside the
    # maps whose names begin with the title.
    fractions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Where the network samples the images on its way: name → (N,2,O,O), x before y, from -1 to 1 between the centres of
    # the outermost pixels, as BilinearSampler takes them.
    grids: Mapping[str, Any] = field(default_factory=dict)
    # Parts into which the network divides the images: name → (N,H,W), 1 within and 0 without.
    regions: Mapping[str, Any] = field(default_factory=dict)
    # Which of the grids the backbone of ``net`` sees the images through; None if it sees them as they are.
    seen_through: Optional[str] = None


def cross_entropy(logits, labels):
    """Cross-entropy of ``softmax(logits)`` (N,K) against indices (N,) or probabilities (N,K): (N,).

    Gradient flows to ``logits`` only.
    """
    log_probabilities = nd.log_softmax(logits, axis=-1)
    if labels.ndim == 1:
        return -nd.pick(log_probabilities, labels, axis=-1)
    return -(log_probabilities * labels).sum(axis=-1)


class Method:
    """Base of all methods; a subclass is called ``Method`` and lives in a file named after its idea.

    A method file defines two names: ``Options``, a frozen dataclass of its configuration keys, and
    ``Method(backbone, num_classes, options)``. :func:`gluon_fgvc.methods.create` finds both by the
    file's name. ``softmax(net(images))`` is the class probability for every method.

    A subclass sets ``net`` and ``train_net`` and says :meth:`phases` and :meth:`losses`; all else has a default.
    """

    net = None             # HybridBlock: images (N,3,H,W), normalised → logits (N,K)
    train_net = None       # HybridBlock: images (N,3,H,W), normalised → outputs
    square_images = False  # whether all images must be squares of one size
    criterion = staticmethod(cross_entropy)  # scores (N,K), labels → (N,); the engine may put another in its place

    @property
    def outputs(self):
        """Names of what ``train_net`` returns, in order; 'logits' (N,K), those of ``net``, is one of them."""
        return ('logits',)

    def phases(self, epochs):
        """Return the list of :class:`Phase` that make up ``epochs`` epochs."""
        raise NotImplementedError(f'{type(self).__name__} has to say its phases(epochs)')

    def losses(self, outputs, labels, phase):
        """Return the loss terms of one batch on one device.

        :param outputs: dict of ``outputs`` → NDArray, first axis N.
        :param labels: class indices (N,) or class probabilities (N,K).
        :param phase: the :class:`Phase` that runs.
        :returns: dict of term name, not 'loss' or 'top1', → NDArray (N,), one value an image, or (1,), a penalty of the
            batch.
        """
        raise NotImplementedError(f'{type(self).__name__} has to say its losses(outputs, labels, phase)')

    def step(self, step):
        """Turn one batch into updates of the parameters; by default into one.

        :param step: :class:`~gluon_fgvc.engine.step.Step`; each ``step.update(…)`` is a forward and backward pass and
            an update of the optimizer. A method that makes several, each of other images or outputs, says so here.
        """
        step.update()

    def explain(self, images):
        """Return the :class:`Explanation` of ``images`` (N,3,H,W), normalised.

        By default the class activation of the predicted class, where it speaks for the class. That takes a ``net`` with
        a child ``body``, a Backbone, and the fewer layers behind it the more it means: it is exact where the logits are
        linear in the averaged map.
        """
        return Explanation({'class activation': nd.relu(class_activation(self.net, images))})

    def deployed(self):
        """Return the network that leaves for evaluation of its cost, export and pruning: images → logits.

        Usually ``net``. A method whose network can be said more simply returns that, on parameters of its own.
        """
        return self.net

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

    def facts(self, phase):
        """Return what is worth keeping of the state after an epoch of ``phase``, JSON-able, for the log, or None."""
        return None

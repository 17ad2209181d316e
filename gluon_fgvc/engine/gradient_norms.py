"""Which loss term moves which part of the network: norms of the gradients, term by term."""
from dataclasses import dataclass, field

import mxnet as mx
from mxnet import autograd, nd

from gluon_fgvc.engine import targets
from gluon_fgvc.engine.step import Step
from gluon_fgvc.nn.parameters import structural


@dataclass
class Probe(Step):
    """Goes to :meth:`.Method.step` in the place of a step, and looks at each update instead of making it.

    Nothing that a training is made of moves: parameters, statistics, momentum. See :func:`gradient_norms`.
    """

    norms: dict = field(default_factory=dict)  # term → part → norm, of all updates

    def update(self, net=None, transform=None, losses=None):
        def forward():
            return [self._by_image(self.look(shard, net, transform, losses)[1], shard) for shard in self.shards]
        self.norms.update(gradient_norms(self.method.train_net, forward, self.phase.loss_weights, self.number))

    def _by_image(self, terms, shard):
        """Return ``terms`` with the weights of classes in them."""
        if self.class_weights is None:
            return terms
        factors = targets.image_weights(self.class_weights[shard.images.context], shard.targets)
        return {name: values * factors if values.shape == factors.shape else values for name, values in terms.items()}


def in_words(norms):
    """Return what :func:`gradient_norms` found in one line, part by part, as multiples of the first term's norm."""
    parts, (first, *others) = dict.fromkeys(part for found in norms.values() for part in found), norms
    words = []
    for part in parts:
        size = norms[first].get(part, 0)
        shares = [f'{term} {_share(norms[term].get(part, 0), size)}' for term in others if norms[term].get(part)]
        if size or shares:
            words.append(f'{part}: ' + ', '.join([f'{first} {size:.3g}', *shares]))
    return ' · '.join(words)


def _share(value, of):
    return f'{value / of:.2g}×' if of else f'{value:.3g}'


def gradient_norms(net, forward, weights, seed=0):
    """Return the norm of each loss term's own gradient on each part of ``net``: dict of term → dict of part → float.

    A part is a child of ``net`` (``body``, ``classifier``, …) with all its parameters that learn. The gradient is what
    an optimizer's step would see of that term alone: the mean over the images of all devices, times the term's weight.
    Each term costs a forward and a backward pass, since MXNet's compiled graphs cannot be differentiated twice; terms
    of weight 0 cost nothing and are left out. Running statistics of BatchNorm, which a backward pass moves, are put
    back. Gradients are zero afterwards, and MXNet's random stream stands after a pass: call it between two steps.

    :param net: HybridBlock as a phase has set it up; parameters of ``grad_req`` 'null' do not learn.
    :param forward: callable without arguments that computes the losses of one batch anew: for each device a dict of
        term → NDArray, (N,) for N images or (1,) for a penalty of the batch.
    :param weights: mapping of term → factor; 1 where it says nothing.
    :param seed: of the random numbers, the same for all terms.
    """
    parameters = structural(net)
    learning = {name: parameter for name, parameter in parameters.items() if parameter.grad_req != 'null'}
    nd.waitall()
    kept = [(array, array.copy()) for parameter in parameters.values() if not parameter._differentiable
            for array in parameter.list_data()]
    norms, pending = {}, None
    while pending is None or pending:
        _set_to_zero(learning)
        mx.random.seed(seed)
        with autograd.record():
            shards = forward()
            if pending is None:
                pending = [name for name in shards[0] if weights.get(name, 1.0) != 0]
                if not pending:
                    break
            term = pending.pop(0)
            heads = _as_added(shards, term, weights.get(term, 1.0))
        autograd.backward(heads)
        norms[term] = _by_part(learning)
        # The compiled backward pass moves statistics unseen by the scheduler.
        nd.waitall()
        for array, before in kept:
            before.copyto(array)
    _set_to_zero(learning)
    for parameter in learning.values():
        for array in parameter.list_data():
            array._fresh_grad = False  # an update that does not reach it must not take it for new
    return norms


def _as_added(shards, term, weight):
    """Return one value a device, which add up to the weighted mean of ``term`` over all images."""
    images = [max(values.shape[0] for values in terms.values()) for terms in shards]
    total = sum(images)
    heads = []
    for terms, count in zip(shards, images):
        values = terms[term] * (weight / total)
        heads.append(values.sum() if values.shape[0] == count else values.sum() * count)
    return heads


def _set_to_zero(learning):
    for parameter in learning.values():
        for gradient in parameter.list_grad():
            gradient[:] = 0


def _by_part(learning):
    squares = {}
    for name, parameter in learning.items():
        gradients = parameter.list_grad()
        total = gradients[0]
        for other in gradients[1:]:
            total = total + other.as_in_context(total.context)
        squares.setdefault(name.split('.')[0], []).append((total ** 2).sum())
    return {part: float(nd.add_n(*values).asscalar() ** 0.5) for part, values in squares.items()}

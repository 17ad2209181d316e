"""One step: a batch, spread over the devices, becomes one or several updates of the parameters."""
from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional

import mxnet as mx
from mxnet import autograd

from gluon_fgvc.engine import targets
from gluon_fgvc.engine.clipping import clip_by_global_norm
from gluon_fgvc.engine.criteria import pairwise_confusion
from gluon_fgvc.engine.optim import images_of
from gluon_fgvc.errors import ConfigError

TAKEN = ('loss', 'top1')  # how the log calls the sum of all terms, and the accuracy


class Shard(NamedTuple):
    """The part of a batch that one device gets."""

    images: Any   # (n,…), as the network takes them
    labels: Any   # (n,) class indices or (n,K) probabilities, of the images as they were read
    targets: Any  # what the losses are held to: the labels, or (n,K) after smoothing and mixing

    def part(self, number, parts):
        """Return part ``number`` of ``parts``, as even as can be; it may have no image."""
        images = len(self.images)
        start, end = number * images // parts, (number + 1) * images // parts
        return self if parts == 1 else Shard(*(array[start:end] for array in self)) if end > start else None


@dataclass
class Step:
    """What :meth:`.Method.step` has at hand."""

    method: Any
    phase: Any
    net: Any                    # block on train_net's parameters, (n,…) → ``method.outputs``
    trainer: Any                # gluon.Trainer
    shards: List[Shard]
    monitor: Any                # what is watched
    number: int                 # steps since the beginning of the training
    class_weights: Optional[dict] = None  # device → (K,)
    settings: Any = None        # section ``train``: how it is clipped and accumulated; None is plainly

    def update(self, net=None, transform=None, losses=None):
        """``w ← w − η · ∂/∂w (1/N) Σ_images Σ_terms weight · loss``, by the optimizer's rule; one update.

        :param net: callable, images → dict of output → NDArray; None is ``train_net``. What it does not reach stays.
        :param transform: of the images of a shard, before the network; None leaves them.
        :param losses: in the place of ``method.losses``.
        """
        if net is not None:
            # The update before may still be moving BatchNorm's statistics, of which the scheduler does not know, and
            # this block is another one on the same parameters.
            mx.nd.waitall()
        parts = self.settings.accumulate if self.settings else 1
        for part in range(parts):
            totals = []
            for shard in filter(None, (shard.part(part, parts) for shard in self.shards)):
                with autograd.record():
                    outputs, terms = self.look(shard, net, transform, losses)
                    total = weighted_sum(terms, self.phase, shard.targets, self.class_weights)
                totals.append(total)
                self.monitor.see(self.number, terms, total, outputs.get('logits'), shard.labels)
            if totals:
                autograd.backward(totals)
        idle = set(self.trainer._contexts) - {shard.images.context for shard in self.shards}
        if idle:
            _rest(self.trainer._params, idle)
        self._apply(ignore_stale_grad=net is not None)

    def _apply(self, ignore_stale_grad):
        images = images_of(self.trainer, sum(len(shard.images) for shard in self.shards))
        bound = self.settings.optimizer.clip_norm if self.settings else None
        if bound is None:
            self.trainer.step(images, ignore_stale_grad)
        else:
            clip_by_global_norm(self.trainer, images, bound)
            self.trainer.update(images, ignore_stale_grad)
        for parameter in self.trainer._params:
            if parameter.grad_req == 'add':
                parameter.zero_grad()

    def look(self, shard, net=None, transform=None, losses=None):
        """Return the outputs and the loss terms of one shard, dicts of name → NDArray; see :meth:`update`."""
        with autograd.pause():
            images = shard.images if transform is None else transform(shard.images)
        outputs = named(self.method.outputs, self.net(images)) if net is None else net(images)
        terms = (losses or self.method.losses)(outputs, shard.targets, self.phase)
        weight = self.settings.pairwise_confusion if self.settings else 0
        if weight and 'logits' in outputs:
            terms = {**terms, 'pairwise_confusion': weight * pairwise_confusion(outputs['logits'], shard.targets)}
        return outputs, terms


def _rest(parameters, idle):
    """Let the devices ``idle``, for which a small batch had no image, take part in the update with a gradient of 0."""
    for parameter in parameters:
        if parameter.grad_req == 'null':
            continue
        moved = any(array._fresh_grad for array in parameter.list_data() if array.context not in idle)
        for array, gradient in zip(parameter.list_data(), parameter.list_grad()):
            if array.context in idle:
                gradient[:] = 0
                array._fresh_grad = moved


def named(names, outputs):
    """Pair the outputs of ``train_net`` with their names, as a dict."""
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    if len(outputs) != len(names):
        raise TypeError(f'train_net returns {len(outputs)} outputs, the method names {len(names)}')
    return dict(zip(names, outputs))


def weighted_sum(terms, phase, labels, class_weights):
    """Return the loss of each image (N,).

    A penalty of the batch (1,) is added to every image's loss before backward: the trainer divides by
    the number of images, and back-propagated by itself the penalty would be divided too.

    :param class_weights: None, or dict of device → (K,), a factor for the terms that have a value an image.
    """
    if not isinstance(terms, dict):
        raise TypeError(f'losses of a method are a dict of term → NDArray, not of type {type(terms).__name__}')
    unknown = set(phase.loss_weights) - set(terms)
    if unknown:
        raise ConfigError(f"phase '{phase.name}' weighs loss terms that do not exist: {sorted(unknown)} "
                          f'(there are: {sorted(terms)})')
    images = labels.shape[0]
    weights = None if class_weights is None else targets.image_weights(class_weights[labels.context], labels)
    total = mx.nd.zeros((images,), ctx=labels.context)
    for name, values in terms.items():
        if name in TAKEN:
            raise ValueError(f"no loss term can be called '{name}', as the log calls something else; name it otherwise")
        if values.shape not in ((images,), (1,)):
            raise ValueError(f"loss term '{name}' has shape {values.shape}, neither ({images},), a value an image, nor "
                             '(1,), a penalty of the batch')
        factor = phase.loss_weights.get(name, 1.0)
        if factor == 0:
            continue
        if weights is not None and values.shape == (images,):
            values = values * weights
        total = mx.nd.broadcast_add(total, values * factor)
    return total

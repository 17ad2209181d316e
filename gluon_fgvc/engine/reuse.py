"""Features of layers that stay as they are: computed once, reused in every epoch that follows.

Where all learning parameters and all dropout of a phase lie in the ``top`` of ``method.split()``, BatchNorm is
fixed and images are not augmented, the ``trunk`` gives the same features for an image in every epoch. Training
then costs one pass over the images and afterwards only the top.
"""
from dataclasses import dataclass, replace
from typing import Any, Callable

import numpy as np
from mxnet import autograd, nd
from mxnet.gluon import nn
from mxnet.gluon.utils import split_and_load

from gluon_fgvc.nn.parameters import compile_net, sha256_of, structural, to_numpy, walk

LIMIT = 4 << 30  # bytes of features kept in memory for one split; beyond that nothing is reused


@dataclass
class Feed:
    """Where batches come from, and what is applied to them in training and in validation."""

    train: Any                # loader, or Features in its place
    val: Any                  # the same, or None
    prepare: Callable         # what a batch goes through before the network: normalisation, or nothing
    train_net: Callable       # prepared batch → what method.outputs names
    net: Callable             # prepared batch → scores


class Feeds:
    """Hands out the :class:`Feed` of each phase; features outlive a phase while the trunk stays as it is."""

    def __init__(self, method, data, contexts, reuse=True):
        self._method = method
        self._plain = Feed(data.train, data.val, data.normalize, method.train_net, method.net)
        self._split = method.split() if reuse else None
        if self._split:
            trunk, top = self._split
            logits = method.outputs.index('logits')
            self._reused = Feed(*(loader and Features(trunk, loader, data.normalize, contexts)
                                  for loader in (data.train, data.val)),
                                prepare=lambda features: features, train_net=top,
                                net=lambda features: _as_tuple(top(features))[logits])

    def of(self, phase, settings, hybridize):
        """Return (feed, what makes it cheaper or None) for ``phase``, which has been entered."""
        if self._split and self._applies(phase, settings):
            for block in self._split:
                compile_net(block, hybridize)
            return self._reused, 'features of what is frozen are computed once and reused'
        quick = self._method.phase_net(phase)
        if quick is None:
            return self._plain, None
        block, why = quick
        compile_net(block, hybridize)
        return replace(self._plain, train_net=block), why

    def _applies(self, phase, settings):
        loader, (trunk, top) = self._plain.train, self._split
        if phase.batch_norm != 'fixed' or settings.mixup or settings.cutmix or loader.transform.random or _drops(trunk):
            return False
        above = {id(parameter) for parameter in structural(top).values()}
        learning = [p for p in structural(self._method.train_net).values() if p.grad_req != 'null']
        return all(id(parameter) in above for parameter in learning) and self._reused.train.fits()


def _as_tuple(outputs):
    return outputs if isinstance(outputs, (list, tuple)) else (outputs,)


def _drops(block):
    return any(isinstance(child, nn.Dropout) and child._rate > 0 for _, child in walk(block))


class Features:
    """What ``trunk`` makes of a loader's images, in the place of that loader: ``images`` of a batch are features.

    Computed at the first epoch asked for, and again only if the trunk's parameters have changed since.
    """

    def __init__(self, trunk, loader, normalize, contexts):
        self._trunk, self._loader, self._normalize, self._contexts = trunk, loader, normalize, contexts
        self.image_set = loader.image_set
        self._digest = self._rows = self._values = self._batch = None

    def __len__(self):
        return len(self._loader)

    def fits(self):
        """Whether the features of all images stay below LIMIT, going by those of one image."""
        batch = next(self._loader.each_once())
        return self._features(batch.images[:1])[0].size * 4 * len(self._loader.image_set) <= LIMIT

    def epoch(self, epoch, start=0):
        """Yield the batches that the loader would, with features (n,…) float32 for images."""
        self._compute()
        for number, indices in enumerate(self._loader.order(epoch)[start:], start):
            indices = indices[self._rows[indices] >= 0]  # a broken image that is skipped has no features
            if len(indices):
                yield self._batch._replace(images=nd.array(self._values[self._rows[indices]]),
                                           labels=self._loader.labels(indices), indices=indices,
                                           number=number)

    def _compute(self):
        digest = sha256_of(to_numpy(self._trunk))
        if digest == self._digest:
            return
        self._rows, parts, count = np.full(len(self._loader.image_set), -1), [], 0
        for batch in self._loader.each_once():
            self._batch, indices = batch, batch.indices
            self._rows[indices] = np.arange(count, count + len(indices))
            count += len(indices)
            parts += [array.asnumpy() for array in self._features(batch.images)]
        self._values, self._digest = np.concatenate(parts), digest

    def _features(self, images):
        shards = split_and_load(images, self._contexts[:len(images)], even_split=False)
        with autograd.predict_mode():
            return [self._trunk(self._normalize(shard)) for shard in shards]

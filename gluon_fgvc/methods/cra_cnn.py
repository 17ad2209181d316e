"""CRA-CNN: a second network regulates what the first attends to, in training only (BMVC 2020).

Contrastively-reinforced attention: the classification stream proposes a window of the image, the attention regulation
stream classifies what is in it, and contrasts it with what is left over. Deployed is the classification stream alone,
a plain backbone with a linear layer.
"""
import math
import re
import warnings
from dataclasses import dataclass, replace
from typing import Optional, Tuple

import mxnet as mx
from mxnet import autograd, nd
from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as layers

from gluon_fgvc import backbones
from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn import (
    Classifier,
    SimilarityTransform,
    contrastive_loss,
    redundancy_mask,
    restriction_loss,
)
from gluon_fgvc.nn.parameters import contexts_of
from gluon_fgvc.nn.spatial_transformer import affine_grid
from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm

PAIRS = ('permutation', 'different_label')
FEATURES = ('logits', 'pooled')
TERMS = ('classification', 'attention', 'restriction', 'contrastive')


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``; the defaults are the paper's, or the released code's where it says nothing."""

    size: Optional[int] = option(224, 'side in pixels of the attention and redundancy images, which the regulation '
                                      'stream sees; null is as large as the image', minimum=1)
    pairs: str = option('permutation', "which images are contrasted: 'permutation' takes any two of a device's batch, "
                                       "'different_label' only two of different classes", choices=PAIRS)
    features: str = option('logits', "what is contrasted: 'logits', the last output of the regulation stream, or "
                                     "'pooled', the input of its last layer", choices=FEATURES)
    margin: float = option(0.7, 'm of the contrastive loss (Eq. 8)', minimum=0)
    alpha_location: float = option(0.5, "α_p, how far from the image's centre that of the window can lie; 1 is its "
                                        'border', above=0, maximum=1)
    alpha_scale: float = option(1.0, 'α_s, bound on the scale of the window; 1 is the whole image', above=0, maximum=1)
    expected: Tuple[float, float, float, float] = option(
        (0.0, 0.0, 0.5, 0.0), 'E, the window that is expected, and with which training starts: x, y, scale, angle')
    thresholds: Tuple[float, float, float, float] = option(
        (0.4, 0.4, 0.4, math.pi), 'T, how far from it nothing is penalised', minimum=0)
    classification_weight: float = option(1.0, "factor on the classification stream's cross-entropy", above=0)
    attention_weight: float = option(1.0, "factor on the regulation stream's, of the attention image", above=0)
    restriction_weight: float = option(1.0, 'factor on the restriction loss', minimum=0)
    contrastive_weight: float = option(1.0, 'factor on the contrastive loss', minimum=0)
    lr_mult: float = option(1.0, 'factor on the learning rate of both classifiers', minimum=0)
    gamma_lr_mult: float = option(1.0, 'factor on that of the layer that gives the window', minimum=0)
    gamma_gradient: float = option(0.02, 'factor on the gradient that this layer hands to the classification stream; '
                                         '1 in the paper', minimum=0)
    centred_window: bool = option(False, 'centre and scale what the window is computed from (BatchNorm without '
                                         'parameters), so that it can follow the object; the paper does not')
    rhythm_start: int = option(50, 'epochs before the rhythm: from then on it is off and on by turns, off first',
                               minimum=0)
    rhythm: int = option(45, 'epochs of each turn', minimum=1)
    rhythm_off: Tuple[str, ...] = option(('restriction',), 'loss terms that do not count while it is off',
                                         choices=('restriction', 'contrastive'))
    rhythm_frozen: str = option('', 'regular expression of parameters that do not learn while it is off, such as '
                                    r'body\.(stem|stage1)\..*')

    def __post_init__(self):
        for i, (name, bound) in enumerate((('alpha_location', self.alpha_location),) * 2
                                          + (('alpha_scale', self.alpha_scale),)):
            if abs(self.expected[i]) >= bound:
                raise ConfigError(f'method.expected: {self.expected[i]} cannot be reached, it must be within {name} '
                                  f'{bound}')
        try:
            re.compile(self.rhythm_frozen)
        except re.error as error:
            raise ConfigError(f"method.rhythm_frozen: '{self.rhythm_frozen}' is not a regular expression: {error}"
                              ) from None


class Method(Base):
    """``net`` is the :class:`~gluon_fgvc.nn.Classifier` of plain fine-tuning; ``train_net`` adds :class:`TwoStreams`.

    The second backbone starts as a copy of the first, both classifiers from Xavier (bias 0), and the window as E for
    every image, from zero weights. Terms: ``classification`` and ``attention``, cross-entropies of the two streams;
    ``restriction`` (Eq. 7); ``contrastive`` (Eq. 8), the mean over disjoint pairs of the images on one device. An odd
    image is in no pair. A batch of one has no pair and its term is 0, and so has a batch of one class under
    ``pairs: different_label``.

    Differs from the released code: redundancy by the exact mask, features contrasted by Euclidean distance and in
    one batch of both pictures, restriction without NaN, a start at E.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        self.net = Classifier(backbone, num_classes)
        self.net.classifier.initialize(mx.init.Xavier(), ctx=contexts_of(backbone))
        self.train_net = TwoStreams(self.net, num_classes, options)
        if options.rhythm_frozen and not any(re.fullmatch(options.rhythm_frozen, name)
                                             for name in self.train_net._collect_params_with_prefix()):
            raise ConfigError(f"method.rhythm_frozen: '{options.rhythm_frozen}' matches no parameter; their names are "
                              'like body.stage1.0.weight')

    @property
    def outputs(self):
        return ('logits', 'attention_scores', 'attention', 'redundancy', 'window', 'draws')

    def phases(self, epochs):
        options = self.options
        on = {'loss_weights': {term: getattr(options, f'{term}_weight') for term in TERMS}}
        off = {'loss_weights': {**on['loss_weights'], **dict.fromkeys(options.rhythm_off, 0.0)}}
        if options.rhythm_frozen:
            off['trainable'] = rf'(?!(?:{options.rhythm_frozen})\Z).*'
        if off == on:
            return [self._phase('all', epochs, on)]
        phases, done = [self._phase('start', min(options.rhythm_start, epochs), on)], options.rhythm_start
        while done < epochs:
            name, settings = ('on', on) if len(phases) % 2 == 0 else ('off', off)
            phases.append(self._phase(name, min(options.rhythm, epochs - done), settings))
            done += options.rhythm
        return phases

    def _phase(self, name, epochs, settings):
        return Phase(name, epochs, lr_mult={r'(regulation\.)?classifier\..*': self.options.lr_mult,
                                            r'gamma\..*': self.options.gamma_lr_mult}, **settings)

    def losses(self, outputs, labels, phase):
        options = self.options
        return {'classification': self.criterion(outputs['logits'], labels),
                'attention': self.criterion(outputs['attention_scores'], labels),
                'restriction': restriction_loss(outputs['window'], options.expected, options.thresholds),
                'contrastive': self._contrast(outputs, labels)}

    def _contrast(self, outputs, labels):
        redundancy, attention = outputs['redundancy'], outputs['attention']
        if len(redundancy) < 2:
            warnings.warn('one image on a device has no other to be contrasted with, so its contrastive term is 0; '
                          'raise data.batch_size or use fewer devices')
            return nd.zeros((1,), ctx=redundancy.context)
        with autograd.pause():
            if self.options.pairs == 'permutation':
                first, second = permuted_pairs(outputs['draws'])
                counts = nd.ones_like(first)
            else:
                first, second, counts = different_label_pairs(outputs['draws'], labels)
        terms = contrastive_loss(redundancy, attention, first, second, self.options.margin)
        return (terms * counts).sum() / nd.maximum(counts.sum(), 1)

    def explain(self, images):
        """Return class activation, the window as the regulation stream sees it, and what lies outside of it.

        The window and the rest are the two parts of Fig. 4, the latter at the size of the images.
        """
        with autograd.predict_mode():
            _, theta, _, window = self.train_net.propose(images)
        grid = affine_grid(nd, images, theta, self.train_net.transform.size)
        outside = 1 - redundancy_mask(window, images.shape[2:]).squeeze(axis=1)
        return replace(super().explain(images), grids={'attention': grid}, regions={'redundancy': outside})


def permuted_pairs(draws):
    """Return the images (P,) and (P,) of ⌊N/2⌋ disjoint pairs, by the order of random numbers ``draws`` (N,)."""
    order, half = draws.argsort(), len(draws) // 2
    return order[:half], order[half:2 * half]


def different_label_pairs(draws, labels):
    """Return the images (P,) and (P,) of ⌊N/2⌋ disjoint pairs, and which of the pairs (P,) count: two classes.

    Images are sorted by class, classes and images within a class in random order, and those half a batch apart are
    paired. So all pairs count unless a class has more than half of the images.

    :param draws: (N,) random numbers in [0, 1).
    :param labels: (N,) class indices, or (N,K) probabilities, of which the largest counts.
    """
    if labels.ndim == 2:
        labels = labels.argmax(axis=1)
    same = nd.broadcast_equal(labels.expand_dims(0), labels.expand_dims(1))                # (N,N)
    key = nd.broadcast_mul(same, draws.expand_dims(0) + 1).max(axis=1)                     # (N,), one a class
    rank = nd.broadcast_lesser(key.expand_dims(0), key.expand_dims(1)).sum(axis=1)         # images of earlier classes
    order, half = (rank + draws).argsort(), len(draws) // 2
    first, second = order[:half], order[len(draws) - half:]
    return first, second, labels.take(first) != labels.take(second)


class TwoStreams(HybridBlock):
    """The classification stream, the attention-redundancy transformer and the attention regulation stream (Fig. 2).

    :param net: the :class:`~gluon_fgvc.nn.Classifier` that is the classification stream; its children are shared.

    Input: images (N,3,H,W), normalised. Outputs: scores (N,K) of the classification stream; scores (N,K) that the
    regulation stream gives the attention image; deep features (N,D) of attention and of redundancy; the window
    Γ_res (N,4); random numbers (N,) in [0, 1), for pairing images. The window comes from the averaged last map,
    whatever the backbone's head, with ``centred_window`` centred and scaled to h = BatchNorm(map) / √C, as that of
    :class:`~gluon_fgvc.nn.SpatialTransformer` is, and gradient flows through it back into the classification stream,
    times ``gamma_gradient``: by itself it is about ten times as large as the classification's.
    """

    def __init__(self, net, num_classes, options):
        super().__init__(prefix='streams_')
        self._scores_are_features, self._gamma_gradient = options.features == 'logits', options.gamma_gradient
        ctx, size = contexts_of(net.body), options.size and (options.size, options.size)
        self._channels = net.body.channels[-1]
        with self.name_scope():
            self.body, self.classifier = net.body, net.classifier
            start = [math.atanh(value / bound) for value, bound in zip(
                options.expected, (options.alpha_location, options.alpha_location, options.alpha_scale))]
            self.gamma = layers.Dense(4, in_units=self._channels, weight_initializer='zeros',
                                      bias_initializer=mx.init.Constant(nd.array([*start, options.expected[3]])))
            self.gamma.initialize(ctx=ctx)
            # Averaged features are positive: most of their square is common to all images, and so is most of what a
            # step moves windows by.
            self.centre = VectorBatchNorm(center=False, scale=False, in_channels=self._channels) \
                if options.centred_window else None
            if self.centre is not None:
                self.centre.initialize(ctx=ctx)
            self.transform = SimilarityTransform(size, options.alpha_location, options.alpha_scale)
            # Within this name scope the copy's parameters differ from the original's in their names.
            self.regulation = Classifier(backbones.twin(net.body), num_classes, prefix='regulation_')
            self.regulation.classifier.initialize(mx.init.Xavier(), ctx=ctx)

    def propose(self, images):
        """Return what :class:`~gluon_fgvc.nn.SimilarityTransform` does for ``images``."""
        return self._propose(nd, images, self.body(images))

    def _propose(self, F, images, features):
        pooled = F.Pooling(features, global_pool=True, kernel=(1, 1), pool_type='avg')      # (N,C,1,1)
        seen = _with_gradient(F, pooled, self._gamma_gradient)
        if self.centre is not None:
            seen = self.centre(F.flatten(seen)) / self._channels ** 0.5
        return self.transform(images, self.gamma(seen))

    def hybrid_forward(self, F, images):
        features = self.body(images)                                                        # (N,C,h,w)
        attention, _, redundancy, window = self._propose(F, images, features)
        both = F.concat(attention, redundancy, dim=0)                                       # (2N,3,S,S)
        pooled = self.regulation.body.pool(self.regulation.body(both))                      # (2N,D)
        scores = self.regulation.classifier(pooled)                                         # (2N,K)
        attention_scores, redundancy_scores = _halves(F, scores)
        deep = (attention_scores, redundancy_scores) if self._scores_are_features else _halves(F, pooled)
        draws = F.random.uniform_like(F.BlockGrad(F.slice_axis(window, axis=1, begin=0, end=1)))
        return [self.classifier(self.body.pool(features)), attention_scores, *deep, window, F.reshape(draws, (-1,))]


def _with_gradient(F, values, factor):
    """Return ``values`` themselves, through which gradient flows times ``factor``."""
    if factor == 1:
        return values
    return F.BlockGrad(values) if factor == 0 else F.BlockGrad(values * (1 - factor)) + values * factor


def _halves(F, values):
    """Return the first and the second N rows of ``values`` (2N,D)."""
    values = F.reshape(values, (-4, 2, -1, 0))                                              # (2,N,D)
    return tuple(F.reshape(F.slice_axis(values, axis=0, begin=i, end=i + 1), (-3, 0)) for i in range(2))

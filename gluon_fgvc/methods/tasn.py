"""TASN: trilinear attention decides where an image is sampled densely (Zheng et al., CVPR 2019).

"Looking for the Devil in the Details: Learning Trilinear Attention Sampling Network for Fine-grained Image
Recognition". A localisation net gives attention maps; their mean samples a structure-preserved image, one of them a
detail-preserved image; one backbone learns from both, and the part-net on details teaches the master-net on structure.
"""
from dataclasses import dataclass
from typing import Optional, Tuple

import mxnet as mx
from mxnet import nd
from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as layers

from gluon_fgvc import backbones
from gluon_fgvc.backbones import surgery
from gluon_fgvc.config import option
from gluon_fgvc.methods.base import Explanation, Phase
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.nn import (
    AttentionSampler,
    BatchNormReLU,
    DetailMap,
    SaliencySampler,
    StructureMap,
    TrilinearAttention,
    UniformSampler,
)
from gluon_fgvc.nn.channels import channel
from gluon_fgvc.nn.losses import distillation
from gluon_fgvc.nn.parameters import contexts_of
from gluon_fgvc.nn.trilinear import CHOICES, NORMALISATIONS

PICTURED = 3  # channels that `maps` shows
INITIALISERS = {'xavier': mx.init.Xavier, 'msra': mx.init.MSRAPrelu}


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``; the defaults are those of the released code."""

    nets: str = option('both', "what learns: 'both' part-net and master-net (TASN); 'master' without details and "
                               "distillation (Tables 3, 4); 'part' on details only, tested on the mean map (Table 2)",
                       choices=('both', 'master', 'part'))
    sampled_size: int = option(224, 'side in pixels of the sampled images, which the backbone sees', minimum=32)
    attention_size: int = option(224, 'side in pixels of the image that the localisation net sees; its maps have an '
                                      'eighth of it', minimum=32)
    attention_backbone: str = option('resnet18_v2', 'backbone of the localisation net, at output stride 8')
    attention_weights: str = option('none', "its weights, as backbone.weights: 'zoo', 'none', … or a path",
                                    untrained='none')
    attention_strides: Optional[Tuple[int, ...]] = option(
        None, 'strides of its stages, undilated, [1, 1, 2, 1] in the released code; null takes out the last two and '
              'dilates what follows, which keeps what pretrained weights compute', minimum=1, maximum=2)
    attention_init: str = option('xavier', "what its dilated convolutions start from; 'msra' as in the released code",
                                 choices=('xavier', 'msra'))
    attention_stages: Optional[int] = option(None, 'how many of its stages are kept: fewer are cheaper; null keeps all',
                                             minimum=1)
    attention_channels: int = option(512, "channels of the localisation net's dilated convolutions, each an attention "
                                          'map', minimum=1)
    normalisation: str = option('N(N(X)XT)X', 'how features become attention maps (Table 2; T: transpose)',
                                choices=NORMALISATIONS)
    scale: float = option(7.0, 'factor on the features inside the softmax over places', above=0)
    square: bool = option(True, 'square the mean map, not the details')
    choice: str = option('random', 'how the map of a detail is chosen', choices=CHOICES)
    parts: int = option(1, 'details sampled of each training image', minimum=1)
    sampler: str = option('attention', "the paper's; 'uniform' (a crop) and 'ssn' are those that Table 3 compares it "
                                       'with', choices=('attention', 'uniform', 'ssn'))
    sampler_mode: str = option('exact', 'of the attention sampler, see nn.AttentionSampler',
                               choices=('exact', 'fast', 'native'))
    dense: float = option(4.0, 'bound on its density in the first round of equalising', above=0)
    iters: int = option(5, 'rounds of equalising', minimum=0)
    temperature: float = option(10.0, 'of the distillation, T', above=0)
    detach_teacher: bool = option(False, 'no gradient from the distillation to the part-net')
    attention_weight: float = option(1.0, "factor on the localisation net's cross-entropy", minimum=0)
    classification_weight: float = option(0.5, 'factor on each cross-entropy of part-net and master-net', minimum=0)
    distillation_weight: float = option(1.0, 'factor on the distillation (λ = 2 of Eq. 8 is the ratio 1 : 0.5)',
                                        minimum=0)
    lr_mult: float = option(1.0, 'factor on the learning rate of all that is not pretrained: classifiers and dilated '
                                 'convolutions', minimum=0)


class Method(Base):
    """``net`` is the master-net: localisation net → mean map → sampler → backbone → classifier.

    ``train_net`` has more outputs. With ``nets: both`` the same backbone also sees the detail-preserved images, in one
    batch with the structure-preserved ones; a classifier for each of the two nets and one for both are learnt, and
    ``scores`` are the latter's of the master-net. With ``nets: part`` training sees details only, and ``net`` samples
    by the mean map without squaring it. The localisation net learns from a classifier of its own alone, which is
    not in ``net``. What is not pretrained starts from Xavier (bias 0).

    Losses, cross-entropies but for the last: ``attention`` (localisation net), ``scores``, and with ``nets: both``
    ``master``, ``part`` and ``part_shared`` (means over ``parts``) and ``distillation``.
    """

    square_images = True

    def __init__(self, backbone, num_classes, options):
        self.options = options
        ctx = contexts_of(backbone)
        localisation = Localisation(options, ctx)
        shared = {'localisation': localisation, 'body': backbone,
                  'attention': TrilinearAttention(options.normalisation, options.scale),
                  'classifier': layers.Dense(num_classes, in_units=backbone.pool_units, flatten=False)}
        shared['structure'], shared['sampler'], self.detail_sampler = _samplers(options)
        self.net = MasterNet(**shared)
        train_net = {'both': BothNets, 'master': TrainedMasterNet, 'part': PartNet}[options.nets]
        self.train_net = train_net(self.detail_sampler, num_classes, options, **shared)
        for name, child in self.train_net._children.items():
            if name.endswith('classifier'):
                child.initialize(mx.init.Xavier(), ctx=ctx)
        shared['sampler'].collect_params().reset_ctx(ctx)

    @property
    def outputs(self):
        return self.train_net.OUTPUTS

    def phases(self, epochs):
        options = self.options
        single = 1.0 if options.nets != 'both' else options.classification_weight
        weights = {name: single for name in self.outputs}
        weights['attention'] = options.attention_weight
        if options.nets == 'both':
            weights['distillation'] = options.distillation_weight
        ours = r'localisation\.(rectify|set).*|\w*classifier\..*'
        return [Phase(options.nets, epochs, lr_mult={ours: options.lr_mult}, loss_weights=weights)]

    def losses(self, outputs, labels, phase):
        options = self.options
        terms = {name: self.criterion(outputs[name], labels) for name in outputs if not name.startswith('part')}
        if options.nets == 'both':
            for name in ('part', 'part_shared'):
                terms[name] = _mean(self.criterion(scores, labels) for scores in _parts(outputs[name]))
            terms['distillation'] = _mean(
                distillation(outputs['master'], scores, options.temperature, options.detach_teacher)
                for scores in _parts(outputs['part']))
        return terms

    def explain(self, images):
        """Return the mean attention map, some channels' attention beside their features (Fig. 5), and where is sampled.

        Of the channels whose mean attention is at least 1 % of the largest, PICTURED are taken, spread evenly from
        the strongest down. The grids are those of the master-net and of a part-net at the map of the strongest channel.
        """
        features = self.net.localisation(images)                                      # (N,C,h,w)
        attention = self.net.attention(features)
        maps = {'mean attention': attention.mean(axis=1)}
        if attention.shape == features.shape:  # self-attention has no channels but places
            for c in _spread(attention.mean(axis=(0, 2, 3)).asnumpy()):
                maps[f'features, channel {c}'] = channel(nd, features, c)
                maps[f'attention, channel {c}'] = channel(nd, attention, c)
        strongest = nd.topk(attention.mean(axis=(2, 3)), axis=1, k=1, ret_typ='mask')  # (N,C)
        detail = (attention * strongest.expand_dims(2).expand_dims(3)).sum(axis=1, keepdims=True)
        grids = {'structure-preserved': self.net.sampler.grid(images, self.net.structure(attention)),
                 'detail-preserved': self.detail_sampler.grid(images, detail)}
        return Explanation(maps, grids=grids, seen_through='structure-preserved')


def _spread(response):
    """Return up to PICTURED channels, from the strongest of ``response`` (C,) down to 1 % of it, spread evenly."""
    order = [int(c) for c in response.argsort()[::-1] if response[c] >= response.max() / 100]
    return dict.fromkeys(order[i * (len(order) - 1) // (PICTURED - 1)] for i in range(PICTURED))


def _parts(scores):
    """Return the scores (N,K) of each part, of (N,P,K)."""
    return [channel(nd, scores, part) for part in range(scores.shape[1])]


def _mean(terms):
    terms = list(terms)
    return nd.add_n(*terms) / len(terms)


def _samplers(options):
    """Return (block of the structure map, sampler for it, sampler for details).

    The attention sampler squares a map itself, after enlarging it; for the others it is squared beforehand.
    """
    square, size = options.square and options.nets != 'part', options.sampled_size
    if options.sampler == 'attention':
        structure, detail = (AttentionSampler(size, options.dense, options.iters, options.sampler_mode, squared)
                             for squared in (square, False))
        return StructureMap(), structure, detail
    sampler = UniformSampler(size) if options.sampler == 'uniform' else SaliencySampler(size, mass='sum')
    return StructureMap(square), sampler, sampler


class Localisation(HybridBlock):
    """Images to features (N,C,h,w) for the attention module, h = attention_size / 8 (Sec. 3.1).

    A backbone at output stride 8 (or of ``attention_strides``), and two sets of dilated 3x3 convolutions that widen the
    field of view, the first at dilations 1 and 2, the second at 1, 2 and 3. Where the backbone's last map is not
    rectified (linear bottlenecks of a net that is cut), a BatchNorm and ReLU stand in between.
    """

    def __init__(self, options, ctx):
        super().__init__(prefix='localisation_')
        self._size = options.attention_size
        with self.name_scope():  # the backbone may be of the same kind as the one that classifies
            dilated = options.attention_strides is None
            self.body = backbones.get(options.attention_backbone, options.attention_weights, ctx=ctx,
                                      output_stride=8 if dilated else None)
            if not dilated:
                surgery.set_stage_strides(self.body, options.attention_strides)
            if options.attention_stages is not None:
                self.body.keep_stages(options.attention_stages)
            channels = self.body.channels[-1]
            self.rectify = None if self.body.rectified[-1] else BatchNormReLU(channels)
            self.set1 = SharedDilations(options.attention_channels, channels, (1, 2))
            self.set2 = SharedDilations(options.attention_channels, options.attention_channels, (1, 2, 3))
        for block in (self.rectify, self.set1, self.set2):
            if block:
                block.initialize(INITIALISERS[options.attention_init](), ctx=ctx)

    def hybrid_forward(self, F, images):
        images = F.contrib.BilinearResize2D(images, height=self._size, width=self._size)
        features = self.body(images)
        features = self.rectify(features) if self.rectify else features
        return self.set2(self.set1(features))                                # (N,C,h,w)


class SharedDilations(HybridBlock):
    """One 3x3 convolution at several dilations, ReLU after each, summed (released code).

    Input: (N,in_channels,h,w). Output: (N,channels,h,w), non-negative.
    """

    def __init__(self, channels, in_channels, dilations, **kwargs):
        super().__init__(**kwargs)
        self._channels, self._dilations = channels, dilations
        with self.name_scope():
            self.weight = self.params.get('weight', shape=(channels, in_channels, 3, 3))
            self.bias = self.params.get('bias', shape=(channels,), init='zeros')

    def hybrid_forward(self, F, x, weight, bias):
        return F.add_n(*[F.relu(F.Convolution(x, weight, bias, kernel=(3, 3), pad=(d, d), dilate=(d, d),
                                              num_filter=self._channels)) for d in self._dilations])


class MasterNet(HybridBlock):
    """Images (N,3,H,H) to scores (N,K): the classification of the structure-preserved image."""

    def __init__(self, localisation, body, attention, classifier, structure, sampler):
        super().__init__()
        self.localisation, self.body, self.attention, self.classifier = localisation, body, attention, classifier
        self.structure, self.sampler = structure, sampler

    def hybrid_forward(self, F, images):
        sampled = self.sampler(images, self.structure(self.attention(self.localisation(images))))
        return self.classifier(self.body.pool(self.body(sampled)))


class TrainedMasterNet(MasterNet):
    """Images (N,3,H,H) to the scores (N,K) of :class:`MasterNet` and of the localisation net."""

    OUTPUTS = ('logits', 'attention')

    def __init__(self, detail_sampler, num_classes, options, **children):
        super().__init__(**children)
        channels = options.attention_channels
        self.attention_classifier = layers.HybridSequential()
        self.attention_classifier.add(layers.BatchNorm(in_channels=channels), layers.Activation('relu'),
                                      layers.GlobalAvgPool2D(), layers.Dense(num_classes, in_units=channels))

    def hybrid_forward(self, F, images):
        features = self.localisation(images)
        pooled = self.body.pool(self.body(self.sampled(F, images, self.attention(features))))
        return self.classifier(pooled), self.attention_classifier(features)

    def sampled(self, F, images, maps):
        """Return the images (N,3,O,O) that the backbone sees, sampled from ``images`` by attention ``maps``."""
        return self.sampler(images, self.structure(maps))


class PartNet(TrainedMasterNet):
    """The same of detail-preserved images."""

    def __init__(self, detail_sampler, num_classes, options, **children):
        super().__init__(detail_sampler, num_classes, options, **children)
        self.detail, self.detail_sampler = DetailMap(options.choice), detail_sampler

    def sampled(self, F, images, maps):
        return self.detail_sampler(images, self.detail(maps))


class BothNets(PartNet):
    """Images (N,3,H,H) to the scores of master-net and localisation net (N,K) and those of the part-net (N,P,K)."""

    OUTPUTS = ('logits', 'attention', 'master', 'part', 'part_shared')

    def __init__(self, detail_sampler, num_classes, options, **children):
        super().__init__(detail_sampler, num_classes, options, **children)
        self._parts, units = options.parts, self.body.pool_units
        self.master_classifier = layers.Dense(num_classes, in_units=units)
        self.part_classifier = layers.Dense(num_classes, in_units=units, flatten=False)

    def hybrid_forward(self, F, images):
        features = self.localisation(images)
        maps = self.attention(features)
        sampled = [self.sampler(images, self.structure(maps))]
        sampled += [self.detail_sampler(images, self.detail(maps)) for _ in range(self._parts)]
        pooled = self.body.pool(self.body(F.concat(*sampled, dim=0)))                  # ((1+P)·N,C), one batch for BN
        pooled = F.swapaxes(F.reshape(pooled, (-4, 1 + self._parts, -1, 0)), 0, 1)     # (N,1+P,C)
        shared = self.classifier(pooled)                                               # (N,1+P,K)
        master = F.reshape(F.slice_axis(pooled, axis=1, begin=0, end=1), (0, -1))      # (N,C)
        parts = F.slice_axis(pooled, axis=1, begin=1, end=None)                        # (N,P,C)
        return (F.reshape(F.slice_axis(shared, axis=1, begin=0, end=1), (0, -1)), self.attention_classifier(features),
                self.master_classifier(master), self.part_classifier(parts),
                F.slice_axis(shared, axis=1, begin=1, end=None))

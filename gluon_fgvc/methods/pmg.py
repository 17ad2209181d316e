"""PMG: stages learn one after another from jigsaws of ever larger pieces (Du et al., ECCV 2020).

"Fine-Grained Visual Classification via Progressive Multi-Granularity Training of Jigsaw Patches". A stage that sees
only small pieces in disorder must tell classes apart by what lies within a piece; the whole network then joins them.
"""
from dataclasses import dataclass
from functools import partial
from typing import Tuple

from mxnet import nd
from mxnet.gluon import HybridBlock
from mxnet.gluon import nn as layers

from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn import FirstOutput
from gluon_fgvc.nn.attend_rectify import HE
from gluon_fgvc.nn.parameters import compile_net, contexts_of
from gluon_fgvc.nn.vector_batch_norm import VectorBatchNorm


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``; the defaults are the paper's."""

    stages: int = option(3, 'S: how many stages have a classifier of their own, the last ones', minimum=1)
    pieces: int = option(2, 'pieces a side of the jigsaw of the last stage; each stage before it has twice as many',
                         minimum=1)
    features: int = option(512, 'channels of the 1x1 convolution of each head, and units of its hidden layer; the 3x3 '
                                'convolution has twice as many', minimum=1)
    joint_weight: float = option(2.0, 'β, factor on the loss of the joint classifier (Eq. 3)', minimum=0)
    deploy: Tuple[str, ...] = option((), "the classifiers whose mean logits predict, e.g. [stage4, joint]; [] is all, "
                                         'and worse where early stages learn little, as from few images a class')
    lr_mult: float = option(10.0, 'factor on the learning rate of all that is not pretrained', minimum=0)


class Method(Base):
    """One batch is S+1 updates: each of the last S stages from a jigsaw, the earliest first, then the whole network.

    Deployed are all classifiers: the logits are the mean of theirs, so the predicted class is that of the paper's sum
    (Sec. 3.4), and their softmax is no surer than theirs. ``deploy`` names fewer, such as the joint one alone, which
    the paper has as well. Losses are the cross-entropies of the stages, under the names of the stages, and ``joint``.

    Differs from the released code: what an update does not reach stays as it is, where the release moves it on by
    momentum and weight decay.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        names = backbone.stage_names
        if options.stages > len(names):
            raise ConfigError(f'method.stages: {options.stages} is more than the {len(names)} stages of '
                              f'{backbone.name}')
        self.stages = names[-options.stages:]
        self.train_net = Granularities(backbone, num_classes, self.stages, options.features, self._deployed())
        self.net = FirstOutput(self.train_net)
        for child in self.train_net._children.values():
            if child is not backbone:
                child.initialize(HE, ctx=contexts_of(backbone))
        self._upto = {stage: UpTo(self.train_net, stage) for stage in self.stages}
        self._joint = Joint(self.train_net)

    def _deployed(self):
        every = (*self.stages, 'joint')
        for name in self.options.deploy:
            if name not in every:
                raise ConfigError(f"method.deploy: no classifier '{name}'{did_you_mean(name, every)}")
        return self.options.deploy or every

    @property
    def outputs(self):
        return ('logits', *self.stages, 'joint')

    def phases(self, epochs):
        return [Phase('all', epochs, lr_mult={r'(features|classify)_\w+\..*': self.options.lr_mult})]

    def losses(self, outputs, labels, phase):
        terms = {name: self.criterion(outputs[name], labels) for name in (*self.stages, 'joint') if name in outputs}
        if 'joint' in terms:
            terms['joint'] = self.options.joint_weight * terms['joint']
        return terms

    def step(self, step):
        for block in (*self._upto.values(), self._joint):
            if block._active != self.train_net._active:
                compile_net(block, self.train_net._active)
        for stage, pieces in self.pieces.items():
            step.update(partial(self._logits_of, stage), partial(jigsaw, pieces=pieces))
        step.update(self._joint_logits)

    def _logits_of(self, stage, images):
        return {stage: self._upto[stage](images)}

    def _joint_logits(self, images):
        joint = self._joint(images)
        return {'logits': joint, 'joint': joint}  # training accuracy is told of the joint classifier

    @property
    def pieces(self):
        """Dict of stage → pieces a side of its jigsaw, from the earliest stage on."""
        last = self.options.pieces
        return {stage: last * 2 ** behind for stage, behind in zip(self.stages, reversed(range(len(self.stages))))}


def jigsaw(images, pieces):
    """Return ``images`` (N,C,H,W), an NDArray, cut into ``pieces`` × ``pieces`` rectangles that change places.

    The order is random, of MXNet's stream, and the same for all images. One piece is the image itself.

    :raises ConfigError: where the sides cannot be cut into equal whole pixels.
    """
    count, channels, height, width = images.shape
    if height % pieces or width % pieces:
        raise ConfigError(f'method.pieces: images of {height} x {width} cannot be cut into {pieces} x {pieces} equal '
                          'pieces; change data.train.crop')
    order = nd.random.uniform(shape=(pieces * pieces,), ctx=images.context).argsort()
    tiles = images.reshape((count, channels, pieces, height // pieces, pieces, width // pieces))
    tiles = tiles.transpose((2, 4, 0, 1, 3, 5)).reshape((pieces * pieces, -1))            # (pieces², N·C·h·w)
    tiles = tiles.take(order).reshape((pieces, pieces, count, channels, height // pieces, width // pieces))
    return tiles.transpose((2, 3, 0, 4, 1, 5)).reshape(images.shape)


class Granularities(HybridBlock):
    """A backbone with a head on each of several stages, and a joint classifier on all heads (Fig. 2).

    :param stages: names of the stages with a head, in their order.
    :param features: channels of a head, see :class:`Options`.
    :param deployed: names of the classifiers that predict, of ``stages`` and 'joint'.

    Inputs: images (N,3,H,W), normalised. Outputs: logits (N,K), the mean of those of ``deployed``; the logits (N,K) of
    each stage, and those of the joint classifier.
    """

    def __init__(self, body, num_classes, stages, features, deployed, **kwargs):
        super().__init__(**kwargs)
        self.stages, self._deployed = stages, deployed
        with self.name_scope():
            self.body = body
            for stage in stages:
                channels = body.channels[body.stage_names.index(stage)]
                setattr(self, f'features_{stage}', _features(channels, features))
                setattr(self, f'classify_{stage}', _classifier(2 * features, features, num_classes))
            self.classify_jointly = _classifier(2 * features * len(stages), features, num_classes)

    def hybrid_forward(self, F, images):
        maps = dict(zip(self.body.stage_names, self.body.stage_maps(images)))
        vectors = [getattr(self, f'features_{stage}')(maps[stage]) for stage in self.stages]        # (N,2·features)
        logits = {stage: getattr(self, f'classify_{stage}')(vector) for stage, vector in zip(self.stages, vectors)}
        logits['joint'] = self.classify_jointly(F.concat(*vectors, dim=1))
        return [F.add_n(*(logits[name] for name in self._deployed)) / len(self._deployed), *logits.values()]


class UpTo(HybridBlock):
    """The part of :class:`Granularities` that ends at the head of ``stage``: images to its logits (N,K)."""

    def __init__(self, net, stage):
        super().__init__(prefix='')
        names = net.body.stage_names[:net.body.stage_names.index(stage) + 1]
        self.path = layers.HybridSequential(prefix='')
        self.path.add(net.body.stem, *(getattr(net.body, name) for name in names),
                      getattr(net, f'features_{stage}'), getattr(net, f'classify_{stage}'))

    def hybrid_forward(self, F, images):
        return self.path(images)


class Joint(HybridBlock):
    """The part of :class:`Granularities` that ends at the joint classifier: images to its logits (N,K)."""

    def __init__(self, net):
        super().__init__(prefix='')
        self.stem, self.stages = net.body.stem, layers.HybridSequential(prefix='')
        self.stages.add(*(getattr(net.body, name) for name in net.body.stage_names))
        self.heads = layers.HybridSequential(prefix='')
        self.heads.add(*(getattr(net, f'features_{stage}') for stage in net.stages))
        self.classify_jointly = net.classify_jointly

    def hybrid_forward(self, F, images):
        maps, x = [], self.stem(images)
        for stage in self.stages._children.values():
            x = stage(x)
            maps.append(x)
        heads = list(self.heads._children.values())
        vectors = [head(x) for head, x in zip(heads, maps[-len(heads):])]
        return self.classify_jointly(F.concat(*vectors, dim=1))


def _features(in_channels, features):
    """Return a head: map (N,C,h,w) → vector (N,2·features), the largest response of each channel."""
    block = layers.HybridSequential(prefix='')
    block.add(layers.Conv2D(features, 1, use_bias=False, in_channels=in_channels),
              layers.BatchNorm(in_channels=features), layers.Activation('relu'),
              layers.Conv2D(2 * features, 3, padding=1, use_bias=False, in_channels=features),
              layers.BatchNorm(in_channels=2 * features), layers.Activation('relu'),
              layers.GlobalMaxPool2D(), layers.Flatten())
    return block


def _classifier(in_units, hidden, num_classes):
    """Return vector (N,in_units) → logits (N,K)."""
    block = layers.HybridSequential(prefix='')
    block.add(VectorBatchNorm(in_channels=in_units), layers.Dense(hidden, in_units=in_units),
              VectorBatchNorm(in_channels=hidden), layers.ELU(), layers.Dense(num_classes, in_units=hidden))
    return block

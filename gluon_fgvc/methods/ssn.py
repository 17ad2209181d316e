"""SSN: a saliency network decides where an image is sampled, learnt end to end (Recasens et al., ECCV 2018).

"Learning to Zoom: a Saliency-Based Sampling Layer for Neural Networks". TASN (CVPR 2019) compares itself with it in
Tables 5 and 10; as a sampler inside TASN (Table 3) it is ``tasn`` with ``sampler: ssn``.
"""
from dataclasses import dataclass
from typing import Optional

import mxnet as mx
from mxnet import autograd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import backbones
from gluon_fgvc.config import option
from gluon_fgvc.methods.base import Explanation, Phase
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.nn import FirstOutput, SaliencySampler
from gluon_fgvc.nn.parameters import contexts_of


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``."""

    sampled_size: int = option(224, 'side in pixels of the sampled images, which the backbone sees', minimum=32)
    saliency_size: int = option(224, 'side in pixels of the image that the saliency network sees', minimum=32)
    saliency_backbone: str = option('resnet18_v1', 'backbone of the saliency network')
    saliency_weights: str = option('none', "its weights, as backbone.weights: 'zoo', 'none', … or a path",
                                   untrained='none')
    saliency_stages: Optional[int] = option(3, 'how many of its stages are kept; null keeps all', minimum=1)
    cells: int = option(31, 'side of the grid of points that saliency moves', minimum=2)
    fwhm: float = option(13.0, 'full width at half maximum, in cells, of the Gaussian with which saliency draws points',
                         above=0)
    lr_mult: float = option(10.0, 'factor on the learning rate of the classifier; 1 from scratch', minimum=0)
    saliency_lr_mult: float = option(1.0, 'factor on that of the saliency network', minimum=0)


class Method(Base):
    """Cross-entropy on a linear classifier whose backbone sees the image as a :class:`SaliencySampler` samples it.

    Gradient flows through the sampler into the saliency network, which has no loss of its own. Its last layer starts
    at zero, so that training starts from an even grid. The released code shows the classifier coarser images in the
    first epochs; that is not here.
    """

    square_images = True

    def __init__(self, backbone, num_classes, options):
        self.options = options
        ctx = contexts_of(backbone)
        self.train_net = Sampled(Saliency(options, ctx), SaliencySampler(options.sampled_size, options.cells,
                                                                         options.fwhm), backbone, num_classes)
        self.train_net.classifier.initialize(mx.init.Xavier(), ctx=ctx)
        self.train_net.sampler.collect_params().reset_ctx(ctx)
        self.net = FirstOutput(self.train_net)

    @property
    def outputs(self):
        return ('logits', 'saliency')

    def phases(self, epochs):
        return [Phase('all', epochs, lr_mult={r'classifier\..*': self.options.lr_mult,
                                              r'saliency\..*': self.options.saliency_lr_mult})]

    def losses(self, outputs, labels, phase):
        return {'cross_entropy': self.criterion(outputs['logits'], labels)}

    def explain(self, images):
        """Return the saliency, fractions of 1 over the places of its map, and where the backbone samples the image."""
        with autograd.predict_mode():
            saliency = self.train_net.saliency(images)
            grid = self.train_net.sampler.grid(images, saliency)
        fractions = saliency.reshape((0, -1)).softmax(axis=1).reshape_like(saliency).squeeze(axis=1)
        return Explanation({'saliency': fractions}, grids={'sampled': grid}, seen_through='sampled')


class Saliency(HybridBlock):
    """Images (N,3,H,H) to saliency (N,1,h,h), not bounded: a backbone and a 1×1 convolution of zeros."""

    def __init__(self, options, ctx):
        super().__init__(prefix='saliency_')
        self._size = options.saliency_size
        with self.name_scope():  # the backbone may be of the same kind as the one that classifies
            self.body = backbones.get(options.saliency_backbone, options.saliency_weights, ctx=ctx)
            if options.saliency_stages is not None:
                self.body.keep_stages(options.saliency_stages)
            self.last = nn.Conv2D(1, 1, in_channels=self.body.channels[-1], weight_initializer='zeros')
        self.last.initialize(ctx=ctx)

    def hybrid_forward(self, F, images):
        images = F.contrib.BilinearResize2D(images, height=self._size, width=self._size)
        return self.last(self.body(images))                                           # (N,1,h,h)


class Sampled(HybridBlock):
    """Images (N,3,H,H), normalised, to logits (N,K) and saliency (N,1,h,h)."""

    def __init__(self, saliency, sampler, body, num_classes, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.saliency, self.sampler, self.body = saliency, sampler, body
            self.classifier = nn.Dense(num_classes, in_units=body.pool_units)

    def hybrid_forward(self, F, images):
        saliency = self.saliency(images)
        return [self.classifier(self.body.pool(self.body(self.sampler(images, saliency)))), saliency]

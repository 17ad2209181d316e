"""STN: a spatial transformer cuts a window out of the image, which is then classified (Jaderberg et al., NIPS 2015)."""
from dataclasses import dataclass
from typing import Optional

from mxnet import autograd, nd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.config import option
from gluon_fgvc.methods.base import Explanation, Phase
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.nn import FirstOutput, SpatialTransformer
from gluon_fgvc.nn.attend_rectify import HE
from gluon_fgvc.nn.parameters import contexts_of
from gluon_fgvc.nn.spatial_transformer import MODES, affine_grid, affine_sample

# Rate of the bias, which moves the windows of all images alike, to that of the rest: what is common to all images has
# the larger gradient, and would lead windows to the edge before they can tell images apart.
COMMON = 0.03


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``."""

    mode: str = option('affine', "what is learnt of the window: 'affine' all of it, 'location' where it lies",
                       choices=MODES)
    zoom: Optional[float] = option(None, "width and height of the window, in those of the image: where 'affine' starts "
                                         "and what 'location' keeps; null is 1 (the whole image) and 0.5", above=0,
                                   maximum=1)
    size: Optional[int] = option(None, 'side in pixels of the window that is classified; null is as large as the image',
                                 minimum=1)
    lr_mult: float = option(10.0, 'factor on the learning rate of the classifier; 1 from scratch', minimum=0)
    transformer_lr_mult: float = option(1.0, 'factor on that of the spatial transformer, which may need a smaller one '
                                             '(the paper took 1e-4 for birds)', minimum=0)

    def __post_init__(self):
        if self.mode == 'location' and self.zoom == 1:
            raise ValueError('zoom 1 leaves a window of mode: location nowhere to go; it must be below 1')


class Method(Base):
    """Cross-entropy on a linear classifier whose backbone sees the window of a :class:`SpatialTransformer`."""

    def __init__(self, backbone, num_classes, options):
        self.options = options
        size = options.size and (options.size, options.size)
        self.train_net = Transformed(SpatialTransformer(options.mode, size, options.zoom), backbone, num_classes)
        self.net = FirstOutput(self.train_net)
        for block in (self.train_net.transformer, self.train_net.classifier):
            block.initialize(HE, ctx=contexts_of(backbone))

    @property
    def outputs(self):
        return ('logits', 'theta')

    def phases(self, epochs):
        rate = self.options.transformer_lr_mult
        return [Phase('all', epochs, lr_mult={r'classifier\..*': self.options.lr_mult,
                                              r'transformer\..*': rate,
                                              r'transformer\.window\.bias': COMMON * rate})]

    def losses(self, outputs, labels, phase):
        return {'cross_entropy': self.criterion(outputs['logits'], labels)}

    def explain(self, images):
        """Return the window, as places of the image, and how strongly it depends on each pixel, (N,H,W)."""
        size = self.train_net.transformer.size
        with autograd.predict_mode():
            _, theta = self.train_net.transformer(images)
        pixels = images.copy()
        pixels.attach_grad()
        with autograd.record():
            window = affine_sample(nd, pixels, theta, size)
        window.backward(nd.ones_like(window))
        return Explanation({'window': pixels.grad.mean(axis=1)}, grids={'window': affine_grid(nd, images, theta, size)},
                           seen_through='window')


class Transformed(HybridBlock):
    """A spatial transformer in front of a backbone and a linear layer.

    Inputs: images (N,3,H,W), normalised. Outputs: scores (N,K); theta (N,2,3), the window.
    """

    def __init__(self, transformer, body, num_classes, **kwargs):
        super().__init__(**kwargs)
        with self.name_scope():
            self.transformer, self.body = transformer, body
            self.classifier = nn.Dense(num_classes, in_units=body.pool_units)

    def hybrid_forward(self, F, images):
        window, theta = self.transformer(images)
        return [self.classifier(self.body.pool(self.body(window))), theta]

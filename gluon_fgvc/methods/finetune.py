"""Plain fine-tuning: a new linear layer on a pretrained network (Zhang et al., Dive into Deep Learning, 13.2)."""
from dataclasses import dataclass
from typing import Mapping

import mxnet as mx
from mxnet import nd

from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn import Classifier
from gluon_fgvc.nn.parameters import contexts_of


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``."""

    cut: str = option('all', "what learns: 'fc' the classifier, 'block4' also the last stage, 'all' everything; "
                             "the rest has grad_req 'null'", choices=('fc', 'block4', 'all'))
    lr_mult: float = option(10.0, 'factor on the learning rate of the classifier', minimum=0)
    batch_norm: str = option('auto', "whose statistics BatchNorm uses in training: 'moving' the batch's, 'fixed' the "
                                     "running ones, 'auto' fixed where layers are frozen and else moving (MXNet moves "
                                     'the running statistics of a frozen layer on GPUs but not on CPUs)',
                             choices=('auto', 'moving', 'fixed'))
    dropout: float = option(0.0, 'fraction of the pooled vector dropped in training', minimum=0, below=1)
    init_from_imagenet: Mapping[int, str] = option(
        dict, 'class index → name of the ImageNet class whose classifier row it starts from, e.g. {0: hotdog}',
        untrained={})


class Method(Base):
    """Cross-entropy on ``Classifier``; ``net`` and ``train_net`` are the same block.

    The classifier starts from Xavier (bias 0), as in the book.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        self.last_stage = backbone.stage_names[-1]
        self.net = self.train_net = Classifier(backbone, num_classes, options.dropout)
        self.net.classifier.initialize(mx.init.Xavier(), ctx=contexts_of(backbone))
        for index, name in options.init_from_imagenet.items():
            self._start_from(backbone.source_classifier, index, name, num_classes)

    def _start_from(self, source, index, name, num_classes):
        if source is None or source[2] is None:
            raise ConfigError('method.init_from_imagenet: the weights of this backbone carry no ImageNet classifier')
        weight, bias, names = source
        if name not in names:
            raise ConfigError(f"method.init_from_imagenet: no ImageNet class '{name}'{did_you_mean(name, names)}")
        if not 0 <= index < num_classes:
            raise ConfigError(f'method.init_from_imagenet: class index {index} is not in 0..{num_classes - 1}')
        row = names.index(name)
        for parameter, value in ((self.net.classifier.weight, weight[row]), (self.net.classifier.bias, bias[row])):
            new = parameter.data(contexts_of(self.net.body)[0]).copy()
            new[index] = nd.array(value) if getattr(value, 'ndim', 0) else float(value)
            parameter.set_data(new)

    def phases(self, epochs):
        trainable = {'fc': r'classifier\..*', 'block4': rf'(body\.{self.last_stage}|classifier)\..*', 'all': '.*'}
        batch_norm = self.options.batch_norm
        if batch_norm == 'auto':
            batch_norm = 'moving' if self.options.cut == 'all' else 'fixed'
        return [Phase(name=self.options.cut, epochs=epochs, trainable=trainable[self.options.cut],
                      lr_mult={r'classifier\..*': self.options.lr_mult}, batch_norm=batch_norm)]

    def losses(self, outputs, labels, phase):
        return {'cross_entropy': self.criterion(outputs['logits'], labels)}

    def split(self):
        return self.net.split()

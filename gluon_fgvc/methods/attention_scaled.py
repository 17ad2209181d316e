"""Attention-scaled convolutions: a pretrained network adapted in ten epochs by one factor for each filter.

The paper adapts ImageNet networks to the amphibians of iNaturalist 2018 by "attention modules": every convolution
computes conv(x, W ⊙ a), a starts at 1 and learns for a few epochs, between epochs of the classifier and of
BatchNorm, under a penalty that drives it away from 1 (Eq. 1 to 4, Sec. 4). Afterwards a ranks the channels.
"""
import re
from dataclasses import dataclass
from typing import Optional

import mxnet as mx
import numpy as np

from gluon_fgvc import backbones
from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.methods.base import Phase, cross_entropy
from gluon_fgvc.nn import Classifier, attention_convolutions, attention_in_batch_norm, replace_convolutions
from gluon_fgvc.nn.attention_conv import FORMS
from gluon_fgvc.nn.losses import BOUNDED, PENALTIES, attention_penalty
from gluon_fgvc.nn.parameters import contexts_of, structural

SCHEDULE = 'FFAAABAAABAA'  # the paper's
HISTOGRAM = np.linspace(-1, 3, 81)  # edges; what lies outside counts in the outermost bins

# Each parameter that learns belongs to the first of these groups that matches; E trains all but attention.
GROUPS = {
    'F': ('classifier', r'classifier\..*'),
    'A': ('attention', r'.*\.attention'),
    'B': ('batch norm', r'.*\.(gamma|beta)'),
    'rest': ('rest', r'.*'),
}
LETTERS = {
    'F': Phase('F', 1, r'classifier\..*', batch_norm='fixed', fresh_optimizer=True),
    'A': Phase('A', 1, r'.*\.attention', batch_norm='fixed', fresh_optimizer=True),
    'B': Phase('B', 1, r'.*\.(gamma|beta)', batch_norm='moving', fresh_optimizer=True),
    'E': Phase('E', 1, r'(?!.*\.attention$).*', batch_norm='moving', fresh_optimizer=True),
}


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``."""

    form: str = option('in_out', "attention weights: 'in_out' one for each pair of channels, 'out' one for each output "
                                 'channel, which is cheaper to train', choices=FORMS)
    penalty: str = option('diverge', 'penalty on the attention weights, see docs/methods/attention_scaled.md',
                          choices=PENALTIES)
    penalty_weight: float = option(1.0, 'λ, its factor; 0 leaves it out')
    ceiling: Optional[float] = option(None, 'where a diverging penalty, which has no bound of its own, stops; it is '
                                            'compared before it is multiplied by λ', above=0)
    schedule: Optional[str] = option(
        None, f'one letter an epoch: F the classifier learns, A attention, B gamma and beta of BatchNorm, E everything '
              f'but attention; A3 is AAA; null is {SCHEDULE}, cut to train.epochs or continued with E')
    dropout: float = option(0.0, 'fraction of the pooled vector dropped in training', minimum=0, below=1)

    def __post_init__(self):
        if not np.isfinite(self.penalty_weight):
            raise ValueError(f'penalty_weight {self.penalty_weight} must be a finite number')
        if self.ceiling is not None and self.penalty not in BOUNDED:
            raise ValueError(f"ceiling goes with the penalties {', '.join(BOUNDED)}, not with '{self.penalty}', which "
                             'is never negative')
        if self.schedule is not None:
            expand(self.schedule)


def expand(schedule):
    """Return a schedule with its repeats written out: ``FFA3BA2`` is ``FFAAABAA``.

    :raises ConfigError: naming the character that is wrong and its position, counted from 1.
    """
    letters, position = [], 0
    for part in re.finditer(r'([A-Za-z])(\d*)|(.)', schedule, re.DOTALL):
        letter, times, position = part[1] or part[3], part[2], part.start() + 1
        if letter not in LETTERS:
            raise ConfigError(f"method.schedule '{schedule}': '{letter}' at position {position} is not a letter of "
                              f"{', '.join(LETTERS)}" + (' followed by how often, e.g. A3' if letter.isdigit() else ''))
        if times and int(times) == 0:
            raise ConfigError(f"method.schedule '{schedule}': '{letter}{times}' at position {position} repeats no time")
        letters.append(letter * int(times or 1))
    if not letters:
        raise ConfigError(f"method.schedule '{schedule}' has no letter; the paper's is {SCHEDULE}")
    return ''.join(letters)


def group_of(name):
    """Return which of ``GROUPS`` the parameter with structural name ``name`` belongs to."""
    return next(group for group, (_, pattern) in GROUPS.items() if re.fullmatch(pattern, name))


class Method(Base):
    """Cross-entropy and a penalty on attention, on ``Classifier`` with attention on every convolution.

    ``net`` and ``train_net`` are the same block; what is deployed has the attention folded into its filters. The
    penalty is there in the phases in which attention learns: in others it is a constant that costs time. The classifier
    starts from Xavier (bias 0).

    Differences from the released scripts: B trains all of BatchNorm (their match by name missed the down-sampling
    ones), and F, A and B leave no parameter on a stale gradient.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        self.net = self.train_net = Classifier(replace_convolutions(backbone, options.form), num_classes,
                                               options.dropout)
        self.net.classifier.initialize(mx.init.Xavier(), ctx=contexts_of(backbone))
        self.convolutions = attention_convolutions(self.net)
        self._quick_net = None
        if options.schedule is not None:
            self._check_groups(expand(options.schedule), backbone.name)

    def _check_groups(self, letters, backbone):
        groups = {group_of(name) for name in self.net._collect_params_with_prefix()}
        for position, letter in enumerate(letters, 1):
            if letter in GROUPS and letter not in groups:
                raise ConfigError(f"method.schedule: '{letter}', epoch {position}, trains {GROUPS[letter][0]}, of "
                                  f"which '{backbone}' has no parameter")

    def phases(self, epochs):
        if self.options.schedule is None:
            letters = SCHEDULE[:epochs].ljust(epochs, 'E')
            self._check_groups(letters, self.net.body.name)
        else:
            letters = expand(self.options.schedule)
        if len(letters) != epochs:
            raise ConfigError(f"train.epochs is {epochs}, but method.schedule '{self.options.schedule}' has "
                              f'{len(letters)} epochs')
        return [LETTERS[letter] for letter in letters]

    def losses(self, outputs, labels, phase):
        terms = {'cross_entropy': cross_entropy(outputs['logits'], labels)}
        if self.options.penalty_weight and phase.name == 'A':
            penalty = attention_penalty([conv.attention.data(labels.context) for conv in self.convolutions.values()],
                                        self.options.penalty, self.options.ceiling)
            terms['attention'] = self.options.penalty_weight * penalty
        return terms

    def split(self):
        return self.net.split()

    def phase_net(self, phase):
        """Compute attention of the 'out' form in BatchNorm where only attention learns and statistics are fixed."""
        if phase.name != 'A':
            return None
        if self._quick_net is None:
            self._quick_net = attention_in_batch_norm(self.net)
        return self._quick_net and (self._quick_net, 'attention is computed in BatchNorm, without weight gradients')

    def facts(self, phase):
        """Return the attention weights of each layer as a histogram, after an epoch in which they learned."""
        if phase.name != 'A':
            return None
        layers = {}
        for name, conv in self.convolutions.items():
            values = conv.attention.list_data()[0].asnumpy().ravel()
            counts, _ = np.histogram(values.clip(HISTOGRAM[0], HISTOGRAM[-1]), HISTOGRAM)
            layers[name] = {'counts': counts.tolist(), 'mean': float(values.mean()), 'sd': float(values.std()),
                            'least': float(values.min()), 'largest': float(values.max())}
        return {'attention_range': [HISTOGRAM[0], HISTOGRAM[-1]], 'attention': layers}

    def deployed(self):
        """Return the plain network: attention, multiplied into copies of the filters, costs nothing."""
        own = structural(self.net)
        plain = Classifier(backbones.twin(self.net.body), own['classifier.weight'].shape[0], self.options.dropout)
        plain.classifier.initialize(ctx=contexts_of(self.net))
        for name, parameter in structural(plain).items():
            parameter.set_data(own[name].data(own[name].list_ctx()[0]))
        for name, conv in self.convolutions.items():
            weight, attention = (p.data(p.list_ctx()[0]) for p in (conv.weight, conv.attention))
            structural(plain)[f'{name}.weight'].set_data(weight * attention)
        return plain


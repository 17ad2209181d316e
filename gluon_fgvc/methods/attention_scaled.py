"""Attention-scaled convolutions: a pretrained network adapted in ten epochs by one factor for each filter.

The paper adapts ImageNet networks to the amphibians of iNaturalist 2018 by "attention modules": every convolution
computes conv(x, W ⊙ a), a starts at 1 and learns for a few epochs, between epochs of the classifier and of
BatchNorm, under a penalty that drives it away from 1 (Eq. 1 to 4, Sec. 4). Afterwards a ranks the channels.
"""
import re
from dataclasses import dataclass, replace
from typing import Optional

import mxnet as mx
import numpy as np
from mxnet import autograd, nd

from gluon_fgvc import backbones
from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.methods.base import Phase, cross_entropy
from gluon_fgvc.nn import (
    Classifier,
    as_in_prediction,
    attention_convolutions,
    attention_in_batch_norm,
    replace_convolutions,
)
from gluon_fgvc.nn.attention_conv import FORMS
from gluon_fgvc.nn.losses import BOUNDED, PENALTIES, attention_penalty
from gluon_fgvc.nn.parameters import contexts_of, structural, to_numpy

SCHEDULE = 'FFAAABAAABAA'  # the paper's
SPREAD = 0.1  # of attention around 1, where penalties are compared with the cross-entropy
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
    'G': Phase('G', 1, r'.*\.(gamma|beta)', batch_norm='fixed', fresh_optimizer=True),
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
    penalty_share: Optional[float] = option(
        None, "λ on a scale on which penalties compare, instead of penalty_weight: the penalty's gradient as a share "
              "of the cross-entropy's when training starts", above=0)
    ceiling: Optional[float] = option(None, 'where a diverging penalty, which has no bound of its own, stops; it is '
                                            'compared before it is multiplied by λ', above=0)
    schedule: Optional[str] = option(
        None, f'one letter an epoch: F the classifier learns, A attention, B gamma and beta of BatchNorm, G the same '
              f'under fixed statistics, E everything but attention; A3 is AAA; null is {SCHEDULE}, cut to train.epochs '
              'or continued with E')
    batch_norm_momentum: Optional[float] = option(
        0.9, "fraction of BatchNorm's moving statistics that a step of B or E keeps: the 0.99 that some networks were "
             "trained with leaves them halfway after an epoch of 50 steps; null is the network's own", minimum=0,
        below=1)
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

    A factor of a whole filter ('out') is divided out again where BatchNorm's statistics move, in B and E; G keeps it.

    Differences from the released scripts: B trains all of BatchNorm (their match by name missed the down-sampling
    ones), and F, A and B leave no parameter on a stale gradient.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        self.net = self.train_net = Classifier(replace_convolutions(backbone, options.form), num_classes,
                                               options.dropout)
        self.net.classifier.initialize(mx.init.Xavier(), ctx=contexts_of(backbone))
        self.convolutions = attention_convolutions(self.net)
        self._quick_net, self.penalty_weight = None, options.penalty_weight
        if options.schedule is not None:
            self._check_groups(expand(options.schedule), backbone.name)

    def _check_groups(self, letters, backbone):
        groups = {group_of(name) for name in self.net._collect_params_with_prefix()}
        for position, letter in enumerate(letters, 1):
            group = 'B' if letter == 'G' else letter
            if group in GROUPS and group not in groups:
                raise ConfigError(f"method.schedule: '{letter}', epoch {position}, trains {GROUPS[group][0]}, of "
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
        phases = {letter: self._phase(phase) for letter, phase in LETTERS.items()}
        return [phases[letter] for letter in letters]

    def _phase(self, phase):
        momentum = self.options.batch_norm_momentum if phase.batch_norm == 'moving' else None
        return phase if momentum is None else replace(phase, batch_norm_momentum=momentum)

    def losses(self, outputs, labels, phase):
        terms = {'cross_entropy': self.criterion(outputs['logits'], labels)}
        if self.penalty_weight and phase.name == 'A':
            penalty = attention_penalty([conv.attention.data(labels.context) for conv in self.convolutions.values()],
                                        self.options.penalty, self.options.ceiling)
            terms['attention'] = self.penalty_weight * penalty
        return terms

    def calibrate(self, first_batch):
        """Find λ for ``penalty_share``, or the share of λ: medians over layers of mean gradients, with a at 1 ± 0.1.

        At 1 itself the diverging penalties have no gradient. The classifier is then the one that training starts from.
        """
        options = self.options
        if not options.penalty_weight and options.penalty_share is None:
            return None
        images, labels = first_batch()
        with as_in_prediction(self.net), autograd.record():  # BatchNorm by running statistics, as in A
            loss = cross_entropy(self.net(images), labels).mean()
        loss.backward()
        attention = [conv.attention.data(images.context) for conv in self.convolutions.values()]
        wanted = [values.grad.abs().mean().asscalar() for values in attention]
        generator = np.random.RandomState(0)
        moved = [nd.array(1 + SPREAD * generator.standard_normal(values.shape), ctx=images.context)
                 for values in attention]
        for values in moved:
            values.attach_grad()
        with autograd.record():
            penalty = attention_penalty(moved, options.penalty)
        penalty.backward()
        ratios = [values.grad.abs().mean().asscalar() / size for values, size in zip(moved, wanted) if size > 0]
        unit = float(np.median(ratios)) if ratios else 0.0
        if options.penalty_share is not None:
            if not unit:
                raise ConfigError('method.penalty_share: the cross-entropy has no gradient on attention; give '
                                  'method.penalty_weight instead')
            self.penalty_weight = options.penalty_share / unit
        return (f"penalty '{options.penalty}': λ {self.penalty_weight:.4g}, {self.penalty_weight * unit:.3g} of the "
                "cross-entropy's gradient")

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
        own = to_numpy(self.net)
        plain = Classifier(backbones.twin(self.net.body), own['classifier.weight'].shape[0], self.options.dropout)
        plain.classifier.initialize(ctx=contexts_of(self.net))
        for name, parameter in structural(plain).items():
            parameter.set_data(own[name])
        for name in self.convolutions:
            structural(plain)[f'{name}.weight'].set_data(own[f'{name}.weight'] * own[f'{name}.attention'])
        return plain


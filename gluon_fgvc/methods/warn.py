"""WARN: attention modules at several depths correct the network's scores (Rodríguez et al., ECCV 2018)."""
from dataclasses import dataclass
from typing import Optional, Tuple

from mxnet import autograd, nd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc.backbones import loading, wide_resnet
from gluon_fgvc.backbones.base import Naming
from gluon_fgvc.config import option
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.methods.base import Explanation, Phase
from gluon_fgvc.methods.base import Method as Base
from gluon_fgvc.nn import AttendRectify, BatchNormReLU, FirstOutput, GlobalGates
from gluon_fgvc.nn.attend_rectify import HE, combine, mask_overlap
from gluon_fgvc.nn.channels import channel
from gluon_fgvc.nn.parameters import contexts_of


@dataclass(frozen=True)
class Options:
    """Keys of the section ``method``."""

    depth: int = option(2, 'attention depth (AD): how many stages get a module, from the last one backward', minimum=1)
    width: int = option(4, 'attention width (AW): heads of a module', minimum=1)
    stages: Optional[Tuple[str, ...]] = option(
        None, 'names of the stages that get a module, instead of depth, e.g. [stage2, stage4]')
    mask: str = option('softmax', "what makes masks of the attention heads' maps", choices=('softmax', 'sigmoid'))
    gates: bool = option(True, 'weigh heads and modules by gates; false takes their means')
    global_gate: str = option('softmax', 'what makes shares of the confidences in modules and classifier; sigmoid is '
                                         'divided by its sum', choices=('softmax', 'sigmoid'))
    global_gate_norm: bool = option(True, 'BatchNorm before their tanh, as in the released code; not in the paper')
    combine: str = option('log_probs', "what the gates average: 'log_probs', as in the released code, 'logits' or "
                                       "'probs'; 'linear' is no average but one linear layer on all logits",
                          choices=('log_probs', 'logits', 'probs', 'linear'))
    regulariser: float = option(0.001, 'weight of the penalty on heads that attend to the same places', minimum=0)
    block_gradient: bool = option(False, 'keep the gradient of the modules away from the backbone')
    lr_mult: float = option(10.0, 'factor on the learning rate of modules, gates and classifier; 1 from scratch',
                            minimum=0)
    output_lr_mult: float = option(1.0, "further factor on that of the modules' output convolutions: they sum up nine "
                                        'times the inputs of a classifier, and Adam changes every weight alike',
                                   minimum=0)

    def __post_init__(self):
        if self.combine == 'linear' and (self.global_gate, self.global_gate_norm) != ('softmax', True):
            raise ValueError('combine: linear has no global gates; leave global_gate and global_gate_norm out')


class Method(Base):
    """NLL of the combined log-probabilities, plus the overlap of the masks.

    The network's scores, called s below, are what modules and classifier make together (:func:`combine`). With
    ``log_probs`` s = Σ g log p, and the class probability is softmax(s), the normalised geometric mean. Training
    follows the released code: the loss is -s of the true class, without the softmax, and thus at least the
    cross-entropy of that probability; the difference is what the outputs disagree on. For ``probs``, ``logits``
    and ``linear`` the loss is the cross-entropy.
    """

    def __init__(self, backbone, num_classes, options):
        self.options = options
        self.stages = _stages(backbone, options)
        self.train_net = Warn(backbone, num_classes, self.stages, options)
        self.net = FirstOutput(self.train_net)
        for child in self.train_net._children.values():
            if child is not backbone:
                child.initialize(HE, ctx=contexts_of(backbone))

    @property
    def outputs(self):
        gates = ['gates'] if self.train_net.gates else []
        return ('logits', *gates, *(f'masks of {stage}' for stage in self.stages))

    def phases(self, epochs):
        ours = r'((attend|rectify)_\w+|gates|classifier|projection)\..*'
        return [Phase('all', epochs, lr_mult={
            ours: self.options.lr_mult,
            r'attend_\w+\.output_weight': self.options.lr_mult * self.options.output_lr_mult})]

    def losses(self, outputs, labels, phase):
        scores = outputs['logits']
        if self.options.combine != 'log_probs':
            terms = {'cross_entropy': self.criterion(scores, labels)}
        elif labels.ndim == 1:
            terms = {'nll': -nd.pick(scores, labels, axis=-1)}
        else:
            terms = {'nll': -(scores * labels).sum(axis=-1)}
        if self.options.regulariser and self.options.width > 1:
            overlaps = [mask_overlap(outputs[f'masks of {stage}']) for stage in self.stages]
            terms['mask_overlap'] = self.options.regulariser * nd.add_n(*overlaps) / len(overlaps)
        return terms

    def explain(self, images):
        """Return the mask of each head, ``stage4 head 1`` and so on, and the gates of modules, classifier and heads."""
        with autograd.predict_mode():
            outputs = dict(zip(self.outputs, self.train_net(images)))
            heads = self.train_net.head_gates(images)
        maps = {f'{stage} {name}': values for stage in self.stages
                for name, values in _by_head(outputs[f'masks of {stage}']).items()}
        fractions = {stage: _by_head(gates) for stage, gates in zip(self.stages, heads)}
        if 'gates' in outputs:
            shares = {name: channel(nd, outputs['gates'], i) for i, name in enumerate([*self.stages, 'classifier'])}
            fractions = {'outputs': shares, **fractions}
        return Explanation(maps, fractions)


def _by_head(values):
    """Return dict of 'head 1' and so on → (N,…), of values (N,heads,…)."""
    return {f'head {head + 1}': channel(nd, values, head) for head in range(values.shape[1])}


def _stages(backbone, options):
    """Return the names of the stages with a module, last one first."""
    names = backbone.stage_names
    if options.stages is None:
        if options.depth > len(names):
            raise ConfigError(f'method.depth: {options.depth} is more than the {len(names)} stages of {backbone.name}')
        return names[::-1][:options.depth]
    for name in options.stages:
        if name not in names:
            raise ConfigError(f"method.stages: {backbone.name} has no stage '{name}'{did_you_mean(name, names)}")
    if not options.stages or len(set(options.stages)) < len(options.stages):
        raise ConfigError(f'method.stages: {list(options.stages)} is empty or names a stage twice')
    return tuple(name for name in names[::-1] if name in options.stages)


class Warn(HybridBlock):
    """A backbone with attention modules, a classifier and what combines their scores (Fig. 1 and 2b).

    A module stands on a map after its BN-ReLU. Where the backbone's is not (linear bottlenecks), it gets a BatchNorm
    and ReLU of its own, ``rectify_…``.

    :param stages: names of the stages with a module, last one first; that is also the order of the outputs.
    :param options: :class:`Options`.

    Inputs: images (N,3,H,W), normalised. Outputs: scores (N,K); where there are global gates, the gates (N,AD+1) of
    modules and classifier; the masks (N,AW,h,w) of each module.
    """

    def __init__(self, body, num_classes, stages, options, **kwargs):
        super().__init__(**kwargs)
        self._stages, self._options = stages, options
        with self.name_scope():
            self.body = body
            for stage in stages:
                number = body.stage_names.index(stage)
                channels = body.channels[number]
                setattr(self, f'rectify_{stage}', None if body.rectified[number] else BatchNormReLU(channels))
                setattr(self, f'attend_{stage}', AttendRectify(channels, num_classes, options.width, options.mask,
                                                               options.gates))
            self.classifier = nn.Dense(num_classes, in_units=body.pool_units)
            self.gates = self.projection = None
            if options.combine == 'linear':
                self.projection = nn.Dense(num_classes, in_units=num_classes * (len(stages) + 1))
            elif options.gates:
                self.gates = GlobalGates(body.channels[-1], len(stages) + 1, options.global_gate,
                                         options.global_gate_norm)

    def hybrid_forward(self, F, images):
        *_, last = maps = self.body.rectified_maps(images)
        attended = [module(features) for module, features in self._attending(F, maps)]
        outputs = [scores for scores, _ in attended] + [self.classifier(self.body.pool(last))]
        masks = [masks for _, masks in attended]
        if self.projection:
            return [self.projection(F.concat(*outputs, dim=1)), *masks]
        gates = self.gates(last) if self.gates else None
        scores = combine(F, outputs, gates, self._options.combine)
        return [scores, *([gates] if self.gates else []), *masks]

    def head_gates(self, images):
        """Return the gates (N,AW) of each module's heads, for images (N,3,H,W) as an NDArray."""
        return [module.gate_values(features)
                for module, features in self._attending(nd, self.body.rectified_maps(images))]

    def _attending(self, F, maps):
        """Yield each module and its feature map."""
        maps = dict(zip(self.body.stage_names, maps))
        for stage in self._stages:
            features = F.BlockGrad(maps[stage]) if self._options.block_gradient else maps[stage]
            rectify = getattr(self, f'rectify_{stage}')
            features = rectify(features) if rectify else features
            yield getattr(self, f'attend_{stage}'), features


def load_released(method, path):
    """Set all parameters of ``method`` from a state dict of the released code, by name.

    :param method: :class:`Method` on a ``warn_wideresnet…``, whose shortcuts are those of the released code, with as
        many classes, modules and heads as the file has; a torch or ``.params`` file.
    :raises ConfigError: on any other backbone.
    :raises WeightsError: if a parameter is missing, left over or of another shape; nothing is then changed.
    """
    net, body = method.train_net, method.train_net.body
    if not body.name.startswith('warn_wideresnet') or body.name.endswith('_base'):
        raise ConfigError(f"backbone.name: the released code's weights are for warn_wideresnet…, not '{body.name}'")
    names = {**wide_resnet.released_naming(body).parameters,
             'classifier.weight': net.classifier.weight, 'classifier.bias': net.classifier.bias}
    for stage in method.stages:
        module, prefix = getattr(net, f'attend_{stage}'), f'att{body.stage_names.index(stage)}'
        for ours, theirs in (('attention_weight', 'att_head'), ('output_weight', 'out_head'), ('gate_weight', 'score')):
            if ours in module._reg_params:
                names[f'{prefix}.{theirs}.conv.weight'] = getattr(module, ours)
    if net.gates:
        names['output_gate.gates.weight'] = net.gates.gates.weight
        if net.gates.norm:
            bn = net.gates.norm
            names.update({f'output_gate.bn.{theirs}': getattr(bn, ours) for ours, theirs in (
                ('gamma', 'weight'), ('beta', 'bias'), ('running_mean',) * 2, ('running_var',) * 2)})
    naming = Naming("WARN's released code", names, ('', ''), unused=r'.*\.num_batches_tracked|att\d\.att_head\.diag')
    loading.load_into(body, (naming,), path)

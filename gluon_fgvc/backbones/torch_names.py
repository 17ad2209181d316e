"""What torchvision and timm call the parameters of the networks that they share with the Gluon zoos.

GluonCV's ResNets of version b and later, and Gluon's VGGs, have torchvision's layers under torchvision's
names. The others have the same layers in the same order, so the names are listed in that order.
"""
import re
from dataclasses import replace

import numpy as np

from gluon_fgvc.backbones.base import IMAGENET_MEAN, IMAGENET_STD, Naming
from gluon_fgvc.errors import WeightsError

_LEAVES = {'gamma': 'weight', 'beta': 'bias'}  # of BatchNorm; all others agree
_COUNTERS = r'.*\.num_batches_tracked'         # BatchNorm's count of training batches

_DENSE_BLOCKS = {'121': (6, 12, 24, 16), '161': (6, 12, 36, 24), '169': (6, 12, 32, 32), '201': (6, 12, 48, 32)}
_FAMILIES = {}  # regex of names of backbones → function (name, known namings) → tuple of Naming


def namings(name, known):
    """Return the tuple of :class:`~gluon_fgvc.backbones.base.Naming` of torch files for the backbone ``name``.

    It is empty where torchvision and timm have no such network. Those of torchvision come first.

    :param known: namings of the backbone's other weight files, its own structural names first.
    """
    for pattern, family in _FAMILIES.items():
        if re.fullmatch(pattern, name):
            return family(name, known)
    return ()


def _family(pattern):
    def register(function):
        _FAMILIES[pattern] = function
        return function
    return register


def _layers(parameters):
    """Return dict of layer → dict of 'weight', 'bias', 'running_mean', … → parameter, in order of computation."""
    layers = {}
    for name, parameter in parameters.items():
        layer, _, leaf = name.rpartition('.')
        layers.setdefault(layer, {})[_LEAVES.get(leaf, leaf)] = parameter
    return layers


def _in_order(kind, names, layers, classifier, unused=(), **kwargs):
    """Return the :class:`Naming` that gives ``names`` to ``layers``, what :func:`_layers` gives for each."""
    if len(names) != len(layers):
        raise ValueError(f'{len(names)} names of {kind} for {len(layers)} layers')
    parameters = {f'{name}.{leaf}': parameter for name, leaves in zip(names, layers)
                  for leaf, parameter in leaves.items()}
    top = (f'{classifier}.weight', f'{classifier}.bias') if classifier else ('', '')
    return Naming(kind, parameters, top, unused='|'.join([_COUNTERS, *unused]), **kwargs)


def _builders(torchvision=None, timm=None, more=''):
    """Return ``Naming.builders`` of a network that is called so there; ``more`` are arguments of torchvision's."""
    found = {}
    if torchvision:
        found['torchvision'] = f'torchvision.models.{torchvision}(num_classes={{}}{more})'
    if timm:
        found['timm'] = f"timm.create_model('{timm}', num_classes={{}})"
    return found


def _zoo_parameters(known):
    return next(naming.parameters for naming in known if naming.kind == 'the zoo net')


# --- the zoo's own names -----------------------------------------------------------------------

@_family(r'resnet\d+_v1[bcds]|wide_resnet\d+_2')
def _resnet(name, known):
    layers = _layers(_zoo_parameters(known))
    timm = re.sub(r'_v1b?', '', name)  # resnet50_v1b is resnet50 there, and resnet50_v1d resnet50d
    kind, torchvision = ('timm', None) if name[-1] in 'cds' else ('torchvision and timm', timm)
    return (_in_order(kind, list(layers), list(layers.values()), 'fc', builders=_builders(torchvision, timm)),)


@_family(r'vgg\d+(_bn)?')
def _vgg(name, known):
    # fc6, fc7 and the classifier see the 7x7 positions; a backbone ends before them, in global pooling.
    layers = _layers(_zoo_parameters(known))
    return tuple(_in_order(kind, list(layers), list(layers.values()), None, [top])
                 for kind, top in (('torchvision', r'classifier\..*'), ('timm', r'(pre_logits|head)\..*')))


# --- names in order ----------------------------------------------------------------------------

def _backbone_layers(known):
    return [layer for name, layer in _layers(known[0].parameters).items() if name.split('.')[0] != 'pool']


@_family(r'densenet\d+')
def _densenet(name, known):
    names = ['conv0', 'norm0']
    for block, count in enumerate(_DENSE_BLOCKS[name[len('densenet'):]], 1):
        for layer in range(1, count + 1):
            names += [f'denseblock{block}.denselayer{layer}.{part}' for part in ('norm1', 'conv1', 'norm2', 'conv2')]
        names += [f'transition{block}.norm', f'transition{block}.conv'] if block < 4 else ['norm5']
    naming = _in_order('torchvision and timm', [f'features.{layer}' for layer in names], _backbone_layers(known),
                       'classifier', builders=_builders(name, name))
    # The files that torchvision offers were written before a layer's name could not hold a dot.
    dotted = {re.sub(r'(layer\d+\.[a-z]+)([12])\.', r'\1.\2.', name): parameter
              for name, parameter in naming.parameters.items()}
    return naming, replace(naming, kind="torchvision's published DenseNets", parameters=dotted)


_A = ('1x1', '5x5_1', '5x5_2', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3', '_pool')
_B = ('3x3', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3')
_C = ('1x1', '7x7_1', '7x7_2', '7x7_3', *(f'7x7dbl_{number}' for number in range(1, 6)), '_pool')
_D = ('3x3_1', '3x3_2', *(f'7x7x3_{number}' for number in range(1, 5)))
_E = ('1x1', '3x3_1', '3x3_2a', '3x3_2b', '3x3dbl_1', '3x3dbl_2', '3x3dbl_3a', '3x3dbl_3b', '_pool')
_MIXED = {'5b': _A, '5c': _A, '5d': _A, '6a': _B, '6b': _C, '6c': _C, '6d': _C, '6e': _C, '7a': _D, '7b': _E, '7c': _E}


@_family('inceptionv3')
def _inception(name, known):
    units = [f'Conv2d_{name}' for name in ('1a_3x3', '2a_3x3', '2b_3x3', '3b_1x1', '4a_3x3')]
    units += [f'Mixed_{mixed}.branch{branch}' for mixed, branches in _MIXED.items() for branch in branches]
    names = [f'{unit}.{part}' for unit in units for part in ('conv', 'bn')]
    return (_in_order('torchvision and timm', names, _backbone_layers(known), 'fc', [r'AuxLogits\..*'],
                      decode=_from_half_scale, encode=_to_half_scale,
                      builders=_builders('inception_v3', None, ', aux_logits=False, transform_input=True')),)


def _from_half_scale(arrays):
    """Move the input's scale into the first layer: from (pixel - 0.5) / 0.5 to ImageNet's mean and deviation.

    The published weights were trained on images from -1 to 1, which torchvision's ``transform_input`` makes of
    normalised ones. That convolution has neither padding nor bias and BatchNorm follows, so this is exact.
    """
    return _rescale_input(arrays, np.array(IMAGENET_STD) / 0.5, (np.array(IMAGENET_MEAN) - 0.5) / 0.5)


def _to_half_scale(arrays):
    """The inverse of :func:`_from_half_scale`."""
    return _rescale_input(arrays, 0.5 / np.array(IMAGENET_STD), (0.5 - np.array(IMAGENET_MEAN)) / IMAGENET_STD)


def _rescale_input(arrays, scale, shift):
    """Make the first layer do for x what it did for ``scale * x + shift``, each (3,)."""
    weight, mean = 'Conv2d_1a_3x3.conv.weight', 'Conv2d_1a_3x3.bn.running_mean'
    if not {weight, mean} <= arrays.keys():
        raise WeightsError(f"without '{weight}' and '{mean}' the scale of the input cannot be converted")
    old = arrays[weight].astype('float64')  # (32,3,3,3)
    return {**arrays, weight: (old * scale.reshape(1, 3, 1, 1)).astype('float32'),
            mean: (arrays[mean] - old.sum((2, 3)) @ shift).astype('float32')}


# --- inverted residuals ------------------------------------------------------------------------

@_family(r'efficientnet_lite\d')
def _efficientnet_lite(name, known):
    layers = _backbone_layers(known)
    return (_in_order('timm', _timm_mobile(layers), layers, 'classifier', builders=_builders(None, f'tf_{name}')),)


@_family(r'mobilenetv2_.*')
def _mobilenet_v2(name, known):
    layers = _backbone_layers(known)
    torchvision, expansions = ['features.0.0', 'features.0.1'], _expansions(layers)
    for block, expands in enumerate(expansions, 1):
        parts = ('0.0', '0.1', '1.0', '1.1', '2', '3') if expands else ('0.0', '0.1', '1', '2')
        torchvision += [f'features.{block}.conv.{part}' for part in parts]
    torchvision += [f'features.{len(expansions) + 1}.{part}' for part in (0, 1)]
    whole = name.endswith('_1.0')  # narrower ones have widths that torch rounds to other numbers
    return (_in_order('torchvision', torchvision, layers, 'classifier.1',
                      builders=_builders('mobilenet_v2') if whole else {}),
            _in_order('timm', _timm_mobile(layers), layers, 'classifier',
                      builders=_builders(None, 'mobilenetv2_100') if whole else {}))


def _timm_mobile(layers):
    """Return timm's names of ``layers``: stages of blocks; a stage begins where the number of channels changes."""
    names, stage, index, channels = ['conv_stem', 'bn1'], -1, 0, None
    at = 2
    for expands in _expansions(layers):
        parts = (('conv_pw', 'bn1', 'conv_dw', 'bn2', 'conv_pwl', 'bn3') if expands else
                 ('conv_dw', 'bn1', 'conv_pw', 'bn2'))
        at += len(parts)
        projected = layers[at - 2]['weight'].shape[0]
        stage, index = (stage, index + 1) if projected == channels else (stage + 1, 0)
        channels = projected
        names += [f'blocks.{stage}.{index}.{part}' for part in parts]
    return [*names, 'conv_head', 'bn2']


def _expansions(layers):
    """Return for each inverted residual between the first and the last convolution whether it expands its input."""
    convolutions = [layer['weight'].shape for layer in layers[2:-2:2]]
    found, at = [], 0
    while at < len(convolutions):
        depthwise = convolutions[at][1] == 1
        found.append(not depthwise)
        at += 2 if depthwise else 3
    return found

"""Channel plans: backbones with fewer channels than their name says, e.g. after pruning.

A plan is a JSON file ``{"backbone": NAME, "widths": {"stage1.0.conv1": 40, …}, …}``: the number of output channels of
some convolutions, by structural name. Everything else (inputs of the layers that follow, BatchNorm) follows from the
graph, so a plan cannot contradict itself without being noticed.
"""
import json
from pathlib import Path

from mxnet import MXNetError
from mxnet.gluon import nn

from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.nn.parameters import walk


def read_plan(path, backbone):
    """Return dict of convolution → number of output channels of the plan ``path``, made for ``backbone`` (a name).

    :raises ConfigError: if it cannot be read, is no plan, or is one of another backbone.
    """
    try:
        plan = json.loads(Path(path).read_text('utf-8'))
        made_for, widths = plan['backbone'], dict(plan['widths'])
    except OSError as error:
        raise ConfigError(f"backbone.widths: cannot read '{path}': {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigError(f"backbone.widths: '{path}' is not a channel plan, as fgvc prune writes them") from None
    if made_for != backbone:
        raise ConfigError(f"backbone.widths: '{path}' is a plan for '{made_for}', not for '{backbone}'")
    return widths


def set_widths(backbone, widths):
    """Give convolutions of ``backbone``, which has no parameters yet, other numbers of output channels.

    :param backbone: a :class:`~gluon_fgvc.backbones.base.Backbone`, not initialised and not hybridized.
    :param widths: dict of structural name → number; the depthwise convolutions among them are named as well.
    :raises ConfigError: if there is no such convolution, a number is not from 1 to what it has, or the numbers do not
        fit together.
    """
    layers = _layers(backbone)
    convolutions = {name: layer for name, layer in layers.items() if isinstance(layer, nn.Conv2D)}
    for name, width in widths.items():
        if name not in convolutions:
            raise ConfigError(f"backbone.widths: '{backbone.name}' has no convolution '{name}'"
                              f'{did_you_mean(name, list(convolutions))}')
        settings = convolutions[name]._kwargs
        if not isinstance(width, int) or isinstance(width, bool) or not 1 <= width <= settings['num_filter']:
            raise ConfigError(f"backbone.widths: {width!r} channels for '{name}' must be a whole number from 1 to "
                              f"{settings['num_filter']}")
        if settings['num_group'] == settings['num_filter']:
            settings['num_group'] = width
        settings['num_filter'] = convolutions[name]._channels = width
    for layer in layers.values():
        for parameter in layer._reg_params.values():
            _forget_shape(parameter)
    try:
        backbone.infer_shapes()
    except MXNetError as error:
        raise ConfigError(f"backbone.widths: the numbers of channels do not fit together in '{backbone.name}': "
                          f'{str(error).splitlines()[-1].strip()}') from None
    for _, layer in walk(backbone.pool):
        if isinstance(layer, nn.Dense):  # on the averaged last map
            _forget_shape(layer.weight)
            layer.weight.shape = layer._units, backbone.channels[-1]


def _forget_shape(parameter):
    # It is held twice, the second time in the variable that graphs are made with.
    parameter._shape, parameter._var = (0,) * len(parameter.shape), None


def _layers(block):
    """Return dict of structural name → convolution or BatchNorm."""
    return {path: child for path, child in walk(block) if isinstance(child, (nn.Conv2D, nn.BatchNorm))}

"""Pretrained networks without their classifiers, all seen through :class:`Backbone`."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

from dataclasses import replace

import mxnet as mx

from gluon_fgvc.backbones import (
    cluttered_cnn,
    efficientnet_lite,
    loading,
    surgery,
    torch_names,
    wide_resnet,
    widths,
    zoo,
)
from gluon_fgvc.backbones.base import Backbone
from gluon_fgvc.backbones.widths import read_plan
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.nn.held_statistics import hold_statistics
from gluon_fgvc.nn.parameters import walk

__all__ = ['Backbone', 'available', 'build', 'get', 'hold_pretrained_statistics', 'read_plan', 'twin']

_MODULES = cluttered_cnn, efficientnet_lite, wide_resnet, zoo
_BUILDERS = {name: module.build for module in _MODULES for name in module.NAMES}


def available():
    """Return the sorted names that :func:`get` takes."""
    return sorted(_BUILDERS)


def check_name(name):
    """Raise the :class:`ConfigError` of a backbone that there is not, with the nearest that there is."""
    if name not in _BUILDERS:
        raise ConfigError(f"backbone.name: unknown backbone '{name}'{did_you_mean(name, available())}")


def check_weights(source):
    """Raise the :class:`WeightsError` of weights that are to be in a file which is not there; fetch nothing."""
    if source != 'none':
        loading.check_file(source)


def build(name, global_pool='gap', output_stride=None, dilate=True, plan=None, dropout=0.0):
    """Return the :class:`Backbone` ``name`` as :func:`get` does, but with the shapes of its parameters only."""
    check_name(name)
    backbone, namings = _BUILDERS[name](name, global_pool)
    if plan is not None:
        widths.set_widths(backbone, read_plan(plan, name))
    if dropout:
        wide_resnet.set_dropout(backbone, dropout)
    if output_stride is not None:
        surgery.set_output_stride(backbone, output_stride, dilate)
    imported = replace(namings[0], kind='an imported file', classifier=loading.IMPORTED_CLASSIFIER, imagenet=True)
    backbone.built_as = name, global_pool, output_stride, dilate, plan, dropout
    backbone.namings = (*namings, imported, *torch_names.namings(name, namings))
    return backbone


def get(name, weights='none', global_pool='gap', ctx=mx.cpu(), root=None, output_stride=None, dilate=True,
        plan=None, dropout=0.0):
    """Return the :class:`Backbone` ``name`` on ``ctx``, with parameters.

    :param weights: 'none' draws them from MXNet's random stream (He's initialisation, but for layers that
        bring their own); 'zoo' fetches those of the model zoo; 'package:efficientnet-lite0' (1, 2) takes those of
        an installed package; else the path of a ``.params``, torch or safetensors file in the naming of the zoo
        net, of torchvision or timm (:mod:`gluon_fgvc.backbones.torch_names`), of the backbone, or of a
        method's net.
    :param global_pool: how the last map becomes a vector, see :class:`Backbone`.
    :param ctx: context or list of contexts.
    :param root: folder that keeps fetched files instead of the user's cache.
    :param output_stride: None or the stride, 8 or 16, that the last map is to have instead of 32; the weights
        stay what they are, see :mod:`gluon_fgvc.backbones.surgery`.
    :param dilate: whether the convolutions behind a stride that is gone are spread as far as it used to.
    :param plan: None, or the path of a channel plan: some layers then have fewer channels than the name says, see
        :mod:`gluon_fgvc.backbones.widths`.
    :param dropout: the share of values dropped within the blocks of WARN's wide ResNets, in training.
    :raises ConfigError: if there is no such backbone, no such weights of it, or if its stride cannot be changed.
    :raises WeightsError: if the weights cannot be had or do not fit; nothing is loaded in part.
    """
    backbone = build(name, global_pool, output_stride, dilate, plan, dropout)
    path = None if weights == 'none' else loading.locate(name, weights, root)
    backbone.initialize(mx.init.Xavier(rnd_type='gaussian', factor_type='in', magnitude=2), ctx=ctx)
    if path:
        loading.load_into(backbone, backbone.namings, path)
        backbone.pretrained = True
    return backbone


def hold_pretrained_statistics(net):
    """Keep the running statistics of every :class:`Backbone` within ``net`` that got weights, in all phases."""
    for _, block in walk(net):
        if isinstance(block, Backbone) and block.pretrained:
            hold_statistics(block)


def twin(backbone):
    """Return another backbone like ``backbone``, on the same contexts, whose own parameters have the same values.

    Built inside the name scope of a block, the names of its parameters differ in their prefix.
    """
    other = build(*backbone.built_as)
    own, values = other._collect_params_with_prefix(), backbone._collect_params_with_prefix()
    other.initialize(ctx=next(iter(values.values())).list_ctx())
    for name, parameter in own.items():
        parameter.set_data(values[name].data(parameter.list_ctx()[0]))
    other.source_classifier, other.pretrained = backbone.source_classifier, backbone.pretrained
    return other

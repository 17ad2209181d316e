"""Weights of a backbone from torch files into Gluon's, and back under torch's names."""
from gluon_fgvc import weights as weight_files
from gluon_fgvc.backbones.loading import IMPORTED_CLASSIFIER
from gluon_fgvc.choices import TORCH  # words that the kinds of their namings hold
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.nn import Classifier
from gluon_fgvc.nn.parameters import copies, to_numpy


def namings_of(backbone, naming='auto'):
    """Return the tuple of ``backbone.namings`` that are called ``naming``, one of :data:`TORCH`; 'auto': all.

    :raises ConfigError: if the backbone has no names of this kind.
    """
    if naming not in ('auto', *TORCH):
        raise ConfigError(f"unknown naming '{naming}'{did_you_mean(naming, ('auto', *TORCH))}")
    chosen = tuple(candidate for candidate in backbone.namings if naming == 'auto' or naming in candidate.kind)
    if not chosen:
        raise ConfigError(f"backbone '{backbone.name}' has no names of {naming} "
                          f"(it has: {', '.join(_torch_kinds(backbone)) or 'none of torch'})")
    return chosen


def _torch_kinds(backbone):
    return [word for word in TORCH if any(word in candidate.kind for candidate in backbone.namings)]


def to_params(backbone):
    """Return the parameters of ``backbone`` and its ``source_classifier`` as the bytes of a ``.params`` file.

    The names are the backbone's own: ``backbone.weights`` of a configuration and ``load_parameters`` of a
    :class:`~gluon_fgvc.backbones.Backbone` (with ``ignore_extra``) take them.
    """
    arrays = copies(backbone.naming().parameters)
    if backbone.source_classifier:
        arrays.update(zip(IMPORTED_CLASSIFIER, backbone.source_classifier))  # without the names of classes
    return weight_files.dump_params(arrays)


def plain_backbone(net, what):
    """Return the backbone of a plain classification network, with its classifier as ``source_classifier``.

    :param net: what a method deploys.
    :param what: the network in words, for messages.
    :raises ConfigError: if it is anything but what torchvision and timm build.
    """
    remedy = 'fgvc export --format onnx takes every network along'
    if type(net) is not Classifier:
        raise ConfigError(f'{what} has layers besides backbone and classifier, which neither torchvision nor timm has; '
                          f'--allow-partial leaves them out, {remedy}')
    _, global_pool, output_stride, _, plan, _ = net.body.built_as
    changes = [words for words, made in ((f'backbone.global_pool {global_pool}', global_pool != 'gap'),
                                         (f'backbone.output_stride {output_stride}', output_stride is not None),
                                         ('pruned channels (backbone.widths)', plan is not None)) if made]
    if changes:
        raise ConfigError(f'{what} has {changes[0]}, which the networks of torchvision and timm have not; {remedy}')
    torch = [naming for naming in net.body.namings if any(word in naming.kind for word in TORCH)]
    if torch and not any(naming.builders for naming in torch):
        raise ConfigError(f'{what}: neither torchvision nor timm builds {net.body.built_as[0]} of these widths with '
                          f'one layer behind the average; --allow-partial writes what has a name there, {remedy}')
    classifier = to_numpy(net.classifier)
    net.body.source_classifier = classifier['weight'], classifier['bias'], None
    return net.body


def loader(backbone, naming, path):
    """Return three lines of Python that load the file ``path`` of :func:`to_safetensors`, or None if there are none.

    :param naming: the same as there.
    """
    chosen = _chosen(backbone, naming)
    library = naming if naming in chosen.builders else next(iter(chosen.builders), None)
    if library is None or not backbone.source_classifier:
        return None
    return (f'import safetensors.torch, {library}\n'
            f'net = {chosen.builders[library].format(len(backbone.source_classifier[0]))}.eval()\n'
            f'net.load_state_dict(safetensors.torch.load_file({str(path)!r}))')


def to_safetensors(backbone, naming='auto'):
    """Return the parameters of ``backbone`` and its ``source_classifier`` under torch's names, as safetensors.

    :param naming: one of :data:`TORCH`; 'auto' is torchvision's, or timm's where torchvision has no such network.
    :returns: (bytes of the file, kind of its names).
    :raises ConfigError: if the backbone has no names of this kind.
    """
    chosen = _chosen(backbone, naming)
    arrays = chosen.encode(copies(chosen.parameters))
    if backbone.source_classifier and chosen.classifier[0]:
        arrays.update(zip(chosen.classifier, backbone.source_classifier))
    return weight_files.dump_safetensors(arrays), chosen.kind


def _chosen(backbone, naming):
    kinds = _torch_kinds(backbone)
    if naming == 'auto' and not kinds:
        raise ConfigError(f"neither torchvision nor timm has a network like backbone '{backbone.name}'")
    return namings_of(backbone, kinds[0] if naming == 'auto' else naming)[0]

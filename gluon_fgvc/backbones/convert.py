"""Weights of a backbone from torch files into Gluon's, and back under torch's names."""
from gluon_fgvc import weights as weight_files
from gluon_fgvc.backbones.loading import IMPORTED_CLASSIFIER
from gluon_fgvc.choices import TORCH  # words that the kinds of their namings hold
from gluon_fgvc.errors import ConfigError, did_you_mean


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
    arrays = {name: parameter.data().asnumpy() for name, parameter in backbone.naming().parameters.items()}
    if backbone.source_classifier:
        arrays.update(zip(IMPORTED_CLASSIFIER, backbone.source_classifier))  # without the names of classes
    return weight_files.dump_params(arrays)


def to_safetensors(backbone, naming='auto'):
    """Return the parameters of ``backbone`` and its ``source_classifier`` under torch's names, as safetensors.

    :param naming: one of :data:`TORCH`; 'auto' is torchvision's, or timm's where torchvision has no such network.
    :returns: (bytes of the file, kind of its names).
    :raises ConfigError: if the backbone has no names of this kind.
    """
    kinds = _torch_kinds(backbone)
    if naming == 'auto' and not kinds:
        raise ConfigError(f"neither torchvision nor timm has a network like backbone '{backbone.name}'")
    chosen = namings_of(backbone, kinds[0] if naming == 'auto' else naming)[0]
    arrays = chosen.encode({name: parameter.data().asnumpy() for name, parameter in chosen.parameters.items()})
    if backbone.source_classifier and chosen.classifier[0]:
        arrays.update(zip(chosen.classifier, backbone.source_classifier))
    return weight_files.dump_safetensors(arrays), chosen.kind

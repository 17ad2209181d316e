"""A network becomes files that any MXNet program runs, and is proved to be the same network.

The graph is what ``net`` does outside training, its parameters carry structural names
(``body.stage1.0.conv1.weight``), and exporting a network again gives the same bytes. For the files
and how to read them see :mod:`gluon_fgvc.deploy.predictor`.
"""
import json
import os
import re
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Mapping, Optional

import mxnet as mx
import numpy as np

import gluon_fgvc
from gluon_fgvc.deploy import single_file
from gluon_fgvc.deploy.engines import proof_images
from gluon_fgvc.deploy.metadata import INPUT, METADATA, PARAMETERS, SYMBOL, Metadata
from gluon_fgvc.deploy.single_file import PREDICTOR
from gluon_fgvc.deploy.symbol import load_exported, operators
from gluon_fgvc.errors import CheckFailed, CheckpointError
from gluon_fgvc.files import hash_of_file, write_atomically
from gluon_fgvc.nn import Normalize
from gluon_fgvc.nn.parameters import contexts_of

_PYTHON = re.compile(r'Custom|_CustomFunction|_Native|_NDArray|_npi_Custom')
_RANDOM = re.compile(r'_?(random|sample)_(?!pdf).*|_?shuffle|normal|uniform|(_npx_)?_image_random_.*|'
                     r'_npi_(random|shuffle|bernoulli|choice|gumbel|multinomial|normal|uniform|exponential|gamma).*')

# Largest absolute difference between the network and the files read back, over random and real images, in the scores
# (unless baked away) and in their softmax.
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Exported:
    """What :func:`export` wrote and measured."""

    folder: str
    files: Mapping[str, Mapping]         # name → {'bytes': …, 'sha256': …}
    random_difference: float             # on random images
    image_difference: Optional[float]    # on real images; None where there were none
    images: int                          # how many real images

    @property
    def difference(self):
        """The larger of the two."""
        return max(self.random_difference, self.image_difference or 0.0)


def export(net, folder, *, classes, eval_view, input_size, mean, std, method, source=None,
           temperature=None, bake_preprocessing=False, bake_softmax=False, images=(), overwrite=False):
    """Write ``net`` into ``folder``, after proving that what was written computes the same.

    :param net: HybridBlock, normalised images (N,3,H,W) → scores (N,K).
    :param classes: K names.
    :param eval_view: :class:`gluon_fgvc.config.EvalView`, how an image is prepared.
    :param input_size: (height, width) in pixels of the images of the check.
    :param mean, std: three numbers each, RGB on [0, 1].
    :param method: name of the method.
    :param source: dict kept in the metadata: where the network comes from.
    :param temperature: what the graph divides the scores by, so that its softmax is calibrated; None leaves them.
    :param bake_preprocessing: the graph takes pixels (N,H,W,3), uint8 or float32, 0 to 255, and
        normalises them itself; without, it takes normalised images (N,3,H,W) float32.
    :param bake_softmax: the graph returns probabilities; without, scores.
    :param images: real images to compare on, each numpy uint8 RGB (H,W,3), prepared by the test view.
    :param overwrite: replace an exported model in ``folder``. Other files there are left alone.
    :returns: :class:`Exported`.
    :raises CheckFailed: the files compute something else (``TOLERANCE``), or the graph holds operators that need Python
        or draw random numbers outside training; ``folder`` is then as it was.
    :raises CheckpointError: ``folder`` holds an exported model and ``overwrite`` is false.
    """
    if os.path.exists(os.path.join(folder, METADATA)) and not overwrite:
        raise CheckpointError(f"'{folder}' already holds an exported model; --overwrite replaces it")
    ctx = contexts_of(net)[0]
    normalize = Normalize(mean, std, prefix='normalize_')
    normalize.collect_params().reset_ctx(ctx)
    height, width = input_size
    # In prediction oneDNN reorders weights in place: whatever still runs on them must have ended.
    mx.nd.waitall()
    # Deferred shapes need one forward pass before the parameters can be written.
    scores = net(normalize(mx.nd.zeros((1, height, width, 3), ctx=ctx)))
    if scores.shape != (1, len(classes)):
        raise CheckFailed(f'the network returns {scores.shape} for one image, expected (1, {len(classes)}): '
                          'one score for each class')

    metadata = Metadata(
        classes=tuple(classes), size=(height, width), mean=tuple(map(float, mean)), std=tuple(map(float, std)),
        view=eval_view, takes_pixels=bake_preprocessing, output='probabilities' if bake_softmax else 'logits',
        temperature=temperature, method=method, source=dict(source or {}),
        versions={'gluon_fgvc': gluon_fgvc.__version__, 'mxnet': mx.__version__, 'numpy': np.__version__})
    symbol, parameters = _trace(net, normalize, metadata)
    metadata = replace(metadata, flexible=_is_flexible(symbol, parameters, metadata),
                       proof=_proof(net, normalize, metadata))

    parent = os.path.dirname(os.path.abspath(folder))
    os.makedirs(parent, exist_ok=True)
    draft = tempfile.mkdtemp(dir=parent, prefix='.export-')
    try:
        with _unwritten(folder, draft):
            metadata = _write(draft, symbol, parameters, metadata)
            single_file.write(draft)
            graph = load_exported(draft, ctx)[1]  # a full disk can go unnoticed when MXNet writes
        on_random, on_images = _compare(net, normalize, graph, metadata, images)
        exported = Exported(str(folder), metadata.files, on_random, max(on_images, default=None), len(on_images))
        if exported.difference > TOLERANCE:
            raise CheckFailed(f'the exported graph differs from the network by {exported.difference:.3g}, the largest '
                              f'over random and {len(on_images)} real images; allowed is {TOLERANCE:g}; '
                              f"nothing was written to '{folder}'")
        with _unwritten(folder, draft):
            _move(draft, folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return exported


def _calibrated(scores, temperature):
    return scores if temperature is None else scores / temperature


def _trace(net, normalize, metadata):
    """Return the graph as JSON text and its parameters, dict of 'arg:…' or 'aux:…' → NDArray."""
    data = mx.sym.var(INPUT)
    output = _calibrated(net(normalize(data) if metadata.takes_pixels else data), metadata.temperature)
    if metadata.output == 'probabilities':
        output = mx.sym.softmax(output, axis=-1, name='probabilities')
    named = {p.name: (p.name, p) for p in net.collect_params().values()}  # name in the graph → name in the files, value
    for prefix, block in [('', net)] + [('normalize.', normalize)] * metadata.takes_pixels:
        named.update({p.name: (prefix + name, p) for name, p in block._collect_params_with_prefix().items()})

    graph = json.loads(output.tojson())
    for operator, name, attributes in operators(graph):
        if _PYTHON.fullmatch(operator):
            raise CheckFailed(f"operator {operator} ('{name}') needs Python code and cannot be exported")
        always_drops = operator in ('Dropout', '_npx_dropout') and attributes.get('mode') == 'always'
        if always_drops or _RANDOM.fullmatch(operator):
            raise CheckFailed(f"operator {operator} ('{name}') draws random numbers; the deployed network must not")
    for node in graph['nodes']:
        for entry in node['inputs']:
            entry[2] = 0  # counts how often the network was traced
        if node['op'] == 'null':
            node['name'] = named[node['name']][0] if node['name'] in named else node['name']
            # Initialiser, rates and the like belong to training; that of a constant holds a memory address.
            node['attrs'] = {k: v for k, v in node.get('attrs', {}).items()
                             if k not in ('__init__', '__lr_mult__', '__wd_mult__')}

    auxiliary = set(output.list_auxiliary_states())
    parameters = {}
    for name in output.list_inputs():
        if name != INPUT:
            parameters[('aux:' if name in auxiliary else 'arg:') + named[name][0]] = named[name][1]._reduce()
    return json.dumps(graph, indent=1), parameters


def _is_flexible(symbol, parameters, metadata):
    """Whether the graph accepts images of another size than ``metadata.size`` with the same parameters."""
    shapes = {name.split(':', 1)[1]: value.shape for name, value in parameters.items()}
    height, width = metadata.size
    shapes[metadata.input_name] = metadata.shape(1, height + 32, width + 64)
    try:
        mx.sym.load_json(symbol).infer_shape(**shapes)
    except mx.MXNetError:
        return False
    return True


def _proof(net, normalize, metadata):
    """Return what the network returns for two images, by which a :class:`Predictor` judges what runs it."""
    pixels = mx.nd.array(proof_images(metadata.size), ctx=contexts_of(net)[0], dtype='uint8')
    output = _calibrated(net(normalize(pixels)), metadata.temperature)
    if metadata.output == 'probabilities':
        output = mx.nd.softmax(output)
    return tuple(tuple(float(f'{value:.8g}') for value in row) for row in output.asnumpy())


def _write(folder, symbol, parameters, metadata):
    """Write the three files and return ``metadata`` with the sizes and sha256 of the first two."""
    write_atomically(os.path.join(folder, SYMBOL), symbol + '\n')
    mx.nd.save(os.path.join(folder, PARAMETERS), parameters)
    paths = {name: os.path.join(folder, name) for name in (SYMBOL, PARAMETERS)}
    metadata = replace(metadata, files={name: {'bytes': os.path.getsize(path), 'sha256': hash_of_file(path)}
                                        for name, path in paths.items()})
    metadata.write(folder)
    return metadata


@contextmanager
def _unwritten(folder, draft):
    """Say in one line that ``draft`` could not be written, read back or moved to ``folder``."""
    try:
        yield
    except (OSError, mx.MXNetError, CheckpointError) as error:
        reason = getattr(error, 'strerror', None) or str(error).strip().splitlines()[-1]
        free = shutil.disk_usage(draft).free >> 20
        raise CheckpointError(f"cannot export to '{folder}': it cannot be written or does not read back ({free} MiB "
                              f'free on the disk): {reason}') from None


def _compare(net, normalize, graph, metadata, images):
    """Return how far ``graph`` is from ``net``: the largest on random images, and one number for each of ``images``."""
    ctx = contexts_of(net)[0]

    def difference(pixels):
        scores = _calibrated(net(normalize(pixels)), metadata.temperature)
        found = graph(pixels if metadata.takes_pixels else normalize(pixels))
        if metadata.output == 'probabilities':
            return _largest_difference(mx.nd.softmax(scores), found)
        return max(_largest_difference(scores, found), _largest_difference(mx.nd.softmax(scores), mx.nd.softmax(found)))

    height, width = metadata.size
    # Another batch size than the one traced and, where the graph allows it, another image size.
    shapes = [(2, height, width, 3)] + [(1, height + 32, width + 64, 3)] * metadata.flexible
    rng = np.random.RandomState(0)
    return (max(difference(mx.nd.array(rng.uniform(0, 255, shape), ctx=ctx)) for shape in shapes),
            [difference(mx.nd.array(image[np.newaxis], ctx=ctx, dtype='uint8')) for image in images])


def _largest_difference(expected, found):
    if expected.shape != found.shape:
        return float('inf')
    difference = np.abs(expected.asnumpy().astype('float64') - found.asnumpy())
    return float(difference.max()) if np.isfinite(difference).all() else float('inf')


def _move(draft, folder):
    """Move the files of ``draft`` into ``folder``; the metadata leave first and arrive last.

    An interrupted replacement is thus no exported model, never a mixture of two.
    """
    names = (SYMBOL, PARAMETERS, PREDICTOR, METADATA)
    for name in names:  # what can fail comes before anything is replaced
        with open(os.path.join(draft, name), 'rb') as stream:
            os.fsync(stream.fileno())
    os.makedirs(folder, exist_ok=True)
    if os.path.exists(os.path.join(folder, METADATA)):
        os.remove(os.path.join(folder, METADATA))
    for name in names:
        os.replace(os.path.join(draft, name), os.path.join(folder, name))

"""The files in which an exported model leaves besides its symbol, and how each is run.

Every format is made from the exported symbol, which was proved to be the network, and compared with it before its file
takes its place; ``model.json`` then lists the file with its SHA-256 and what was measured.
"""
import os
from dataclasses import replace

import numpy as np

from gluon_fgvc.choices import FORMATS
from gluon_fgvc.deploy.bfloat16 import in_bfloat16
from gluon_fgvc.deploy.engines import FusedEngine, MXNetEngine, NotUsable, probabilities
from gluon_fgvc.deploy.metadata import SYMBOL as SYMBOL_FILE
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.deploy.onnx.runtime import OnnxModel, require
from gluon_fgvc.deploy.symbol import check_files, check_graph
from gluon_fgvc.errors import CheckFailed
from gluon_fgvc.files import hash_of_file, remove, write_atomically
from gluon_fgvc.machine import processor

SYMBOL = 'symbol'  # the format that every export has
CERTIFICATE, CERTIFICATE_PAGE = 'certificate.json', 'certificate.html'
FILES = {'onnx': 'model.onnx', 'float16': 'model-float16.onnx', 'int8': 'model-int8.onnx',
         'bfloat16': 'model-bfloat16-symbol.json'}
# Largest difference of a probability on real images. On noise, where sampling by attention (TASN) makes much of
# rounding, it only has to be below what a wrong operator makes.
TOLERANCE = {'onnx': 1e-4, 'float16': 1e-2, 'bfloat16': 0.2}
ON_NOISE = {'onnx': 2e-2, 'float16': 2e-2, 'bfloat16': 0.4}


class SymbolModel:
    """An exported symbol run by MXNet; called with pixels it returns probabilities.

    :param text: JSON of another symbol on the same parameters; it is not fused.
    :param fuse: have oneDNN fuse operators, where that can be.
    """

    def __init__(self, folder, text=None, fuse=False):
        self._metadata = Metadata.read(folder)
        self._engine = self._fused(folder) if fuse else MXNetEngine(folder, self._metadata, text=text)

    def _fused(self, folder):
        try:
            return FusedEngine(folder, self._metadata)
        except NotUsable:
            return MXNetEngine(folder, self._metadata)

    def __call__(self, pixels):
        return probabilities(self._engine(pixels), self._metadata)


def open_format(folder, name, fuse=True):
    """Return a callable, pixels uint8 (N,H,W,3) → probabilities (N,K), of one format of an export.

    :raises CheckpointError: for a missing, truncated, altered or foreign file.
    """
    if name == SYMBOL:
        return SymbolModel(folder, fuse=fuse)
    metadata = Metadata.read(folder)
    check_files(folder, metadata, [FILES[name]])
    if name == 'bfloat16':
        with open(os.path.join(folder, FILES[name]), encoding='utf-8') as stream:
            text = stream.read()
        check_graph(text, FILES[name])
        return SymbolModel(folder, text)
    require()
    return OnnxModel(os.path.join(folder, FILES[name]), metadata)


def written(folder):
    """Return the names of the formats of an export, the symbol first."""
    files = Metadata.read(folder).files
    return [SYMBOL, *(name for name in FORMATS if FILES.get(name) in files)]


def save(folder, name, model, facts):
    """Write a ModelProto, or text, as format ``name`` and enter it with ``facts``, a dict, in ``model.json``."""
    path = os.path.join(folder, FILES[name])
    write_atomically(path, model if isinstance(model, str) else model.SerializeToString(deterministic=True))
    metadata = Metadata.read(folder)
    entry = {'bytes': os.path.getsize(path), 'sha256': hash_of_file(path), 'format': name, **facts}
    replace(metadata, files={**metadata.files, FILES[name]: entry}).write(folder)
    return entry


def forget(folder):
    """Remove what belongs to an export that was replaced: formats that ``model.json`` does not list, certificate."""
    files = Metadata.read(folder).files
    for file in (*FILES.values(), CERTIFICATE, CERTIFICATE_PAGE):
        if file not in files:
            remove(os.path.join(folder, file))


def write(folder, images, names):
    """Write the formats ``names``, of all but int8, after a comparison with the symbol.

    :param images: real images, uint8 RGB (H,W,3), prepared by the test view.
    :returns: dict of name → entry in ``model.json``: bytes, sha256, format, and the largest difference of a probability
        on the images and on noise.
    :raises CheckFailed: if a probability differs by more than ``TOLERANCE``, an operator has no translation, or this
        processor has no bfloat16.
    """
    metadata, symbol = Metadata.read(folder), SymbolModel(folder)
    noise = np.random.RandomState(0).randint(0, 256, (7, *metadata.size, 3)).astype('uint8')
    entries = {}
    for name in names:
        made, runs, facts = (_bfloat16 if name == 'bfloat16' else _onnx)(folder, name, metadata)
        on_images = max((largest_difference(symbol, runs, image[None]) for image in images), default=0.0)
        on_noise = largest_difference(symbol, runs, noise)
        for found, allowed, where in ((on_images, TOLERANCE[name], f'{len(images)} real images'),
                                      (on_noise, ON_NOISE[name], 'noise')):
            if not found <= allowed:
                raise CheckFailed(f"format '{name}': probabilities differ from the exported symbol's by {found:.3g} on "
                                  f"{where}, allowed is {allowed:g}; '{FILES[name]}' was not written")
        entries[name] = save(folder, name, made, {**facts, 'difference': on_images, 'difference_on_noise': on_noise,
                                                  'images': len(images)})
    return entries


def _onnx(folder, name, metadata):
    require()
    from gluon_fgvc.deploy.onnx import conversion
    model = conversion.model_of(folder, metadata)
    if name == 'float16':
        model = conversion.with_float16_weights(model)
    return model, OnnxModel(model, metadata), {'opset': model.opset_import[0].version}


def _bfloat16(folder, name, metadata):
    if not has_bfloat16():
        raise CheckFailed(f"format '{name}' needs a processor with AVX512_BF16 or AMX, this one has "
                          f'{processor.onednn_choice()}; on it bfloat16 would be slower than float32')
    with open(os.path.join(folder, SYMBOL_FILE), encoding='utf-8') as stream:
        text = in_bfloat16(stream.read())
    return text, SymbolModel(folder, text), {}


def has_bfloat16():
    """Whether this processor multiplies bfloat16."""
    return processor.onednn_choice() in ('AVX512_CORE_BF16', 'AVX512_CORE_AMX')


def largest_difference(first, second, pixels):
    """Return the largest difference between the probabilities of ``pixels``, uint8 (N,H,W,3), by two callables."""
    return float(np.abs(first(pixels) - second(pixels)).max())

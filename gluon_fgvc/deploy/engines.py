"""What runs an exported model: MXNet, MXNet with operators fused by oneDNN, or onnxruntime.

An engine turns pixels, uint8 RGB (N,H,W,3), into what the graph returns, float32 (N,K). One call at a time.
"""
import importlib
import importlib.util
import os

import numpy as np

from gluon_fgvc.deploy.fusion import TOLERANCE, NotFused, fuse, is_available
from gluon_fgvc.deploy.symbol import check_files, load_exported
from gluon_fgvc.errors import CheckpointError

ONNX = 'model.onnx'


class NotUsable(Exception):
    """An engine cannot run a model here, or computes something else; the message says which."""


class Absent(NotUsable):
    """What an engine needs is not on this machine."""


class MXNetEngine:
    """The symbol as it was exported; ``ctx`` is an MXNet context, by default the CPU.

    :param text: JSON of another symbol on the same parameters, run in its place.
    """

    name = 'mxnet'

    def __init__(self, folder, metadata, ctx=None, text=None):
        import mxnet as mx
        self._mx, self._metadata, self.ctx = mx, metadata, ctx or mx.cpu()
        self.graph = load_exported(folder, self.ctx)[1]
        if text is not None:
            self.graph = mx.gluon.SymbolBlock(mx.sym.load_json(text), mx.sym.var(metadata.input_name),
                                              params=self.graph.collect_params())
        self.graph.hybridize(static_alloc=True, static_shape=True)

    def array(self, pixels):
        """Return ``pixels`` as the graph takes them, an NDArray."""
        pixels = prepared(pixels, self._metadata)
        return self._mx.nd.array(pixels, ctx=self.ctx, dtype=pixels.dtype)

    def __call__(self, pixels):
        return self.graph(self.array(pixels)).asnumpy()


class FusedEngine(MXNetEngine):
    """The symbol with operators fused by oneDNN, see :mod:`gluon_fgvc.deploy.fusion`.

    :raises NotUsable: where there is no oneDNN, or it cannot fuse this graph rightly.
    """

    name = 'mxnet_fused'

    def __init__(self, folder, metadata, ctx=None):
        super().__init__(folder, metadata, ctx)
        if not is_available(self.ctx):
            raise Absent('MXNet has no oneDNN here')
        try:
            self.graph = fuse(self.graph, metadata.input_name, self.array(proof_images(metadata.size)))
        except NotFused as reason:
            raise NotUsable(str(reason)) from None


class OnnxGraph:
    """An ONNX model in onnxruntime, on the CPU; whether it takes pixels or normalised images is read from the model.

    Every output after the first is a map, if it is of shape (N,h,w).

    :param model: a path, or a ModelProto.
    :param metadata: :class:`~gluon_fgvc.deploy.metadata.Metadata` of the export.
    """

    def __init__(self, model, metadata):
        import onnxruntime
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads(), 3
        source = str(model) if isinstance(model, (str, os.PathLike)) else model.SerializeToString()
        self._session = onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])
        self._metadata, self._input = metadata, self._session.get_inputs()[0]
        self._names = [output.name for output in self._session.get_outputs()]
        self.maps = [output.name for output in self._session.get_outputs()[1:] if len(output.shape) == 3]

    def run(self, pixels, names):
        """Return the outputs ``names``."""
        if self._input.shape[-1] != 3:
            pixels = normalized(pixels, self._metadata)
        elif self._input.type != 'tensor(uint8)':
            pixels = pixels.astype(np.float32)
        return self._session.run(names, {self._input.name: pixels})

    def __call__(self, pixels):
        return self.run(pixels, self._names[:1])[0]


class OnnxEngine(OnnxGraph):
    """``model.onnx`` of an export.

    :raises NotUsable: if onnxruntime cannot read it.
    """

    name = 'onnxruntime'

    def __init__(self, folder, metadata, ctx=None):
        check_files(folder, metadata, [ONNX])
        try:
            super().__init__(os.path.join(folder, ONNX), metadata)
        except Exception as error:  # onnxruntime's own kinds have no common base
            raise NotUsable(f'onnxruntime cannot read {ONNX}: {str(error).splitlines()[0]}') from None


ENGINES = {engine.name: engine for engine in (FusedEngine, MXNetEngine, OnnxEngine)}


def possible(metadata, ctx=None):
    """Return the names of the engines that this machine and export have, the likely fastest first."""
    names = []
    if importlib.util.find_spec('mxnet'):
        names += ['mxnet_fused', 'mxnet'] if ctx is None or ctx.device_type == 'cpu' else ['mxnet']
    if ONNX in metadata.files and (ctx is None or ctx.device_type == 'cpu') and importlib.util.find_spec('onnxruntime'):
        names.append('onnxruntime')
    if not names:
        raise CheckpointError('neither mxnet nor, for exports with model.onnx, onnxruntime is installed: '
                              'pip install one of them')
    return names


def open_engine(name, folder, metadata, ctx=None, expected=None):
    """Return the engine ``name``, after its outputs were compared on two images.

    :param expected: what the network returns for :func:`proof_images`; None takes what the export wrote down.
    :raises NotUsable: if it cannot run the model, or its outputs are others.
    :raises CheckpointError: for a missing, truncated, altered or foreign file.
    """
    if name.startswith('mxnet'):
        os.environ.setdefault('OMP_NUM_THREADS', str(threads()))  # MXNet alone takes half of the processors
    library = 'mxnet' if name.startswith('mxnet') else name
    try:
        importlib.import_module(library)
    except Exception as error:  # also an AttributeError: MXNet with a NumPy that is too new
        raise Absent(f'{library} cannot be imported: {error}') from None
    engine = ENGINES[name](folder, metadata, ctx)
    expected = metadata.proof if expected is None else expected
    if expected is not None:
        found, expected = engine(proof_images(metadata.size)), np.asarray(expected, np.float32)
        if found.shape != expected.shape:
            raise NotUsable(f'it returns {found.shape[1:]} for an image, and not {expected.shape[1:]}')
        difference = np.abs(found - expected).max() / np.abs(expected).max()
        if not difference <= TOLERANCE:
            raise NotUsable(f'its outputs would be off by {difference:.2g} of the largest')
    return engine


def proof_images(size):
    """Return two images of random pixels, the same everywhere, that engines are compared on: uint8 (2,H,W,3)."""
    return np.random.RandomState(0).randint(0, 256, (2, *size, 3)).astype(np.uint8)


def prepared(pixels, metadata):
    """Return pixels, uint8 (N,H,W,3), as the graph takes them."""
    return pixels if metadata.takes_pixels else normalized(pixels, metadata)


def normalized(pixels, metadata):
    """Return ``(pixel / 255 - mean) / std`` of uint8 (N,H,W,3): float32 (N,3,H,W)."""
    values = np.arange(256, dtype=np.float32)
    normal = np.empty((len(pixels), 3, *pixels.shape[1:3]), np.float32)
    for channel, (mean, std) in enumerate(zip(metadata.mean, metadata.std)):
        # One multiply and one add, as the network was trained with; there are no more than 256 results.
        table = values * np.float32(1 / (255 * std)) + np.float32(-mean / std)
        np.take(table, pixels[..., channel], out=normal[:, channel])
    return normal


def probabilities(output, metadata):
    """Return the class probabilities, float32 (N,K), that ``output`` (N,K) of an engine is or stands for."""
    return output if metadata.output == 'probabilities' else softmax(output)


def softmax(scores):
    """Return the class probabilities, float32 (N,K), of scores (N,K)."""
    powers = np.exp(scores.astype(np.float64) - scores.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


def threads():
    """Return how many threads an engine gets: ``OMP_NUM_THREADS``, else one for each processor we may use."""
    given = os.environ.get('OMP_NUM_THREADS', '')
    if given.isdigit() and int(given):
        return int(given)
    return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

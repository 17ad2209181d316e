"""An ONNX model run by onnxruntime on the CPU: pixels in, class probabilities out."""
import importlib
import os

from gluon_fgvc.deploy.engines import normalized
from gluon_fgvc.deploy.predictor import softmax
from gluon_fgvc.errors import CheckpointError

PACKAGES = ('onnx', 'onnxruntime')


def require():
    """Raise CheckpointError, naming what to install, unless the extra ``onnx`` is there."""
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise CheckpointError(f"ONNX needs the package '{name}', which cannot be imported ({error}): pip install "
                                  f"{' '.join(PACKAGES)}") from None


def open_session(model, threads=None):
    """Return an InferenceSession of a path or of a ModelProto.

    :param threads: as many as ``OMP_NUM_THREADS`` says, unless given.
    """
    import onnxruntime
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or int(os.environ.get('OMP_NUM_THREADS') or 0)
    options.log_severity_level = 3
    source = str(model) if isinstance(model, (str, os.PathLike)) else model.SerializeToString()
    return onnxruntime.InferenceSession(source, options, providers=['CPUExecutionProvider'])


class OnnxModel:
    """An ONNX model of an export, called with pixels, uint8 RGB (N,H,W,3); returns probabilities, float32 (N,K).

    :param model: a path or a ModelProto.
    :param metadata: :class:`~gluon_fgvc.deploy.metadata.Metadata` of the export.
    """

    def __init__(self, model, metadata):
        self._session, self._metadata = open_session(model), metadata
        self._input = self._session.get_inputs()[0].name

    def __call__(self, pixels):
        output, = self._session.run(None, {self._input: prepared(pixels, self._metadata)})
        return output if self._metadata.output == 'probabilities' else softmax(output)


def prepared(pixels, metadata):
    """Return pixels, uint8 (N,H,W,3), as the graph takes them."""
    return pixels if metadata.takes_pixels else normalized(pixels, metadata)

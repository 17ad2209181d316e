"""An ONNX model run by onnxruntime on the CPU: pixels in, class probabilities out."""
import importlib

from gluon_fgvc.deploy.engines import OnnxGraph, probabilities
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


class OnnxModel(OnnxGraph):
    """An ONNX model, a path or a ModelProto, called with pixels uint8 RGB (N,H,W,3); returns probabilities (N,K)."""

    def __call__(self, pixels):
        return probabilities(super().__call__(pixels), self._metadata)

"""Weight files as numpy arrays, by name; nothing pickled is ever executed."""
from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights.mxnet_params import is_params, load_params
from gluon_fgvc.weights.torch_state import load_torch

__all__ = ['load', 'load_params', 'load_torch']


def load(path):
    """Return the arrays of an MXNet or torch weight file, told apart by content: dict of name → numpy array.

    :raises WeightsError: if the file is missing, damaged, or neither.
    """
    try:
        with open(path, 'rb') as stream:
            head = stream.read(8)
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror}") from None
    return (load_params if is_params(head) else load_torch)(path)

"""Weight files as numpy arrays, by name; nothing pickled is ever executed."""
from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights.mxnet_params import dump_params, is_params, load_params
from gluon_fgvc.weights.safetensors_file import dump_safetensors, is_safetensors, load_safetensors
from gluon_fgvc.weights.torch_state import load_torch

__all__ = ['dump_params', 'dump_safetensors', 'load', 'load_params', 'load_safetensors', 'load_torch']


def load(path):
    """Return the arrays of an MXNet, safetensors or torch file, told apart by content: dict of name → numpy array.

    :raises WeightsError: if the file is missing, damaged, or none of them.
    """
    try:
        with open(path, 'rb') as stream:
            head = stream.read(9)
    except OSError as error:
        raise WeightsError(f"cannot read weights '{path}': {error.strerror}") from None
    if is_params(head):
        return load_params(path)
    return (load_safetensors if is_safetensors(head) else load_torch)(path)

"""Weight files as numpy arrays, by name; nothing pickled is ever executed."""
from gluon_fgvc.weights.torch_state import load_torch

__all__ = ['load_torch']

"""Network pieces: pure HybridBlocks that know nothing of configurations or data."""
from gluon_fgvc.nn.normalize import Normalize

__all__ = ['Normalize']

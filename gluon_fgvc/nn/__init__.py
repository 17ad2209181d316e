"""Network pieces: pure HybridBlocks that know nothing of configurations or data."""
from gluon_fgvc.nn.classifier import Classifier
from gluon_fgvc.nn.normalize import Normalize

__all__ = ['Classifier', 'Normalize']

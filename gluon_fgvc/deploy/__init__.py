"""Trained networks leave here: a symbol, its parameters and a description that any MXNet program reads."""
from gluon_fgvc.deploy.export import export
from gluon_fgvc.deploy.predictor import Classifier, Predictor, load_exported

__all__ = ['Classifier', 'Predictor', 'export', 'load_exported']

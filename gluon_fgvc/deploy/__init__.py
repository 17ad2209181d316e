"""Trained networks leave here: a symbol, its parameters and a description that any MXNet program reads."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

from gluon_fgvc.deploy.export import export
from gluon_fgvc.deploy.predictor import ImageClassifier, Predictor
from gluon_fgvc.deploy.symbol import load_exported

__all__ = ['ImageClassifier', 'Predictor', 'export', 'load_exported']

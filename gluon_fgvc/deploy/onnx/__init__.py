"""A way out of MXNet: the deployed network as an ONNX model.

The graph is translated by :mod:`gluon_fgvc.deploy.onnx.translation` and run by
:mod:`gluon_fgvc.deploy.onnx.runtime`. Both need the extra ``onnx``, which is imported where it is used.
"""

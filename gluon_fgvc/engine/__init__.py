"""Training, evaluation and run folders.

``train(cfg, folder)`` and ``evaluate(run)`` take configurations; the bricks below them take explicit
arguments: ``loop.fit``, ``evaluate.predict``, ``phases.enter``, ``checkpoint.save``.
"""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

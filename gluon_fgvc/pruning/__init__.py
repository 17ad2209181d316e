"""Channels out of a network."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

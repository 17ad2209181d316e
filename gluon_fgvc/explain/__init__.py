"""What a network looks at, as numbers: class activation, channels, activation maximisation."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

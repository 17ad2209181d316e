"""What people look at: report, maps, data page, charts and contact sheets."""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

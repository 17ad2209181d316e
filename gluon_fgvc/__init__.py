"""Fine-grained visual classification on Gluon/MXNet."""
from gluon_fgvc.machine import environment

__version__ = '0.1.0'

environment.prepare()

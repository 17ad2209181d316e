"""Fine-grained visual classification on Gluon/MXNet."""
__version__ = '0.1.0'

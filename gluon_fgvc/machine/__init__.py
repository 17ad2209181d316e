"""What this machine and its Python environment are. Standard library only."""
from gluon_fgvc.machine.environment import prepare, set_threads

__all__ = ['prepare', 'set_threads']

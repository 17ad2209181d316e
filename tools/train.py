"""``fgvc train``, from a checkout."""
from _fgvc import run

from gluon_fgvc.commands.train import main  # noqa: F401  (for programs that import this file)

if __name__ == '__main__':
    run(__file__)

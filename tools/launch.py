"""``fgvc launch``, from a checkout."""
from _fgvc import run

run(__file__)

"""Runs a command of this checkout, installed or not: ``python tools/train.py`` is ``fgvc train``."""
import os
import sys
from pathlib import Path

ROOT = str(Path(__file__).resolve().parents[1])
sys.path.insert(0, ROOT)
# What a command starts, e.g. the trainings of a study, is to find the same package.
os.environ['PYTHONPATH'] = os.pathsep.join([ROOT, *filter(None, [os.environ.get('PYTHONPATH')])])


def run(script):
    """Run the command that the file ``script`` is named after, and exit with its code."""
    from gluon_fgvc.commands import entry
    sys.exit(entry.main([Path(script).stem.replace('_', '-'), *sys.argv[1:]]))

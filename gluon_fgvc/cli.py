"""The name that ``gluon_fgvc.commands.cli`` had until 0.2; it is there until 0.3."""
from gluon_fgvc.commands.cli import *  # noqa: F401, F403

"""``python -m gluon_fgvc`` is ``fgvc``."""
import sys

from gluon_fgvc.commands.entry import main

sys.exit(main())

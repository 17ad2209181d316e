"""An exported model as a service over HTTP: ``fgvc serve``. Needs the extra ``serve``."""

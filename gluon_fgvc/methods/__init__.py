"""Methods, found by file name: ``create('finetune', …)`` imports ``methods/finetune.py``.

A folder of methods of your own joins them with ``gluon_fgvc.methods.__path__.append(folder)``.
"""
import importlib
import pkgutil

from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.methods.base import Explanation, Method, Phase

__all__ = ['Explanation', 'Method', 'Phase', 'available', 'create', 'options']


def available():
    """Return the names of all methods, sorted."""
    return sorted({module.name for module in pkgutil.iter_modules(__path__)} - {'base'})


def _module(name):
    if name not in available():
        raise ConfigError(f"unknown method '{name}'{did_you_mean(name, available())}")
    return importlib.import_module(f'{__name__}.{name}')


def options(name):
    """Return the dataclass of configuration keys of method ``name``."""
    return _module(name).Options


def create(name, backbone, num_classes, options=None, **values):
    """Build method ``name`` on ``backbone`` for ``num_classes`` classes.

    :param options: an instance of the method's ``Options``; or give its keys as keyword arguments.
    :raises ConfigError: for an unknown name, an unknown key or a rule of the method that is broken.
    """
    module = _module(name)
    try:
        return module.Method(backbone, num_classes, options or module.Options(**values))
    except TypeError as error:
        if options is not None:
            raise
        raise ConfigError(f'method {name}: {error}') from None

"""Methods, found by file name: ``create('finetune', …)`` imports ``methods/finetune.py``.

Programs and notebooks may :func:`register` methods of their own, or add a folder of files to ``methods.__path__``.
"""
from gluon_fgvc import machine

machine.prepare()  # before anything imports mxnet

import importlib
import pkgutil
from dataclasses import dataclass, is_dataclass
from types import SimpleNamespace

from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.methods.base import Explanation, Method, Phase

__all__ = ['Explanation', 'Method', 'Phase', 'available', 'create', 'options', 'register']

_registered = {}


@dataclass(frozen=True)
class NoOptions:
    """The options of a method that has none."""


def available():
    """Return the names of all methods, sorted."""
    return sorted({*_files(), *_registered})


def _files():
    return {module.name for module in pkgutil.iter_modules(__path__)} - {'base'}


def register(name, method, options=None):
    """Make ``method``, a subclass of :class:`Method`, known as ``name`` to this process; a later one replaces it.

    :param options: frozen dataclass of its configuration keys; None is none.
    :raises ConfigError: if a file has this name, or it cannot be one, or ``method`` and ``options`` are something else.
    """
    if not (isinstance(method, type) and issubclass(method, Method)):
        raise ConfigError(f"method '{name}': {method!r} is no subclass of gluon_fgvc.Method")
    if options is not None and not (isinstance(options, type) and is_dataclass(options)):
        raise ConfigError(f"method '{name}': its options, {options!r}, are no dataclass")
    if name in _files() or not name.isidentifier():
        raise ConfigError(f"a method cannot be called '{name}': " + ('the package has one of this name' if name in
                          _files() else 'the name must be letters, digits and _'))
    _registered[name] = SimpleNamespace(Method=method, Options=options or NoOptions)


def _module(name):
    if name not in available():
        raise ConfigError(f"unknown method '{name}'{did_you_mean(name, available())}")
    return _registered.get(name) or importlib.import_module(f'{__name__}.{name}')


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

"""Fine-grained visual classification on Gluon/MXNet.

``import gluon_fgvc as fg`` is light: it sets the OpenMP threads, which must happen before mxnet is imported, and no
more. The names below come from :mod:`gluon_fgvc.api` when they are first used, and mxnet with them.
"""
from typing import TYPE_CHECKING

from gluon_fgvc import machine

if TYPE_CHECKING:
    from gluon_fgvc.api import (
        Config,
        Method,
        Phase,
        Predictor,
        Run,
        available_backbones,
        available_datasets,
        available_methods,
        configure,
        create_backbone,
        create_method,
        evaluate,
        fit,
        load_config,
        open_run,
        register_method,
        train,
    )

__version__ = '0.2.0'

__all__ = ['Config', 'Method', 'Phase', 'Predictor', 'Run', 'available_backbones', 'available_datasets',
           'available_methods', 'configure', 'create_backbone', 'create_method', 'evaluate', 'fit', 'load_config',
           'open_run', 'register_method', 'train']

machine.set_threads()


def __getattr__(name):
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from gluon_fgvc import api
    return getattr(api, name)


def __dir__():
    return sorted({*globals(), *__all__})

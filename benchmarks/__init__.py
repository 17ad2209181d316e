"""Measurements, found by file name; ``tools/benchmark.py`` runs them.

A benchmark is a file with a docstring and two functions: ``add_options(parser)`` declares its options, and
``measure(options)`` returns a :class:`~benchmarks.comparison.Comparison`, or what has its ``settings``,
``table``, ``kept`` and ``record``. One that compares times the contenders in turn (A B A B …), because machines
drift, and only ratios within one run mean something.
"""
import importlib
import pkgutil

_HELPERS = ('comparison', 'inference')


def available():
    """Return the sorted names of all benchmarks."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name not in _HELPERS)


def load(name):
    """Return the module of benchmark ``name``, one of :func:`available`."""
    return importlib.import_module(f'{__name__}.{name}')

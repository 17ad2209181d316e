"""A study as a file: a base configuration, what is changed in each named variant of it, and the seeds.

``studies/NAME.yaml``::

    base: configs/warn/cluttered_mnist.yaml
    overrides: {run.pointing_game: true}       # of all variants
    seeds: [0, 1, 2]                           # default: [0]
    evaluate: true                             # the test split, once after each training; default: false
    variants:
      whole: {}                                # the base as it is
      no-gates: {method.gates: false}
      plain: {config: configs/warn/cluttered_mnist_base.yaml}   # another file in the place of the base

``folds`` are values of ``data.fold``, for data sets that have it. Paths are those of the working directory, as with
``--cfg``. The study, its results and its folder of runs have the file's name.
"""
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import yaml

from gluon_fgvc.config import parse_overrides, yaml_text
from gluon_fgvc.errors import ConfigError, did_you_mean
from gluon_fgvc.studies.runs import NAME, expand

KEYS = ('base', 'variants', 'overrides', 'seeds', 'folds', 'evaluate')


@dataclass(frozen=True)
class Variant:
    """A configuration and what is changed in it."""

    name: str
    config: str                # path of its file
    overrides: Tuple[str, ...]  # KEY=VALUE


@dataclass(frozen=True)
class StudyFile:
    """What a file of ``studies/`` says."""

    name: str
    variants: Tuple[Variant, ...]
    seeds: Tuple[int, ...]
    folds: Tuple[int, ...]
    evaluate: bool

    def named(self, names):
        """Return the variants of these names, in this order.

        :raises ConfigError: for a name that is no variant's.
        """
        known = {variant.name: variant for variant in self.variants}
        for name in names:
            if name not in known:
                raise ConfigError(f"--variant '{name}': study '{self.name}' has none of this name"
                                  f"{did_you_mean(name, known)}")
        return [known[name] for name in names]

    def some(self, key, values):
        """Return which of ``seeds`` or ``folds``, as ``key`` says, are among ``values``; all of them if that is empty.

        :raises ConfigError: for a value that the file does not have.
        """
        ours = getattr(self, key)
        for value in values:
            if value not in ours:
                has = f"the {key} {', '.join(map(str, ours))}" if ours else f'no {key}'
                raise ConfigError(f"--{key} {value}: study '{self.name}' has {has}")
        return tuple(value for value in ours if value in values) if values else ours

    def runs(self, work_dir='work_dirs/study', only=(), overrides=(), seeds=(), folds=()):
        """Return the list of :class:`~gluon_fgvc.studies.runs.StudyRun`, variant by variant.

        :param only: names of variants; empty for all.
        :param overrides: further ones, KEY=VALUE, of all runs.
        :param seeds: which of the file's, and ``folds`` likewise; empty for all.
        :raises ConfigError: for a variant, seed or fold that the file does not have, or a configuration that cannot be
            read.
        """
        wanted, seeds, folds = self.named(only), self.some('seeds', seeds), self.some('folds', folds)
        return [run for variant in self.variants if not only or variant in wanted
                for run in expand(self.name, Path(variant.config), (variant.name, (*variant.overrides, *overrides)),
                                  seeds, folds, work_dir)]


def read(path):
    """Return the :class:`StudyFile` of ``path``.

    :raises ConfigError: with the line, if it cannot be read, or for unknown keys, wrong types and repeated values.
    """
    path = Path(path)
    try:
        text = path.read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read study '{path}': {getattr(error, 'strerror', None) or error}") from None
    tree, lines = yaml_text.parse(text, str(path))
    return _Reader(path, lines).study(tree)


class _Reader:
    def __init__(self, path, lines):
        self.path, self.lines = path, lines

    def study(self, tree):
        if not isinstance(tree, dict):
            raise self.error((), "not a study: it has the keys 'base' and 'variants'")
        for key in tree:
            if key not in KEYS:
                raise self.error((key,), f"unknown key '{key}'{did_you_mean(str(key), KEYS)}")
        for key in ('base', 'variants'):
            if not tree.get(key):
                raise self.error((), f"required key '{key}' is missing")
        if not NAME.fullmatch(self.path.stem):
            raise self.error((), "the file's name must be made of letters, digits, '_', '-' and '.'")
        if not isinstance(tree['variants'], dict):
            raise self.error(('variants',), 'must be a mapping of name to overrides')
        evaluate = tree.get('evaluate', False)
        if not isinstance(evaluate, bool):
            raise self.error(('evaluate',), f'{evaluate!r} is not true or false')
        common = self.overrides(tree.get('overrides'), ('overrides',))
        variants = tuple(self.variant(name, changes, tree['base'], common)
                         for name, changes in tree['variants'].items())
        return StudyFile(self.path.stem, variants, self.numbers(tree, 'seeds', (0,)), self.numbers(tree, 'folds', ()),
                         evaluate)

    def variant(self, name, changes, base, common):
        place = ('variants', name)
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise self.error(place, "a variant's name must be made of letters, digits, '_', '-' and '.'")
        changes = dict(changes) if isinstance(changes, dict) else changes
        file = changes.pop('config', base) if isinstance(changes, dict) else base
        if not isinstance(file, str):
            raise self.error(place, f'{file!r} is not the path of a configuration')
        return Variant(name, file, (*common, *self.overrides(changes, place)))

    def overrides(self, changes, place):
        """Turn a mapping of dotted keys to values into ``('section.key=value', …)``."""
        if changes is None:
            return ()
        if not isinstance(changes, dict):
            raise self.error(place, f'{changes!r} is not a mapping of section.key to value')
        words = []
        for key, value in changes.items():
            word = f'{key}={_in_one_line(value)}'
            if key in ('run.seed', 'data.fold'):
                raise self.error((*place, key), "give seeds with 'seeds' and folds with 'folds'")
            try:
                parse_overrides([word])
            except ConfigError as error:
                raise self.error((*place, key), str(error)) from None
            words.append(word)
        return tuple(words)

    def numbers(self, tree, key, default):
        values = tree.get(key, list(default))
        if not isinstance(values, list) or not all(type(value) is int and value >= 0 for value in values):
            raise self.error((key,), f'{values!r} is not a list of whole numbers, 0 or above')
        if len(set(values)) < len(values):
            raise self.error((key,), f'{values} has a value twice; its runs would share a folder')
        if key == 'seeds' and not values:
            raise self.error((key,), 'must have at least one seed')
        return tuple(values)

    def error(self, place, message):
        line = next((f', line {self.lines[place[:end]]}' for end in range(len(place), 0, -1)
                     if place[:end] in self.lines), '')
        dotted = '.'.join(map(str, place))
        return ConfigError(f"{self.path}{line}: {dotted + ': ' if dotted else ''}{message}")


def _in_one_line(value):
    """Return a value of YAML as one line of it."""
    return yaml.safe_dump(value, default_flow_style=True, width=float('inf'), allow_unicode=True).split('\n')[0]

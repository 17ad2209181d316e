"""Read a configuration strictly, change it, and write it again.

``load`` reads a YAML file, applies overrides and returns a frozen :class:`~gluon_fgvc.config.Config`. Unknown keys,
keys that the chosen optimizer, schedule, data set or method does not use, wrong types and values out of range raise
:class:`~gluon_fgvc.errors.ConfigError` with the value, the rule, the nearest valid name and the line of the file.

It is handed two look-ups, ``data_options(name)`` and ``method_options(name)``, that return the dataclasses which data
sets and methods own.
"""
import dataclasses
import math
import re
import typing
import warnings
from typing import Any, Mapping, Union

import yaml

from gluon_fgvc.config.schema import Config, DataConfig
from gluon_fgvc.errors import ConfigError, did_you_mean


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number and a repeated key an error."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$'), list('-+.0123456789'))


def _mapping_without_repeats(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        if key.value in seen:
            raise ConfigError(f"line {key.start_mark.line + 1}: key '{key.value}' is given twice")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor('tag:yaml.org,2002:map',
                        lambda loader, node: _mapping_without_repeats(loader, node, deep=True))


def parse_yaml(text, place):
    """Return (value, {key path: line number}) of a YAML text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        value = yaml.load(text, Loader=_Loader)
    except ConfigError as error:
        raise ConfigError(f'{place}: {error}') from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, 'problem_mark', None)
        where = f', line {mark.line + 1}' if mark else ''
        what = getattr(error, 'problem', None) or str(error) or type(error).__name__
        raise ConfigError(f'{place}{where}: not valid YAML: {what}'.replace('\n', ' ')) from None
    lines = {}

    def walk(node, path):
        if isinstance(node, yaml.MappingNode):
            for key, child in node.value:
                lines[path + (key.value,)] = key.start_mark.line + 1
                walk(child, path + (key.value,))

    walk(node, ())
    return value, lines


def parse_overrides(words):
    """Turn ``['train.epochs', '3', 'run.seed=1']`` into ``[('train.epochs', 3), ('run.seed', 1)]``.

    Both spellings, ``KEY VALUE`` and ``KEY=VALUE``, may be mixed; values are YAML.
    """
    pairs, words = [], list(words)
    while words:
        word = words.pop(0)
        if '=' in word:
            key, text = word.split('=', 1)
        elif words:
            key, text = word, words.pop(0)
        else:
            raise ConfigError(f"override '{word}' has no value; write '{word} VALUE' or '{word}=VALUE'")
        if not re.fullmatch(r'[A-Za-z_]\w*(\.[A-Za-z_]\w*)+', key):
            raise ConfigError(f"override '{key}' is not of the form section.key, e.g. train.epochs=3")
        pairs.append((key, parse_yaml(text, f"override '{key}'")[0]))
    return pairs


def apply_overrides(tree, overrides):
    """Put the pairs (dotted key, value) that :func:`parse_overrides` returns into nested plain values, in place."""
    for key, value in overrides:
        *parents, last = key.split('.')
        node = tree
        for depth, name in enumerate(parents):
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override '{key}': '{'.'.join(parents[:depth + 1])}' is not a section")
        node[last] = value


class _Reader:
    """Turns a tree of plain values into dataclasses, checking every key, type and range."""

    def __init__(self, place, lines, overridden):
        self.place, self.lines, self.overridden = place, lines, overridden

    def error(self, path, message):
        dotted = '.'.join(path)
        for end in range(len(path), 0, -1):  # an override may have given a whole section, e.g. train.schedule=cosine
            if '.'.join(path[:end]) in self.overridden:
                return ConfigError(f"override '{dotted}': {message}")
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f', line {self.lines[known]}' if known else ''
        return ConfigError(f"{self.place}{line}: {dotted + ': ' if dotted else ''}{message}")

    def section(self, schema, tree, path, extra=None, ignore=()):
        """Build ``schema`` from mapping ``tree``; ``extra`` is a dataclass that owns further keys."""
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise self.error(path, f'{tree!r} is not a mapping of keys to values')
        fields = {f.name: f for f in dataclasses.fields(schema) if f.name != 'options'}
        extras = {f.name: f for f in dataclasses.fields(extra)} if extra else {}
        for key in tree:
            if key not in fields and key not in extras:
                raise self.error(path + (str(key),), f"unknown key '{key}'{did_you_mean(key, [*fields, *extras])}")
        own = self.fields(schema, fields, tree, path)
        if extra:
            own['options'] = self.construct(extra, self.fields(extra, extras, tree, path), path)
        return self.construct(schema, own, path)

    def construct(self, schema, values, path):
        try:
            return schema(**values)
        except ConfigError:
            raise
        except (TypeError, ValueError) as error:  # a dataclass's own __post_init__ rule
            raise self.error(path, str(error)) from None

    def fields(self, schema, fields, tree, path):
        hints, values = typing.get_type_hints(schema), {}
        for name, spec in fields.items():
            if name in tree:
                values[name] = self.value(hints[name], tree[name], spec.metadata, path + (name,))
            elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
                raise self.error(path, f"required key '{name}' is missing")
        return values

    def value(self, hint, value, rules, path):
        if 'variants' in rules:
            return self.variant(rules['variants'], value, path)
        if dataclasses.is_dataclass(hint):
            return self.section(hint, value, path)
        try:
            result = _coerce(hint, value)
        except TypeError:
            raise self.error(path, f'{value!r} is not {_describe(hint)}') from None
        for element in result if isinstance(result, tuple) else (result,):
            self.check(element, rules, path)
        return result

    def check(self, value, rules, path):
        if 'choices' in rules and value not in rules['choices']:
            raise self.error(path, f"'{value}' is not a choice{did_you_mean(value, rules['choices'])}")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return
        for rule, holds, words in (('minimum', lambda v, b: v >= b, 'at least'), ('above', lambda v, b: v > b, 'above'),
                                   ('maximum', lambda v, b: v <= b, 'at most'), ('below', lambda v, b: v < b, 'below')):
            if rule in rules and not holds(value, rules[rule]):
                raise self.error(path, f'{value!r} must be {words} {rules[rule]}')

    def variant(self, variants, value, path):
        if isinstance(value, str):
            value = {'name': value}
        if not isinstance(value, dict) or 'name' not in value:
            raise self.error(path, f"{value!r} needs a key 'name', one of {', '.join(variants)}")
        if value['name'] not in variants:
            raise self.error(path + ('name',), f"unknown name '{value['name']}'{did_you_mean(value['name'], variants)}")
        return self.section(variants[value['name']], value, path)


def _coerce(hint, value):
    """Return ``value`` as ``hint``, or raise TypeError. An integer may stand for a float, nothing else may."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is Union:
        for choice in arguments:
            try:
                return _coerce(choice, value)
            except TypeError:
                continue
        raise TypeError
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(_coerce(arguments[0], element) for element in value)
        if len(value) != len(arguments):
            raise TypeError
        return tuple(_coerce(kind, element) for kind, element in zip(arguments, value))
    if origin in (dict, Mapping, typing.get_origin(Mapping[str, str])):
        if not isinstance(value, dict):
            raise TypeError
        return {_coerce(arguments[0], k): _coerce(arguments[1], v) for k, v in value.items()}
    if hint is type(None):
        if value is not None:
            raise TypeError
        return None
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        if not math.isfinite(value):
            raise TypeError
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint in (bool, str) and isinstance(value, hint):
        return value
    raise TypeError


def _describe(hint):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return ' or '.join(_describe(choice) for choice in arguments)
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return f'a list, each element {_describe(arguments[0])}'
        return f'a list of {len(arguments)}, each {_describe(arguments[0])}'
    if origin is not None:
        return 'a mapping'
    return {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text',
            type(None): 'null'}.get(hint, hint.__name__)


# Names of earlier versions, which are read until 0.3 → the keys of today. Values that have new names follow.
RENAMED = {'data.test': 'data.eval', 'data.val_share': 'data.val_fraction', 'backbone.head': 'backbone.global_pool',
           'run.focus': 'run.pointing_game'}
RENAMED_VALUES = {'method.features': {'scores': 'logits'}}


def with_new_names(tree, place):
    """Return ``tree`` with the keys of earlier versions under their names of today; one warning for each names both.

    :raises ConfigError: where both names of one key are given.
    """
    tree = {name: dict(section) if isinstance(section, dict) else section for name, section in tree.items()}
    for old, new in RENAMED.items():
        (name, before), after = old.split('.'), new.split('.')[1]
        section = tree.get(name)
        if isinstance(section, dict) and before in section:
            if after in section:
                raise ConfigError(f"{place}: '{old}' is an old name of '{new}', and both are given; leave '{old}' out")
            warnings.warn(f"{place}: '{old}' is now '{new}'; the old name is read until gluon_fgvc 0.3")
            tree[name] = {after if key == before else key: value for key, value in section.items()}
    for key, values in RENAMED_VALUES.items():
        name, option = key.split('.')
        section = tree.get(name)
        if isinstance(section, dict) and isinstance(section.get(option), str) and section[option] in values:
            new = values[section[option]]
            warnings.warn(f"{place}: {key} '{section[option]}' is now '{new}'; the old name is read until gluon_fgvc "
                          '0.3')
            section[option] = new
    return tree


def new_key(key):
    """Return the dotted ``key``, or one of a section below it, under its name of today."""
    for old, new in RENAMED.items():
        if key == old or key.startswith(f'{old}.'):
            return new + key[len(old):]
    return key


def from_tree(tree, data_options, method_options, place='configuration', lines=None, overridden=()):
    """Build a :class:`Config` from nested plain values. See :func:`load` for the arguments."""
    reader = _Reader(place, lines or {}, overridden)
    sections = {f.name: f.type for f in dataclasses.fields(Config)}
    if not isinstance(tree, dict):
        raise reader.error((), f"not a configuration: expected sections {', '.join(sections)}")
    for key in tree:
        if key not in sections:
            raise reader.error((str(key),), f"unknown section '{key}'{did_you_mean(key, sections)}")
    tree, built = with_new_names(tree, place), {}
    for name, schema in sections.items():
        if name not in tree and name != 'run':
            raise reader.error((), f"section '{name}' is missing")
        section, extra = tree.get(name), None
        look_up = {'data': data_options, 'method': method_options}.get(name)
        if look_up:
            if not isinstance(section, dict) or not isinstance(section.get('name'), str):
                raise reader.error((name,), "required key 'name' is missing or not text")
            try:
                extra = look_up(section['name'])
            except ConfigError as error:
                raise reader.error((name, 'name'), str(error)) from None
        built[name] = reader.section(schema, section, (name,), extra)
    return Config(**built)


def data_from_tree(tree, data_options, place='configuration'):
    """Build the :class:`DataConfig` alone from a mapping that has ``name``, as :func:`from_tree` does."""
    return _Reader(place, {}, ()).section(DataConfig, tree, ('data',), data_options(tree['name']))


def load(path, overrides=(), *, data_options, method_options):
    """Read the YAML file ``path``, apply ``overrides`` and return a checked :class:`Config`.

    :param overrides: pairs (dotted key, value) as :func:`parse_overrides` returns; later ones win.
    :param data_options: name of a data set → dataclass of its options; raises ConfigError if unknown.
    :param method_options: the same for methods.
    :raises ConfigError: with file, line, key, value and rule.
    """
    try:
        with open(path, encoding='utf-8') as stream:
            text = stream.read()
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"'{path}' is not a text file in UTF-8") from None
    tree, lines = parse_yaml(text, str(path))
    if isinstance(tree, dict):
        tree, overrides = with_new_names(tree, str(path)), [(new_key(key), value) for key, value in overrides]
        lines = {tuple(new_key('.'.join(keys)).split('.')): line for keys, line in lines.items()}
        apply_overrides(tree, overrides)
    return from_tree(tree, data_options, method_options, str(path), lines, {key for key, _ in overrides})


# --- writing ---------------------------------------------------------------------------------

def to_tree(value):
    """Turn a configuration into nested plain values; ``from_tree`` takes them back unchanged."""
    if dataclasses.is_dataclass(value):
        names = [f.name for f in dataclasses.fields(value) if f.name != 'options']
        tree = {name: to_tree(getattr(value, name)) for name in sorted(names, key=lambda name: name != 'name')}
        if dataclasses.is_dataclass(getattr(value, 'options', None)):
            tree.update(to_tree(value.options))
        return tree
    if isinstance(value, (tuple, list)):
        return [to_tree(element) for element in value]
    if isinstance(value, Mapping):
        return {key: to_tree(element) for key, element in value.items()}
    return value


def dump(config):
    """Return ``config`` as YAML text with every default filled in."""
    return yaml.safe_dump(to_tree(config), sort_keys=False, default_flow_style=None, width=100)

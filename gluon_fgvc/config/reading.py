"""Read a configuration strictly, change it, and write it again.

``load`` reads a YAML file, applies overrides and returns a frozen :class:`~gluon_fgvc.config.Config`. Unknown keys,
keys that the chosen optimizer, schedule, data set or method does not use, wrong types and values out of range raise
:class:`~gluon_fgvc.errors.ConfigError` with the value, the rule, the nearest valid name and the line of the file.

It is handed two look-ups, ``data_options(name)`` and ``method_options(name)``, that return the dataclasses which data
sets and methods own.
"""
import dataclasses
import hashlib
import math
import os
import typing
from typing import Any, Mapping, Union

import yaml

from gluon_fgvc.config import yaml_text
from gluon_fgvc.config.exchange import drop_unknown
from gluon_fgvc.config.overrides import Given, apply_overrides, plain
from gluon_fgvc.config.renamed import new_key, with_new_names
from gluon_fgvc.config.schema import Config, DataConfig, MethodConfig
from gluon_fgvc.errors import ConfigError, did_you_mean

BYTES = 1 << 20  # more characters than any configuration has


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
        tree = plain(tree)
        if tree is None:
            tree = {}
        if not isinstance(tree, dict):
            raise self.error(path, f'{tree!r} is not a mapping of keys to values')
        extras = {f.name: f for f in dataclasses.fields(extra)} if extra else {}
        # A data set's own key, such as the fold that it publishes, goes before the common one.
        fields = {f.name: f for f in dataclasses.fields(schema) if f.name not in ('options', *extras)}
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
            value = plain(value)
            raise self.error(path, f'{value!r} is not {describe(hint)}') from None
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
        value = plain(value)
        if isinstance(value, str):
            value = {'name': value}
        if not isinstance(value, dict) or 'name' not in value:
            raise self.error(path, f"{value!r} needs a key 'name', one of {', '.join(variants)}")
        if isinstance(value['name'], Given):
            value = {**value, 'name': value['name'].text}
        if value['name'] not in variants:
            raise self.error(path + ('name',), f"unknown name '{value['name']}'{did_you_mean(value['name'], variants)}")
        return self.section(variants[value['name']], value, path)


def _coerce(hint, value):
    """Return ``value`` as ``hint``, or raise TypeError. An integer may stand for a float, nothing else may."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(value, Given):
        if hint is str:
            return os.path.expanduser(value.text)
        if origin is not Union or str not in arguments:
            value = value.value
    if hint is Any:
        return value
    if origin is Union:
        for choice in sorted(arguments, key=lambda choice: choice is str):  # text takes anything that is given
            if isinstance(value, Given) and choice is not str and value.unreadable:
                continue
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
    if hint is str and isinstance(value, str):
        return os.path.expanduser(value)  # text that begins with ~ is a path, whatever the key
    if hint is bool and isinstance(value, bool):
        return value
    raise TypeError


def describe(hint):
    """Return a type of the schema in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union:
        return ' or '.join(describe(choice) for choice in arguments)
    if origin is tuple:
        if arguments[1:] == (Ellipsis,):
            return f'a list, each element {describe(arguments[0])}'
        return f'a list of {len(arguments)}, each {describe(arguments[0])}'
    if origin is not None:
        return 'a mapping'
    return {int: 'a whole number', float: 'a finite number', bool: 'true or false', str: 'text',
            type(None): 'null'}.get(hint, hint.__name__)


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
        if look_up and isinstance(section, dict) and isinstance(section.get('name'), Given):
            section['name'] = section['name'].text
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


def method_from_tree(tree, method_options, place='configuration'):
    """Build the :class:`MethodConfig` alone from a mapping that has ``name``, as :func:`from_tree` does."""
    return _Reader(place, {}, ()).section(MethodConfig, tree, ('method',), method_options(tree['name']))


def load(path, overrides=(), *, data_options, method_options):
    """Read the YAML file ``path``, apply ``overrides`` and return a checked :class:`Config`.

    :param overrides: pairs (dotted key, value) as :func:`parse_overrides` returns; later ones win.
    :param data_options: name of a data set → dataclass of its options; raises ConfigError if unknown.
    :param method_options: the same for methods.
    :raises ConfigError: with file, line, key, value and rule.
    """
    tree, lines = _parsed(path)
    if isinstance(tree, dict):
        tree, overrides = with_new_names(tree, str(path)), [(new_key(key), value) for key, value in overrides]
        lines = {tuple(new_key('.'.join(keys)).split('.')): line for keys, line in lines.items()}
        for section, schema, look_up in (('data', DataConfig, data_options), ('method', MethodConfig, method_options)):
            drop_unknown(tree, section, overrides, look_up, {f.name for f in dataclasses.fields(schema)}, path)
        apply_overrides(tree, overrides)
    return from_tree(tree, data_options, method_options, str(path), lines, {key for key, _ in overrides})


def digest(path):
    """Return the SHA-256 of the values that the file ``path`` gives, as hexadecimal digits.

    Comments, layout, the order of keys and how a number is written do not count.

    :raises ConfigError: if it cannot be read or is not YAML.
    """
    values, _ = _parsed(path)
    return hashlib.sha256(repr(_in_order(values)).encode()).hexdigest()


def _in_order(values):
    if isinstance(values, dict):
        return sorted((str(key), _in_order(value)) for key, value in values.items())
    return [_in_order(value) for value in values] if isinstance(values, list) else values


def _parsed(path):
    """Return what the YAML file ``path`` says and the line of each of its keys, as :func:`.yaml_text.parse` does."""
    try:
        with open(path, encoding='utf-8') as stream:
            text = stream.read(BYTES + 1)
    except OSError as error:
        raise ConfigError(f"cannot read configuration '{path}': {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"'{path}' is not a text file in UTF-8") from None
    if len(text) > BYTES:
        raise ConfigError(f"'{path}' is no configuration: it has more than {BYTES:,} characters")
    return yaml_text.parse(text, str(path))


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

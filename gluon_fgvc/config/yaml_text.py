"""YAML as configurations are written in it: safe, without repeated keys, and no larger than a person writes."""
import re

import yaml

from gluon_fgvc.errors import ConfigError

NODES = 20_000  # more than any configuration needs


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``1e-4`` is a number and a repeated key an error."""


_Loader.yaml_implicit_resolvers = {key: list(value) for key, value in yaml.SafeLoader.yaml_implicit_resolvers.items()}
_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float', re.compile(r'^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)$'), list('-+.0123456789'))


def _mapping_without_repeats(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f'line {key.start_mark.line + 1}: a list or mapping is no key')
        if key.value in seen:
            raise ConfigError(f"line {key.start_mark.line + 1}: key '{key.value}' is given twice")
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor('tag:yaml.org,2002:map',
                        lambda loader, node: _mapping_without_repeats(loader, node, deep=True))


def parse(text, place):
    """Return (value, {key path: line number}) of a YAML text."""
    try:
        node = yaml.compose(text, Loader=_Loader)
        _check_size(node)
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


def _check_size(node):
    """Refuse what aliases (``*name``) multiply, before it is multiplied."""
    count, waiting = 0, [node]
    while waiting:
        node = waiting.pop()
        count += 1
        if count > NODES:
            raise ConfigError(f'more than {NODES:,} values, where aliases (*name) count as what they stand for')
        if isinstance(node, yaml.MappingNode):
            waiting += [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value

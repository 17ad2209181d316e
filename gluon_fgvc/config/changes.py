"""Changing a configuration that has been read: another one, checked like the first."""
import dataclasses
from typing import Mapping

from gluon_fgvc.config.overrides import apply_overrides
from gluon_fgvc.config.reading import from_tree, to_tree
from gluon_fgvc.config.renamed import new_key
from gluon_fgvc.errors import ConfigError


def replace(config, changes, *, data_options=None, method_options=None):
    """Return ``config`` with ``changes``, checked as if it had been read so.

    :param changes: mapping, or pairs of which later ones win, of dotted keys to values. The key of a section or group
        replaces it whole, which is how a method gives way to another: ``{'method': {'name': 'finetune'}}``.
    :param data_options, method_options: as of :func:`load`; without them the names stay as they are.
    :raises ConfigError: for unknown keys, for values that break a rule, and for a new name without its look-up.
    """
    pairs = [(new_key(key), value) for key, value in (changes.items() if isinstance(changes, Mapping) else changes)]
    tree = to_tree(config)
    apply_overrides(tree, pairs)
    return from_tree(tree, data_options or _options_of(config.data), method_options or _options_of(config.method),
                     overridden={key for key, _ in pairs})


def _options_of(section):
    """Return a look-up that knows the options of ``section`` as it is."""
    def look_up(name):
        if name != section.name:
            raise ConfigError(f"the options of '{name}' are not known here, only those of '{section.name}'")
        return None if section.options is None else type(section.options)
    return look_up


def untrained(config):
    """Return ``config`` for a network whose parameters come from a checkpoint: nothing names pretrained ones.

    Which options do is said where they are declared, see :func:`option`.
    """
    return replace(config, dict(_untrained(config)))


def _untrained(value, path=()):
    for field in dataclasses.fields(value):
        own = path if field.name == 'options' else (*path, field.name)  # options are keys of their section
        if 'untrained' in field.metadata:
            yield '.'.join(own), field.metadata['untrained']
        elif dataclasses.is_dataclass(getattr(value, field.name)):
            yield from _untrained(getattr(value, field.name), own)

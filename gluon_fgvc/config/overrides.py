"""Overrides of a configuration as they are typed: words, whose meaning depends on the key."""
import re

from gluon_fgvc.config import yaml_text
from gluon_fgvc.errors import ConfigError


class Given:
    """The value of an override whose words YAML would read as something else than text: both, until the key is known.

    Keys that are text take the words as they are: ``data.root=2024-05-01`` is a folder.
    """

    def __init__(self, text, place):
        self.text, self.place = text, place

    @property
    def value(self):
        """What YAML makes of the words.

        :raises ConfigError: if they are not YAML.
        """
        return yaml_text.parse(self.text, self.place)[0]

    @property
    def unreadable(self):
        """Whether the words are not YAML."""
        try:
            yaml_text.parse(self.text, self.place)
        except ConfigError:
            return True
        return False

    def __eq__(self, other):
        return self.value == (other.value if isinstance(other, Given) else other)

    def __str__(self):
        return self.text

    __repr__ = __str__


def plain(value):
    """Return what YAML makes of a value of :func:`parse_overrides`, for keys that are known to be no text."""
    return value.value if isinstance(value, Given) else value


def _given(text, place):
    try:
        plain = yaml_text.parse(text, place)[0]
    except ConfigError:
        plain = None
    return text if plain == text else Given(text, place)


def parse_overrides(words):
    """Turn ``['train.epochs', '3', 'run.seed=1']`` into ``[('train.epochs', 3), ('run.seed', 1)]``.

    Both spellings, ``KEY VALUE`` and ``KEY=VALUE``, may be mixed. Values are YAML, except for keys that are text, which
    are not known here: what YAML would not leave as it is comes as :class:`Given`, which equals what YAML makes of it.
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
        pairs.append((key, _given(text, f"override '{key}'")))
    return pairs


def apply_overrides(tree, overrides):
    """Put the pairs (dotted key, value) that :func:`parse_overrides` returns into nested plain values, in place."""
    for key, value in overrides:
        *parents, last = key.split('.')
        node = tree
        for depth, name in enumerate(parents):
            if isinstance(node.get(name), Given):
                node[name] = node[name].value
            node = node.setdefault(name, {})
            if not isinstance(node, dict):
                raise ConfigError(f"override '{key}': '{'.'.join(parents[:depth + 1])}' is not a section")
        node[last] = value

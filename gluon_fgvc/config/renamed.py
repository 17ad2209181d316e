"""Keys and values of earlier versions, which are read until 0.3 under the names of today."""
import warnings

from gluon_fgvc.errors import ConfigError

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

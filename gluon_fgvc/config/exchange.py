"""A data set or method that an override puts in the place of the file's: it keeps the keys that both know."""
import dataclasses
import warnings

from gluon_fgvc.errors import ConfigError


def drop_unknown(tree, section, overrides, look_up, common, place):
    """Remove from ``tree[section]`` what the file says to its own data set or method alone, with a warning, in place.

    Nothing is removed unless ``overrides`` name another. A key that neither knows stays, for the reader to refuse, and
    so do keys that overrides give.

    :param overrides: pairs (dotted key, value); ``look_up`` name → dataclass of options, as of :func:`load`.
    :param common: names of the section's own keys.
    """
    values = tree.get(section)
    new = next((str(value) for key, value in reversed(overrides) if key == f'{section}.name'), None)
    old = values.get('name') if isinstance(values, dict) else None
    if new is None or not isinstance(old, str) or new == old:
        return
    try:
        before, after = ({field.name for field in dataclasses.fields(look_up(name))} for name in (old, new))
    except ConfigError:
        return  # an unknown name, which the reader refuses
    given = {key for key, _ in overrides}
    dropped = [key for key in values if key in before - after - common and f'{section}.{key}' not in given]
    for key in dropped:
        del values[key]
    if dropped:
        kept = [key for key in values if key in before & after]
        warnings.warn(f"{section}.name={new} in the place of {old}: dropped of {place}, as {new} does not have them: "
                      f"{', '.join(dropped)}; kept: {', '.join(kept) or 'nothing'}", stacklevel=2)

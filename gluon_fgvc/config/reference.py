"""All keys of a configuration, with their meaning, rule and default, as one page of Markdown."""
import dataclasses
import typing

from gluon_fgvc.config.reading import describe
from gluon_fgvc.config.schema import Config

_RULES = (('minimum', 'at least'), ('above', 'above'), ('maximum', 'at most'), ('below', 'below'))


def page(data_options, method_options):
    """Return the page.

    :param data_options: dict of data set → dataclass of its options; the same for methods.
    """
    lines = ['# All keys', '', 'Written by `python -m gluon_fgvc.commands.reference` from the schema; do not edit.', '',
             'A configuration has five sections; `KEY=VALUE` on a command line overrides a key, e.g. '
             '`train.optimizer.lr=0.01`.', '']
    own = {'data': ('Data set', data_options), 'method': ('Method', method_options)}
    for section in dataclasses.fields(Config):
        lines += [f'## `{section.name}`', '', *_table(section.type, section.name)]
        what, options = own.get(section.name, (None, {}))
        for name, schema in options.items():
            if dataclasses.fields(schema):
                lines += [f'### {what} `{name}`', '', *_table(schema, section.name)]
    return '\n'.join(lines).rstrip() + '\n'


def _table(schema, path):
    """Return the lines of the table of ``schema``, and of those below it."""
    lines, below, hints = ['| key | default | meaning |', '|---|---|---|'], [], typing.get_type_hints(schema)
    for field in dataclasses.fields(schema):
        key, rules = f'{path}.{field.name}', field.metadata
        if field.name == 'options':
            continue
        if 'variants' in rules:
            names = ', '.join(f'`{name}`' for name in rules['variants'])
            default = 'needed' if field.default_factory is dataclasses.MISSING else f'`{field.default_factory().name}`'
            lines.append(f'| `{key}.name` | {default} | {_sentence(rules.get("doc"))}one of {names} |')
            for name, variant in rules['variants'].items():
                below += [f'`{key}.name: {name}`', '', *_table(variant, key)]
        elif dataclasses.is_dataclass(hints[field.name]):
            below += [f'`{key}`: {rules.get("doc", "")}', '', *_table(hints[field.name], key)]
        elif rules:  # the name of a variant has none
            lines.append(f'| `{key}` | {_default(field)} | {_meaning(hints[field.name], rules)} |')
    return [*lines, '', *below]


def _default(field):
    if field.default is not dataclasses.MISSING:
        return f'`{_shown(field.default)}`'
    return 'needed' if field.default_factory is dataclasses.MISSING else f'`{_shown(field.default_factory())}`'


def _shown(value):
    """Return a value as YAML has it."""
    if isinstance(value, (tuple, list)):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None or isinstance(value, bool):
        return {None: 'null', True: 'true', False: 'false'}[value]
    return f'{value:.4g}' if isinstance(value, float) else str(value) or '""'


def _meaning(hint, rules):
    said = [f'{words} {rules[rule]:g}' for rule, words in _RULES if rule in rules]
    kind = ' or '.join(map(_shown, rules['choices'])) if 'choices' in rules else describe(hint)
    return (_sentence(rules.get('doc')) + ', '.join([kind, *said])).replace('|', r'\|')


def _sentence(text):
    return f'{text} — ' if text else ''

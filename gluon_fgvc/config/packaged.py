"""The configurations that the package brings: ``finetune/quickstart`` is one of them.

They lie in ``configs/`` of the source tree, which ``setup.py`` installs as ``gluon_fgvc/configs``.
"""
import difflib
import os
from pathlib import Path

from gluon_fgvc.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parents[1]


def folder():
    """Return the folder of the packaged configurations: of the installed package, or else of the source tree."""
    installed = _PACKAGE / 'configs'
    return installed if installed.is_dir() else _PACKAGE.parent / 'configs'


def names():
    """Return the sorted names of the packaged configurations, e.g. ``'finetune/quickstart'``."""
    return sorted(path.relative_to(folder()).with_suffix('').as_posix() for path in folder().glob('*/*.yaml'))


def find(name):
    """Return the path of configuration ``name``: of that file, or else of the packaged one, with or without .yaml.

    :raises ConfigError: naming the nearest if it is neither.
    """
    given = Path(name)
    if given.exists():
        return given
    word, known = given.as_posix(), names()
    for prefix in ('./', 'configs/'):
        word = word[len(prefix):] if word.startswith(prefix) else word
    word = word[:-len('.yaml')] if word.endswith('.yaml') else word
    if word in known:
        path = folder() / f'{word}.yaml'
        near_here = os.path.relpath(path)
        return path if near_here.startswith(os.pardir) else Path(near_here)
    near = difflib.get_close_matches(word, [*known, *(name.split('/')[1] for name in known)], 1)
    near = [name for name in known if near and near[0] in (name, name.split('/')[1])]
    hint = f"; did you mean '{near[0]}'?" if near else ''
    raise ConfigError(f"cannot read configuration '{name}': no such file, and no packaged configuration{hint} "
                      '(fgvc train --list-configs shows all)')

"""The predictor as one file: what :mod:`gluon_fgvc.deploy.predictor` needs of this package, and nothing else of it.

The exported folder gets a program that runs without this package and prepares images as evaluation did. It is not
written a second time: the definitions that the module reaches are copied from the modules of this package, with their
comments, in the order in which they need one another.
"""
import ast
import os
from graphlib import TopologicalSorter
from pathlib import Path

import gluon_fgvc

PREDICTOR = 'predictor.py'
_ROOT = Path(gluon_fgvc.__file__).parent
_PACKAGE = gluon_fgvc.__name__


def single_file():
    """Return the text of the file.

    :raises ValueError: if two modules give one name to different things, or import in a way that is not understood.
    """
    parts = _Parts()
    root = parts[f'{_PACKAGE}.deploy.predictor']
    root.need_all()
    imports = sorted({line for part in parts.values() for line in part.foreign_imports()},
                     key=lambda line: (not line.startswith('import'), line))
    taken, sections = {}, []
    for module in TopologicalSorter({module: part.asked for module, part in parts.items()}).static_order():
        part = parts[module]
        if not part.names():  # a package that passes names on
            continue
        for name in part.names():
            if taken.setdefault(name, part.module) != part.module:
                raise ValueError(f"both {taken[name]} and {part.module} have a '{name}'")
        sections.append(f'# --- from {part.module} '.ljust(95, '-') + '\n\n' + part.text())
    origin = (f'# Made by the export of {_PACKAGE} {gluon_fgvc.__version__} from the modules named below. '
              'Licence: Apache-2.0.')
    return '\n'.join([root.docstring(), origin, *imports, '', '', '\n\n\n'.join(sections)]) + '\n'


class _Parts(dict):
    """Module → its part, made when it is first asked for."""

    def __missing__(self, module):
        self[module] = _Part(module, self)
        return self[module]


class _Part:
    """The definitions of one module that are needed. ``asked`` are the modules that it takes some from."""

    def __init__(self, module, parts):
        self.module, self._parts, self.asked = module, parts, set()
        self._source = _path(module).read_text('utf-8')
        self._lines = self._source.splitlines()
        self._body = ast.parse(self._source).body
        self._defined, self._imported = {}, {}   # name → index of its statement; name → (module or None, text)
        self._kept, self._lines_of_imports = set(), set()
        for index, node in enumerate(self._body):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                self._note_import(node)
            else:
                self._defined.update(dict.fromkeys(_bound(node), index))

    def _note_import(self, node):
        for alias in node.names:
            if isinstance(node, ast.ImportFrom) and (node.module or '').split('.')[0] == _PACKAGE:
                if alias.asname or node.level:
                    raise ValueError(f'{self.module}:{node.lineno}: neither renamed nor relative imports are followed')
                self._imported[alias.name] = node.module, None
            else:
                renamed = f' as {alias.asname}' if alias.asname else ''
                origin = f'from {node.module} ' if isinstance(node, ast.ImportFrom) else ''
                name = (alias.asname or alias.name).split('.')[0]
                self._imported[name] = None, f'{origin}import {alias.name}{renamed}'

    def need_all(self):
        """Keep the whole module."""
        for index in range(1, len(self._body)):
            self._keep(index)

    def need(self, name):
        """Keep what ``name`` is, here or where it is imported from."""
        if name in self._defined:
            self._keep(self._defined[name])
        elif name in self._imported:
            self._follow(name)

    def _keep(self, index):
        if index in self._kept or isinstance(self._body[index], (ast.Import, ast.ImportFrom)):
            return
        self._kept.add(index)
        for name in sorted(_used(self._body[index])):
            self.need(name)
        for other, node in enumerate(self._body[1:], 1):
            if isinstance(node, (ast.Expr, ast.If)):  # it sets or checks something, when anything of the module is used
                self._keep(other)

    def _follow(self, name):
        module, line = self._imported[name]
        if line is not None:
            self._lines_of_imports.add(line)
            return
        asked = f'{module}.{name}' if _path(f'{module}.{name}') else module
        self.asked.add(asked)
        if asked == module:
            self._parts[module].need(name)
        else:  # a module: what is asked of it are its attributes
            for attribute in {found for index in sorted(self._kept) for found in
                              _attributes_of(self._body[index], name)}:
                self._parts[asked].need(attribute)

    def foreign_imports(self):
        return self._lines_of_imports

    def names(self):
        return [name for name, index in self._defined.items() if index in self._kept]

    def docstring(self):
        return ast.get_source_segment(self._source, self._body[0])

    def text(self):
        """Return the source of what is kept, each statement with the comments above it."""
        modules = {name for name, (module, line) in self._imported.items()
                   if line is None and _path(f'{module}.{name}')}
        chunks = []
        for index in sorted(self._kept):
            first, last = self._body[index - 1].end_lineno, self._body[index].end_lineno
            lines = self._lines[first:last]
            for node in ast.walk(self._body[index]):
                if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                    line, prefix = node.lineno - 1 - first, node.value.id + '.'
                    lines[line] = lines[line].replace(prefix + node.attr, node.attr)
            chunks.append('\n'.join(lines))
        return '\n'.join(chunks).strip('\n')


def _path(module):
    """Return the file of a module of the package, or None."""
    path = _ROOT.joinpath(*module.split('.')[1:])
    return next((file for file in (path.with_suffix('.py'), path / '__init__.py') if file.is_file()), None)


def _bound(node):
    """Return the names that a statement defines."""
    if isinstance(node, ast.Try):  # an import that may fail
        return [alias.asname or alias.name for inner in node.body for alias in inner.names]
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, 'target', None)]
    return [name.id for target in targets if target is not None for name in ast.walk(target)
            if isinstance(name, ast.Name)]


def _used(node):
    return {name.id for name in ast.walk(node) if isinstance(name, ast.Name)}


def _attributes_of(node, name):
    return {found.attr for found in ast.walk(node) if isinstance(found, ast.Attribute)
            and isinstance(found.value, ast.Name) and found.value.id == name}


def write(folder):
    """Write the file into ``folder``."""
    with open(os.path.join(folder, PREDICTOR), 'w', encoding='utf-8') as stream:
        stream.write(single_file())

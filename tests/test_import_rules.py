"""Who may import whom, read from the syntax trees, so that an import inside a function counts as well."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'gluon_fgvc'
TOOL_LINES = 150

# Part of the package → what it may import besides itself and EVERYWHERE. A dotted name allows that module only.
# Arrows run one way: commands → runs → pruning, studies, pages, explain, deploy → engine → methods → backbones, data →
# weights, nn, config → errors, files, machine.
MAY_IMPORT = {
    '': {'machine'},  # gluon_fgvc/__init__.py
    'errors': set(),
    'files': set(),
    'machine': set(),
    'run_folder': set(),
    'cli': {'commands.cli'},  # the name of earlier versions
    'config': set(),
    'nn': set(),
    'weights': set(),
    'data': {'config'},
    'backbones': {'nn', 'weights'},
    'methods': {'config', 'nn', 'backbones'},
    'engine': {'config', 'nn', 'methods.base'},
    'deploy': {'config', 'data', 'nn', 'methods.base'},  # data: the resize rule must not be written twice
    'explain': {'nn', 'methods.base', 'engine'},
    'pages': {'data.images', 'nn', 'engine', 'explain', 'run_folder'},  # images are read in one way
    'pruning': {'nn', 'engine', 'methods.base'},
    'studies': {'config', 'engine', 'pages', 'run_folder'},
    'runs': {'backbones', 'config', 'data', 'deploy', 'engine', 'explain', 'machine', 'methods', 'nn', 'pages',
             'pruning', 'run_folder', 'studies', 'weights'},
    'commands': {'backbones', 'config', 'data', 'deploy', 'engine', 'explain', 'machine', 'methods', 'nn', 'pages',
                 'pruning', 'run_folder', 'runs', 'studies', 'weights'},
}
EVERYWHERE = {'errors', 'files'}
FOREIGN = {'torch', 'd2l', 'tools', 'tests'}  # peers, the book, and what stands above the package


def imports(tree, module, modules):
    """Yield (line, absolute module name) of all imports in ``tree``, the syntax tree of ``module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                package = module if modules[module].name == '__init__.py' else module.rpartition('.')[0]
                parents = package.split('.')[:len(package.split('.')) - node.level + 1]
                base = '.'.join([*parents, *([base] if base else [])])
            for alias in node.names:
                submodule = f'{base}.{alias.name}'
                yield node.lineno, submodule if submodule in modules else base
        elif (isinstance(node, ast.Call) and getattr(node.func, 'attr', getattr(node.func, 'id', '')) in
              ('import_module', '__import__') and node.args and isinstance(node.args[0], ast.Constant)):
            yield node.lineno, str(node.args[0].value)


def forbidden(importer, imported):
    """Return why ``importer`` (a module of the package, without its name) may not import ``imported``, or None."""
    top = imported.split('.')[0]
    if top in FOREIGN:
        return f'the package does not import {top}'
    if top != PACKAGE or imported == PACKAGE:
        return None
    target = imported[len(PACKAGE) + 1:]
    part, target_part = importer.split('.')[0], target.split('.')[0]
    if part == target_part:
        if part == 'methods' and target.count('.') and target not in ('methods.base', importer):
            return 'a method imports no other method'
        return None
    if target_part in EVERYWHERE:
        return None
    allowed = MAY_IMPORT.get(part)
    if allowed is None:
        return f"'{part}' has no rule in MAY_IMPORT"
    if target in allowed or target_part in allowed:
        return None
    return f"'{part}' may import {', '.join(sorted(allowed)) or 'nothing'} besides errors and files"


def violations(root):
    """Return one line for each broken rule in the checkout ``root``."""
    files = sorted((root / PACKAGE).rglob('*.py'))
    modules = {'.'.join(file.relative_to(root).with_suffix('').parts).replace('.__init__', ''): file for file in files}
    found = []
    for module, file in modules.items():
        place, text = file.relative_to(root), file.read_text('utf-8')
        tree = ast.parse(text, str(place))
        # An empty __init__.py only marks a folder as a package.
        if not ast.get_docstring(tree) and (text.strip() or file.name != '__init__.py'):
            found.append(f'{place}:1: no docstring')
        for line, imported in sorted(set(imports(tree, module, modules))):
            reason = forbidden(module[len(PACKAGE) + 1:], imported)
            if reason:
                found.append(f'{place}:{line}: imports {imported}: {reason}')
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == 'set_np':
                found.append(f'{place}:{node.lineno}: set_np() changes every array of the process')
    for file in sorted((root / 'tools').glob('*.py')):
        text = file.read_text('utf-8')
        for line, imported in imports(ast.parse(text, str(file)), file.stem, {}):
            if imported.split('.')[0] == 'mxnet':
                found.append(f'{file.relative_to(root)}:{line}: imports mxnet: sorted behind it, gluon_fgvc comes '
                             'too late to set the threads')
        lines = len(text.splitlines())
        if lines > TOOL_LINES:
            found.append(f'{file.relative_to(root)}:{lines}: tools are thin, at most {TOOL_LINES} lines')
    return found


def test_this_project_keeps_the_rules():
    assert violations(ROOT) == []


GOOD = {
    'gluon_fgvc/__init__.py': '"""."""\nfrom gluon_fgvc import environment\n',
    'gluon_fgvc/machine/environment.py': '"""."""\n',
    'gluon_fgvc/errors.py': '"""."""\n',
    'gluon_fgvc/nn/__init__.py': '',
    'gluon_fgvc/nn/losses.py': '"""."""\nfrom gluon_fgvc.errors import UserError\nfrom . import __name__\n',
    'gluon_fgvc/methods/__init__.py': '"""."""\n',
    'gluon_fgvc/methods/base.py': '"""."""\n',
    'gluon_fgvc/methods/warn.py': '"""."""\nfrom gluon_fgvc.nn import losses\nfrom .base import Phase\n',
    'gluon_fgvc/methods/tasn.py': '"""."""\nimport gluon_fgvc.backbones.zoo\nimport mxnet\n',
    'gluon_fgvc/engine/train.py': '"""."""\nfrom gluon_fgvc.methods.base import Phase\n',
    'gluon_fgvc/runs/__init__.py': '',
    'gluon_fgvc/runs/training.py': '"""."""\nimport gluon_fgvc.methods\nfrom gluon_fgvc import data, deploy\n',
    'gluon_fgvc/data/__init__.py': '"""."""\n',
    'tools/train.py': 'import gluon_fgvc\n',
}


def plant(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_the_good_example_keeps_the_rules(tmp_path):
    assert violations(plant(tmp_path, GOOD)) == []


@pytest.mark.parametrize('file, text, says', [
    ('gluon_fgvc/nn/losses.py', '"""."""\nfrom gluon_fgvc.methods import base\n', ':2: imports gluon_fgvc.methods'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nfrom gluon_fgvc import data\n', 'imports gluon_fgvc.data:'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nfrom ..data import Loader\n', 'imports gluon_fgvc.data:'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nfrom .. import data\n', 'imports gluon_fgvc.data:'),
    ('gluon_fgvc/nn/losses.py', '"""."""\ndef f():\n    import gluon_fgvc.config\n', ':3: imports gluon_fgvc.config'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nimportlib.import_module("gluon_fgvc.config")\n', 'imports gluon_fgvc.config'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nimport torch.nn\n', 'imports torch.nn'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nfrom tools import train\n', 'imports tools'),
    ('gluon_fgvc/nn/losses.py', '"""."""\nnpx.set_np()\n', 'set_np'),
    ('gluon_fgvc/nn/losses.py', 'import mxnet\n', 'no docstring'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nfrom gluon_fgvc.methods.tasn import x\n', 'no other method'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nfrom . import tasn\n', 'no other method'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nimport gluon_fgvc.engine\n', 'imports gluon_fgvc.engine'),
    ('gluon_fgvc/engine/train.py', '"""."""\nfrom gluon_fgvc import methods\n', 'imports gluon_fgvc.methods:'),
    ('gluon_fgvc/engine/train.py', '"""."""\nfrom gluon_fgvc.methods import warn\n', 'imports gluon_fgvc.methods.warn'),
    ('gluon_fgvc/new.py', '"""."""\nimport gluon_fgvc.nn\n', 'no rule'),
    ('tools/train.py', 'import mxnet as mx\n\nfrom gluon_fgvc import cli\n', ':1: imports mxnet'),
    ('tools/train.py', 'x = 1\n' * (TOOL_LINES + 1), 'tools are thin'),
])
def test_a_planted_violation_is_found(tmp_path, file, text, says):
    found = violations(plant(tmp_path, {**GOOD, file: text}))
    assert len(found) == 1 and found[0].startswith(file) and says in found[0]

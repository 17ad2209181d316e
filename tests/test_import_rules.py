"""Who may import whom, read from the syntax trees, so that an import inside a function counts as well."""
import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = 'gluon_fgvc'
COMMAND_LINES = 150
FILE_LINES = 350  # more is more than one idea
HEAVY = {'mxnet', 'gluoncv', 'cv2'}

# Part of the package → what it may import besides itself and EVERYWHERE. A dotted name allows that module only.
# Arrows run one way: commands → runs → pruning, studies, pages, explain, deploy → engine → methods → backbones, data →
# weights, nn, config → errors, files, pickles, machine.
MAY_IMPORT = {
    '': {'api'},  # gluon_fgvc/__init__.py
    'api': {'backbones', 'config', 'data', 'deploy', 'engine', 'methods', 'runs'},
    '__main__': {'commands'},
    'choices': set(),
    'errors': set(),
    'files': set(),
    'pickles': set(),
    'machine': set(),
    'run_folder': set(),
    'cli': {'commands.cli'},  # the name of earlier versions
    'config': set(),
    'nn': set(),
    'weights': set(),
    'data': {'config'},
    'backbones': {'nn', 'weights'},
    'methods': {'config', 'nn', 'backbones'},
    'engine': {'config', 'nn', 'methods.base', 'run_folder', 'weights.mxnet_params'},  # a reader that checks sizes
    'deploy': {'config', 'data', 'nn', 'methods.base'},  # data: the resize rule must not be written twice
    'explain': {'nn', 'methods.base', 'engine', 'run_folder'},
    'pages': {'data.images', 'nn', 'engine', 'explain', 'run_folder'},  # images are read in one way
    'pruning': {'nn', 'engine', 'methods.base'},
    'studies': {'config', 'engine', 'pages', 'run_folder'},
    'runs': {'backbones', 'config', 'data', 'deploy', 'engine', 'explain', 'machine', 'methods', 'nn', 'pages',
             'pruning', 'run_folder', 'studies', 'weights'},
    'commands': {'backbones', 'config', 'data', 'deploy', 'engine', 'explain', 'machine', 'methods', 'nn', 'pages',
                 'pruning', 'run_folder', 'runs', 'studies', 'weights'},
}
EVERYWHERE = {'choices', 'errors', 'files', 'machine', 'pickles'}
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
    return f"'{part}' may import {', '.join(sorted(allowed)) or 'nothing'} besides {', '.join(sorted(EVERYWHERE))}"


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
        if len(text.splitlines()) > FILE_LINES:
            found.append(f'{place}:{FILE_LINES}: a file has at most {FILE_LINES} lines')
        for line, imported in sorted(set(imports(tree, module, modules))):
            reason = forbidden(module[len(PACKAGE) + 1:], imported)
            if reason:
                found.append(f'{place}:{line}: imports {imported}: {reason}')
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr == 'set_np':
                found.append(f'{place}:{node.lineno}: set_np() changes every array of the process')
            if (isinstance(node, ast.keyword) and node.arg == 'train_mode'
                    and getattr(node.value, 'value', None) is False):
                found.append(f'{place}:{node.value.lineno}: gradients outside training mode are wrong of max pooling '
                             'and of BatchNorm; nn.as_in_prediction differentiates what a network predicts')
    for file in sorted((root / 'tools').glob('*.py')):
        text = file.read_text('utf-8')
        for line, imported in imports(ast.parse(text, str(file)), file.stem, {}):
            if imported.split('.')[0] == 'mxnet':
                found.append(f'{file.relative_to(root)}:{line}: imports mxnet: sorted behind it, gluon_fgvc comes '
                             'too late to set the threads')
    for file in [*(root / 'tools').glob('*.py'), *(root / PACKAGE / 'commands').glob('*.py')]:
        lines = len(file.read_text('utf-8').splitlines())
        if lines > COMMAND_LINES and file.name != 'cli.py':
            found.append(f'{file.relative_to(root)}:{lines}: commands are thin, at most {COMMAND_LINES} lines')
    return found + [f'{room.relative_to(root)}/__init__.py:1: machine.prepare() does not come first, and the room '
                    f"imports one of {', '.join(sorted(HEAVY))}"
                    for room in sorted((root / PACKAGE).iterdir())
                    # Commands get at mxnet through other rooms.
                    if room.is_dir() and room.name != 'commands' and is_heavy(room) and not prepares_first(room)]


def is_heavy(room):
    """Return whether a file of ``room`` imports something that is checked before it is imported."""
    names = {name.split('.')[0] for file in room.rglob('*.py') for _, name in
             imports(ast.parse(file.read_text('utf-8')), file.stem, {file.stem: file})}
    return bool(names & HEAVY)


def prepares_first(room):
    """Return whether ``__init__.py`` calls ``machine.prepare()`` right after the import that this needs."""
    body = ast.parse((room / '__init__.py').read_text('utf-8')).body
    return [ast.unparse(node) for node in body[1:3]] == [f'from {PACKAGE} import machine', 'machine.prepare()']


def test_this_project_keeps_the_rules():
    assert violations(ROOT) == []


PREPARES = '"""."""\nfrom gluon_fgvc import machine\n\nmachine.prepare()\n'
GOOD = {
    'gluon_fgvc/__init__.py': '"""."""\nfrom gluon_fgvc import machine\n',
    'gluon_fgvc/machine/environment.py': '"""."""\n',
    'gluon_fgvc/errors.py': '"""."""\n',
    'gluon_fgvc/nn/__init__.py': '',
    'gluon_fgvc/commands/__init__.py': '',
    'gluon_fgvc/nn/losses.py': '"""."""\nfrom gluon_fgvc.errors import UserError\nfrom . import __name__\n',
    'gluon_fgvc/methods/__init__.py': PREPARES,
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
    ('gluon_fgvc/nn/losses.py', '"""."""\nloss.backward(train_mode=False)\n', ':2: gradients outside training mode'),
    ('gluon_fgvc/nn/losses.py', 'import json\n', 'no docstring'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nfrom gluon_fgvc.methods.tasn import x\n', 'no other method'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nfrom . import tasn\n', 'no other method'),
    ('gluon_fgvc/methods/warn.py', '"""."""\nimport gluon_fgvc.engine\n', 'imports gluon_fgvc.engine'),
    ('gluon_fgvc/engine/train.py', '"""."""\nfrom gluon_fgvc import methods\n', 'imports gluon_fgvc.methods:'),
    ('gluon_fgvc/engine/train.py', '"""."""\nfrom gluon_fgvc.methods import warn\n', 'imports gluon_fgvc.methods.warn'),
    ('gluon_fgvc/new.py', '"""."""\nimport gluon_fgvc.nn\n', 'no rule'),
    ('gluon_fgvc/methods/__init__.py', '"""."""\n', 'machine.prepare() does not come first'),
    ('gluon_fgvc/methods/__init__.py', '"""."""\nfrom mxnet import nd\n' + PREPARES, 'machine.prepare() does not'),
    ('gluon_fgvc/data/__init__.py', '"""."""\nimport cv2\n', 'machine.prepare() does not come first'),
    ('gluon_fgvc/commands/train.py', '"""."""\n' * (COMMAND_LINES + 1), 'commands are thin'),
    ('tools/train.py', 'import mxnet as mx\n\nfrom gluon_fgvc import cli\n', ':1: imports mxnet'),
    ('gluon_fgvc/nn/losses.py', '"""."""\n' + 'x = 1\n' * FILE_LINES, 'a file has at most 350 lines'),
    ('tools/train.py', 'x = 1\n' * (COMMAND_LINES + 1), 'commands are thin'),
])
def test_a_planted_violation_is_found(tmp_path, file, text, says):
    found = violations(plant(tmp_path, {**GOOD, file: text}))
    assert len(found) == 1 and found[0].startswith(file) and says in found[0]

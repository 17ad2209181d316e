"""The names of what lies in a run folder stand in one place, read from the syntax trees."""
import ast
import re
from pathlib import Path

import pytest

from gluon_fgvc.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
OWNER = 'gluon_fgvc/run_folder'
NAMES = [name for key, name in ((key, getattr(RunFolder, key)) for key in vars(RunFolder) if key[0] != '_')
         if isinstance(name, str)]
FILES = [name for name in NAMES if '.' in name]
FOLDERS = [name for name in NAMES if '.' not in name]
# Folders of its own, in which a file has the name of a run's.
EXCEPTIONS = {('predict.py', 'predictions.csv')}


def texts(tree):
    """Yield (line, text, whether it is what a path is divided by) of all strings but docstrings; '{}' for values."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    skipped = {id(node.body[0].value) for node in ast.walk(tree)
               if isinstance(node, documented) and node.body and isinstance(node.body[0], ast.Expr)}
    joined = {id(node.right) for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped.update(map(id, node.values))
            text = ''.join(part.value if isinstance(part, ast.Constant) else '{}' for part in node.values)
            yield node.lineno, text, id(node) in joined
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped:
            yield node.lineno, node.value, id(node) in joined


def name_in(text, divides):
    """Return the name of a run's file that ``text`` is, or ends with as a path does, or None."""
    if re.search(r'\s', text):
        return None  # a sentence may speak of files
    last = text.rpartition('/')[2]
    for name in FILES:
        stem, dot, ending = name.rpartition('.')
        if last == name or (stem and re.fullmatch(rf'{re.escape(stem)}[_{{].*\.{ending}', last)):
            return name
    return next((name for name in FOLDERS if (text == name and divides) or text.startswith(f'{name}/')), None)


def violations(root):
    """Return one line for each name of a run's file that is written outside of its owner."""
    found = []
    for file in sorted([*(root / 'gluon_fgvc').rglob('*.py'), *(root / 'tools').glob('*.py')]):
        place = file.relative_to(root).as_posix()
        if not place.startswith(OWNER):
            for line, text, divides in texts(ast.parse(file.read_text('utf-8'), place)):
                name = name_in(text, divides)
                if name and (file.name, name) not in EXCEPTIONS:
                    found.append(f"{place}:{line}: '{text}': RunFolder has the name '{name}'")
    return found


def test_this_project_keeps_the_rule():
    assert len(NAMES) > 15 and {'config.yaml', 'last.json', 'export', '.lock'} <= set(NAMES)
    assert violations(ROOT) == []


@pytest.mark.parametrize('code, finds', [
    ("open(folder / 'config.yaml')", 'config.yaml'),
    ("path = 'work_dirs/a/last.json'", 'last.json'),
    ("path = f'{folder}/metrics.jsonl'", 'metrics.jsonl'),
    ("path = f'evaluation{suffix}.json'", 'evaluation.json'),
    ("path = 'predictions_val.csv'", 'predictions.csv'),
    ("path = folder / 'export'", 'export'),
    ("stem = f'checkpoints/{kind}-1'", 'checkpoints'),
    ("def f():\n    return '.lock'", '.lock'),
    ("words = ['export', 'checkpoints']", None),
    ("say('evaluation.json has all')", None),
    ("path = results / f'{study}.json'", None),
    ('def f():\n    """report.html"""', None)])
def test_planted_names_are_found(tmp_path, code, finds):
    for place in ('gluon_fgvc/runs/new.py', 'gluon_fgvc/run_folder/new.py'):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).write_text(code + '\n')
    found = violations(tmp_path)
    assert [line.rpartition("'")[0].rpartition("'")[2] for line in found] == ([finds] if finds else [])
    assert all(line.startswith('gluon_fgvc/runs/new.py:') for line in found)

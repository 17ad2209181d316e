"""The notebook of the hot dog chapter runs, cell by cell, on a few drawn pictures; it carries no outputs."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import hotdog_archive

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / 'docs/tutorials/hotdog.ipynb'


@pytest.fixture(scope='module')
def cells():
    tree = json.loads(NOTEBOOK.read_text('utf-8'))
    assert (tree['nbformat'], tree['nbformat_minor']) == (4, 5)
    return tree['cells']


def code_of(cells):
    return [''.join(cell['source']) for cell in cells if cell['cell_type'] == 'code']


def test_it_is_clean(cells):
    assert len({cell['id'] for cell in cells}) == len(cells)
    for cell in cells:
        assert cell['cell_type'] in ('markdown', 'code') and cell['metadata'] == {}
        assert all(len(line.rstrip('\n')) <= 125 for line in cell['source'])
        if cell['cell_type'] == 'code':
            assert cell['outputs'] == [] and cell['execution_count'] is None
            compile(''.join(cell['source']), cell['id'], 'exec')
    text = ''.join(line for cell in cells for line in cell['source'])
    assert not re.search(r'''["'(\s]/(home|tmp|root|work|mnt|Users)\b|image/png''', text)


@pytest.mark.slow  # eight trainings
def test_it_runs_from_the_first_cell_to_the_last_and_again(cells, tmp_path):
    hotdog_archive.write(tmp_path / 'hotdog.zip', 20, 5, 72)
    # As a kernel does: one process, one namespace, cell after cell.
    program = '''
import json, sys
names = {}
for number, cell in enumerate(json.load(open(sys.argv[1], encoding='utf-8'))):
    exec(compile(cell, f'cell {number}', 'exec'), names)
print(json.dumps({name: [result['top1'], result['images']] for name, result in names['results'].items()}))
print(names['recipe'].folder, len(names['looked']))
'''
    (tmp_path / 'cells.json').write_text(json.dumps(code_of(cells)), 'utf-8')
    environment = {**os.environ, 'PYTHONPATH': str(ROOT), 'MPLBACKEND': 'agg', 'HOTDOG_FAST': '1', 'HOTDOG_DATA': '.',
                   'OMP_NUM_THREADS': '1'}

    def run():
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program, 'cells.json'], cwd=tmp_path,
                              env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        assert "['hotdog', 'not-hotdog'] {'train': 36, 'val': 4, 'test': 10}" in done.stdout
        return done.stdout.splitlines()[-2:]
    results, others = run()
    found = json.loads(results)
    assert list(found) == ['fine-tuned', 'from scratch', 'recipe', 'recipe, from scratch', 'frozen', "ImageNet's row"]
    assert all(0 <= top1 <= 1 and images == 10 for top1, images in found.values())
    assert others == f"{Path('work_dirs/hotdog_notebook/fast/recipe')} 8"
    assert run() == [results, others]  # trained runs are opened
    for folder in (tmp_path / 'work_dirs/hotdog_notebook/fast').iterdir():  # and not tested again
        tests = folder / 'test_evaluations.jsonl'
        assert folder.name.startswith('rate') != tests.exists()
        assert not tests.exists() or len(tests.read_text().splitlines()) == 1

"""A thousand damaged checkpoints, and what they may do: be refused in one line, or load as what they should be."""
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name('mutated_checkpoints.py')


@pytest.mark.parametrize('first, count', [(0, 100), pytest.param(100, 900, marks=pytest.mark.slow)])
def test_damaged_checkpoints_do_nothing_but_fail_or_load(tmp_path, first, count):
    root = str(Path(__file__).parents[2])
    done = subprocess.run([sys.executable, str(SCRIPT), str(first), str(count), str(tmp_path)], capture_output=True,
                          text=True, env={**os.environ, 'PYTHONPATH': root, 'OMP_NUM_THREADS': '1'})
    assert done.returncode == 0, done.stderr  # a crash of the interpreter shows here
    result = json.loads(done.stdout)
    assert result['problems'] == []
    assert result['loaded'] + result['refused'] == count and result['peak'] < 1
    assert result['loaded'] > count / 10 and result['refused'] > count / 2  # both kinds were met

"""No damaged file ends the interpreter, shows a traceback or costs a file of the user."""
import subprocess
import sys

import pytest

from tests.small_run import ROOT


def mutated(folder, count, seed):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'tests.faults.mutations', str(folder), str(count),
                           str(seed)], cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0 and f'{count} mutated files: 0 findings' in done.stdout, done.stdout + done.stderr


def test_one_of_each_kind(tmp_path):
    mutated(tmp_path, 16, 0)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(36000)
def test_two_thousand(tmp_path):
    mutated(tmp_path, 2000, 1000)

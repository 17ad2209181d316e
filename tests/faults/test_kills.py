"""Trainings that are killed at random moments, over all methods, end as those that are left alone."""
import subprocess
import sys

import pytest

from tests.small_run import ROOT


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(36_000)
def test_twelve_hundred_kills(tmp_path):
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'tests.faults.kills', str(tmp_path), '1200', '1'],
                          cwd=ROOT, capture_output=True, text=True)
    print(done.stdout)
    assert done.returncode == 0 and '0 unreadable checkpoints, 0 differing ends, 0 failed' in done.stdout, done.stderr

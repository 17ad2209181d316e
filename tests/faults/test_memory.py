"""Memory does not grow: over 10,000 predictions by more than 1 %, over a training by more than 2 %."""
import re
import subprocess
import sys

import pytest

from tests.faults.memory import growth
from tests.small_run import ROOT


def measured(*words):
    """Return the growth in a process of its own, in percent."""
    done = subprocess.run([sys.executable, '-W', 'ignore', '-m', 'tests.faults.memory', *map(str, words)], cwd=ROOT,
                          capture_output=True, text=True)
    print(done.stdout)
    return float(re.search(r'([+-][\d.]+)%', done.stdout + done.stderr).group(1))


def test_growth():
    assert growth([9] * 5 + [4] * 5 + [7] * 10 + [5] * 5) == (4, 5, 0.25)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_over_ten_thousand_predictions(tmp_path):
    assert measured('predictions', tmp_path, 10_000) <= 1


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(10_000)
@pytest.mark.parametrize('seconds', [600, 7200])
def test_over_a_training(tmp_path, seconds):
    assert measured('training', tmp_path, seconds) <= 2

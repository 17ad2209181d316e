"""What docs/adding_a_method.md says is true: its code passes the contract, trains, resumes, reports and exports."""
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests import small_run
from tests.engine.test_kill import wait_for

ROOT = Path(__file__).parents[1]
TRAIN = ('import sys; sys.path.insert(0, {root!r}); from tests import documented_method; documented_method.add(); '
         'from gluon_fgvc.commands import cli, {tool}; sys.exit(cli.run({tool}.main, {words!r}))')


def start(folder, tool, *words):
    code = TRAIN.format(root=str(ROOT), tool=tool, words=list(map(str, words)))
    return subprocess.Popen([sys.executable, '-c', code], cwd=folder, text=True, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, env={**os.environ, 'PYTHONPATH': str(ROOT)})


def run(folder, tool, *words):
    process = start(folder, tool, *words)
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


@pytest.mark.timeout(600)
def test_it_keeps_the_contract():
    words = ['-q', '-p', 'tests.documented_method', '-p', 'no:cacheprovider', 'tests/test_method_contract.py', '-k',
             'documented']
    done = subprocess.run([sys.executable, '-m', 'pytest', *words], cwd=ROOT, text=True, stdout=subprocess.PIPE,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 0, done.stdout[-3000:]
    assert 'passed' in done.stdout and 'failed' not in done.stdout


@pytest.mark.parametrize('method', ['documented', pytest.param('pmg', marks=pytest.mark.slow)])
def test_it_trains_resumes_reports_and_exports(tmp_path, method):
    small_run.write(tmp_path)
    options = ', features: 8, lr_mult: 1' if method == 'pmg' else ''
    text = (tmp_path / 'cfg.yaml').read_text().replace('{name: finetune, lr_mult: 1, dropout: 0.3}',
                                                       f'{{name: {method}{options}}}')
    (tmp_path / 'cfg.yaml').write_text(text)
    words = ['--cfg', 'cfg.yaml', 'train.epochs=4']
    whole = run(tmp_path, 'train', *words, '--work-dir', 'whole')
    assert 'sha256' in whole and (tmp_path / 'whole/report.html').stat().st_size > 10_000
    process = start(tmp_path, 'train', *words, '--work-dir', 'cut')
    assert wait_for(lambda: (tmp_path / 'cut/last.json').exists(), 120)
    process.kill()
    assert 'sha256' not in process.communicate()[0]  # it had an epoch to go
    resumed = run(tmp_path, 'train', '--cfg', 'cfg.yaml', '--resume', 'cut', 'train.epochs=4')
    assert 'resuming after epoch' in resumed

    def digest(text):
        return text.split('sha256 ')[1].split()[0]
    assert digest(resumed) == digest(whole)
    said = run(tmp_path, 'export', 'whole')
    assert 'largest difference from the network' in said
    from gluon_fgvc.deploy import Predictor
    pixels = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3)).astype('uint8')
    probabilities = Predictor(tmp_path / 'whole/export').predict_batch(pixels)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)

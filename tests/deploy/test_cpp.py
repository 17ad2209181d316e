"""The C++ program of docs/deployment.md, compiled and run on an export."""
import os
import re
import shutil
import subprocess
from pathlib import Path

import mxnet
import numpy as np
import pytest

from gluon_fgvc import deploy
from tests.deploy.small import build_net, export_net

PAGE = Path(__file__).parents[2] / 'docs/deployment.md'
LIBRARY = os.path.dirname(mxnet.__file__)


@pytest.fixture(scope='module')
def program(tmp_path_factory):
    if not shutil.which('g++'):
        pytest.skip('there is no g++')
    if not os.path.exists(os.path.join(LIBRARY, 'include/mxnet/c_predict_api.h')):
        pytest.skip('this MXNet brings no c_predict_api.h')
    folder, text = tmp_path_factory.mktemp('cpp'), PAGE.read_text('utf-8')
    source = next(code for code in re.findall(r'```cpp\n(.*?)```', text, re.S) if 'c_predict_api.h' in code)
    (folder / 'classify.cpp').write_text(source)
    command = re.search(r'^g\+\+ .*$', text, re.M)[0]
    done = subprocess.run(f'{command} -Wall -Wextra -Werror', shell=True, cwd=folder, capture_output=True, text=True,
                          env={**os.environ, 'MX': LIBRARY})
    assert done.returncode == 0, done.stderr
    return folder / 'classify'


def test_it_prints_the_predictors_probabilities(program, tmp_path):
    export_net(build_net(), tmp_path / 'export', bake_preprocessing=True, bake_softmax=True)
    image = np.random.RandomState(0).randint(0, 256, (24, 20, 3)).astype('uint8')
    image.tofile(tmp_path / 'image.rgb')
    done = subprocess.run([program, 'export', '24', '20', 'image.rgb'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = deploy.Predictor(tmp_path / 'export', engine='mxnet').predict([image])[0]
    np.testing.assert_allclose([float(line) for line in done.stdout.split()], expected, rtol=0, atol=1e-6)
    assert np.ptp(expected) > 1e-3


def test_it_says_what_is_wrong(program, tmp_path):
    done = subprocess.run([program, 'export', '24', '20', 'none.rgb'], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr == 'error: cannot read none.rgb\n'

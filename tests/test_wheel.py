"""The wheel: what it holds, and that it trains, evaluates, exports and predicts where there is no source tree."""
import os
import shutil
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gluon_fgvc import __version__, config
from gluon_fgvc.commands import entry, study
from tests import small_run

ROOT = Path(__file__).parents[1]


def run(*words, cwd, code=0):
    """Run a command that must end with ``code``, without any path of this source tree; return what it prints."""
    variables = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
    done = subprocess.run([*map(str, words)], cwd=cwd, env=variables, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel, built from a copy: building leaves files beside what it builds."""
    source, out = tmp_path_factory.mktemp('source'), tmp_path_factory.mktemp('wheel')
    for name in ('gluon_fgvc', 'configs'):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('setup.py', 'pyproject.toml', 'README.md', 'LICENSE'):
        shutil.copy(ROOT / name, source)
    run(sys.executable, '-m', 'pip', 'wheel', '-q', '--disable-pip-version-check', '--no-index', '--no-deps',
        '--no-build-isolation', '-w', out, source, cwd=out)
    path, = out.glob('*.whl')
    return path


def test_the_wheel_holds_package_configurations_and_types_and_nothing_else(wheel):
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if '.dist-info/' not in name}
        scripts = archive.read(next(n for n in archive.namelist() if n.endswith('entry_points.txt'))).decode()
    package = {str(path.relative_to(ROOT)) for path in (ROOT / 'gluon_fgvc').rglob('*')
               if path.is_file() and path.suffix != '.pyc'}
    assert held == package | {f'gluon_fgvc/configs/{name}.yaml' for name in config.names()}
    assert 'gluon_fgvc/py.typed' in held and 'fgvc = gluon_fgvc.commands.entry:main' in scripts


def test_an_installed_wheel_does_the_whole_job(wheel, tmp_path):
    """In an environment of its own, which sees the other packages of this one."""
    env, work = tmp_path / 'env', tmp_path / 'work'
    work.mkdir()
    small_run.write(work)
    run(sys.executable, '-m', 'venv', '--without-pip', env, cwd=tmp_path)
    python, fgvc = env / 'bin' / 'python', env / 'bin' / 'fgvc'
    folder, = (env / 'lib').glob('python*/site-packages')
    # Folders that such a file names come last, and .pth files in them, e.g. of an editable install, are not read.
    (folder / 'others.pth').write_text('\n'.join(site.getsitepackages()) + '\n')
    run(python, '-m', 'pip', '-q', '--disable-pip-version-check', 'install', '--no-index', '--no-deps',
        '--ignore-installed', wheel, cwd=tmp_path)

    assert run(python, '-c', 'import gluon_fgvc; print(gluon_fgvc.__file__)', cwd=work).startswith(str(folder))
    assert run(fgvc, '--version', cwd=work) == f'gluon_fgvc {__version__}\n'
    assert run(fgvc, 'train', '--list-configs', cwd=work).split() == config.names()
    assert 'elpv' in run(fgvc, 'train', '--cfg', 'finetune/quickstart', '--print-config', cwd=work)
    run(fgvc, 'train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--no-test', cwd=work)
    assert 'test: top-1 ' in run(fgvc, 'evaluate', 'run', cwd=work)
    run(fgvc, 'export', 'run', cwd=work)
    assert '4 images classified' in run(fgvc, 'predict', 'run/export', 'images/test', cwd=work)
    for made in 'report.html', 'evaluation.json', 'export/model.json':
        assert (work / 'run' / made).is_file()
    assert run(python, *study.TRAIN[1:], '--help', cwd=work).startswith('usage: fgvc train')
    assert 'not part of the installed package' in run(fgvc, 'benchmark', '--list', cwd=work, code=2)
    assert set(entry.COMMANDS) <= set(run(fgvc, '--help', cwd=work).split())

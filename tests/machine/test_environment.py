"""The environment's errors are one line with the remedy; its thread setting is what the machine offers."""
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_fgvc.machine import environment

ROOT = Path(environment.__file__).parents[2]
COMMAND = 'import sys; from gluon_fgvc.commands import cli; sys.exit(cli.run(lambda _: __import__("gluon_fgvc.nn")))'


def distribution(folder, name, version):
    """Make ``folder`` look like a place where ``name`` is installed."""
    info = folder / f'{name.replace("-", "_")}-{version}.dist-info'
    info.mkdir(parents=True)
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n')


def module(folder, name, text=''):
    (folder / name).mkdir(parents=True)
    (folder / name / '__init__.py').write_text(text)


@pytest.fixture
def machine(tmp_path):
    """A site folder in which nothing but what the test puts there is installed; NumPy is."""
    distribution(tmp_path, 'numpy', '1.23.5')
    return tmp_path


def python(code, site, **variables):
    """Run ``code`` where only the standard library, gluon_fgvc and ``site`` can be imported."""
    env = {key: value for key, value in os.environ.items() if key != 'OMP_NUM_THREADS'}
    env.update(PYTHONPATH=os.pathsep.join([str(site), str(ROOT)]), **variables)
    return subprocess.run([sys.executable, '-S', '-c', code], env=env, cwd=site, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def refused(site, before='pass'):
    """Return the one line with which a command that needs mxnet ends, after the code ``before``."""
    result = python(f'{before}; {COMMAND}', site)
    assert result.returncode == 1 and result.stdout == ''
    assert result.stderr.startswith('error: ') and result.stderr.count('\n') == 1, result.stderr
    return result.stderr[len('error: '):-1]


# --- one line each, in a process of its own --------------------------------------------------

@pytest.mark.parametrize('version', [(3, 8), (3, 12)])
def test_other_python(machine, version):
    line = refused(machine, f'import sys; sys.version_info = {version} + (1, "final", 0)')
    assert line.startswith('Python {}.{} cannot run MXNet'.format(*version))
    assert line.endswith('use Python 3.9 to 3.11, e.g. python3.11 -m venv .venv')


@pytest.mark.parametrize('version', ['1.21.6', '1.24.0', '1.24.0rc1', '2.0.1'])
def test_other_numpy(tmp_path, version):
    distribution(tmp_path, 'numpy', version)
    assert refused(tmp_path) == (
        f"NumPy {version} breaks MXNet 1.9.1: pip install 'numpy>=1.22,<1.24'")


def test_no_numpy(tmp_path):
    assert refused(tmp_path) == "NumPy is not installed: pip install 'numpy>=1.22,<1.24'"


def test_no_mxnet(machine):
    line = refused(machine)
    assert "pip install 'gluon_fgvc[cpu]'" in line and "'gluon_fgvc[cu112]'" in line


def test_two_mxnets(machine):
    distribution(machine, 'mxnet', '1.9.1')
    distribution(machine, 'mxnet-cu112', '1.9.1')
    line = refused(machine)
    assert line.startswith('mxnet and mxnet-cu112 are installed over one another: pip uninstall -y mxnet mxnet-cu112')
    assert line.endswith('then pip install one of mxnet==1.9.1, mxnet-cu112==1.9.1')


def test_other_mxnet(machine):
    distribution(machine, 'mxnet-cu101', '1.6.0')
    assert refused(machine) == (
        'mxnet-cu101 1.6.0 is installed, and 1.9.1 is needed: pip install mxnet-cu101==1.9.1')


@pytest.mark.parametrize('library, remedy', [
    ('libgomp.so.1', 'apt-get install -y libgomp1'),
    ('libquadmath.so.0', 'apt-get install -y libquadmath0'),  # MXNet carries libgfortran, which links it
    ('libcudnn.so.8', 'pip install nvidia-cudnn-cu11==8.9.6.50'),
    ('libcuda.so.1', 'install the driver, or use the CPU: pip uninstall -y mxnet && pip install mxnet==1.9.1'),
    ('libstrange.so.7', 'install the package that carries it'),
])
def test_mxnet_misses_a_library(machine, library, remedy):
    distribution(machine, 'mxnet', '1.9.1')
    module(machine, 'mxnet', f'raise OSError("{library}: cannot open shared object file: No such file or directory")')
    line = refused(machine)
    assert library in line and line.endswith(remedy)


def test_opencv_misses_a_library(machine):
    distribution(machine, 'mxnet', '1.9.1')
    module(machine, 'mxnet')
    module(machine, 'cv2', 'raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")')
    line = refused(machine)
    assert line.startswith('opencv-python needs the system library libGL.so.1')
    assert line.endswith('apt-get install -y libgl1')


def test_broken_mxnet_names_the_cause_on_one_line(machine):
    distribution(machine, 'mxnet', '1.9.1')
    module(machine, 'mxnet', 'raise RuntimeError("Cannot find the MXNet library.\\nList of candidates:")')
    assert refused(machine) == (
        'mxnet cannot be imported (Cannot find the MXNet library. List of candidates:): '
        'pip install --force-reinstall --no-deps mxnet==1.9.1')


@pytest.mark.parametrize('door', ['import gluon_fgvc.data', 'from gluon_fgvc.nn import ISQRTCov',
                                  'import gluon_fgvc; gluon_fgvc.train'])
def test_every_door_leads_past_the_check_and_the_error_can_be_caught(machine, door):
    result = python(f'try: {door}\nexcept ImportError as error: print(type(error).__name__, error)', machine)
    assert (result.returncode, result.stderr) == (0, '') and result.stdout.startswith('SetupError MXNet is not inst')


def test_nothing_is_needed_until_then(tmp_path):
    """Not even NumPy; and the interpreter's own hooks stay."""
    code = 'import sys; from gluon_fgvc import errors, files; print(sys.excepthook is sys.__excepthook__)'
    result = python(code, tmp_path)
    assert (result.returncode, result.stdout, result.stderr) == (0, 'True\n', '')
    for words in (['--version'], ['--help'], ['train', '--help']):
        result = python(f'import sys; from gluon_fgvc.commands.entry import main; sys.exit(main({words}))', tmp_path)
        assert (result.returncode, result.stderr) == (0, '')


def test_defects_inside_mxnet_keep_their_traceback(machine):
    distribution(machine, 'mxnet', '1.9.1')
    module(machine, 'mxnet', 'None.x')
    result = python(COMMAND, machine)
    assert result.stderr.startswith('Traceback') and 'AttributeError' in result.stderr


def test_mxnet_built_from_source_is_accepted(machine):
    module(machine, 'mxnet')
    module(machine, 'cv2')
    assert python('from gluon_fgvc import machine; machine.prepare()', machine).returncode == 0


# --- threads ---------------------------------------------------------------------------------

PRINT_THREADS = 'import gluon_fgvc, os; print(os.environ.get("OMP_NUM_THREADS"))'


@pytest.fixture
def good_machine(machine):
    distribution(machine, 'mxnet', '1.9.1')
    # This mxnet tells what the real one would have seen while it was imported.
    module(machine, 'mxnet', 'import os; seen = os.environ.get("OMP_NUM_THREADS")')
    module(machine, 'cv2')
    return machine


def test_threads_are_set_before_mxnet_is_imported(good_machine):
    for door in 'import gluon_fgvc', 'from gluon_fgvc import machine; machine.prepare()':
        result = python(f'{door}; import mxnet; print(mxnet.seen)', good_machine)
        assert result.stdout == f'{environment.available_cpus()}\n' and result.stderr == ''


def test_the_users_threads_stay(good_machine):
    assert python(PRINT_THREADS, good_machine, OMP_NUM_THREADS='7').stdout == '7\n'


def test_mxnet_imported_first_warns_in_one_line(good_machine):
    result = python('import mxnet; ' + PRINT_THREADS, good_machine)
    assert result.stdout == 'None\n'
    assert result.stderr.count('\n') == 1 and 'import gluon_fgvc before mxnet' in result.stderr
    assert python('import mxnet; import gluon_fgvc', good_machine, OMP_NUM_THREADS='1').stderr == ''


def test_affinity_counts():
    code = 'import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); ' + PRINT_THREADS
    env = {key: value for key, value in os.environ.items() if key != 'OMP_NUM_THREADS'}
    result = subprocess.run([sys.executable, '-c', code], env={**env, 'PYTHONPATH': str(ROOT)}, text=True,
                            stdout=subprocess.PIPE, check=True)
    assert result.stdout == '1\n'


def group(root, path, **files):
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace('__', '.')).write_text(text + '\n')


@pytest.mark.parametrize('groups, membership, quotas', [
    ({}, '0::/\n', []),
    ({'': {'cpu__max': 'max 100000'}}, '0::/\n', []),
    ({'': {'cpu__max': '150000 100000'}}, '0::/\n', [1.5]),
    ({'a': {'cpu__max': '400000 100000'}, 'a/b': {'cpu__max': '50000 100000'}}, '0::/a/b\n', [4.0, 0.5]),
    ({'cpu,cpuacct': {'cpu__cfs_quota_us': '-1', 'cpu__cfs_period_us': '100000'}}, '4:cpu,cpuacct:/\n', []),
    ({'cpu,cpuacct': {'cpu__cfs_quota_us': '300000', 'cpu__cfs_period_us': '100000'}},
     '9:memory:/x\n4:cpu,cpuacct:/docker/abc\n0::/\n', [3.0]),
    ({'': {'cpu__max': 'broken'}}, '0::/\n', []),
])
def test_cgroup_quotas(tmp_path, groups, membership, quotas):
    for path, files in groups.items():
        group(tmp_path / 'cgroup', path, **files)
    (tmp_path / 'membership').write_text(membership)
    assert environment._cgroup_quotas(str(tmp_path / 'cgroup'), str(tmp_path / 'membership')) == quotas


def test_the_smaller_of_affinity_and_quota_counts(monkeypatch):
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(8)))
    for quotas, cpus in (([], 8), ([2.5], 3), ([16.0], 8), ([4.0, 0.2], 1)):
        monkeypatch.setattr(environment, '_cgroup_quotas', lambda quotas=quotas: quotas)
        assert environment.available_cpus() == cpus


# --- CUDA libraries --------------------------------------------------------------------------

class Loader:
    """Stands for ctypes.CDLL: records what is loaded, refuses what a test says is not there."""

    def __init__(self, absent=()):
        self.absent, self.loaded = absent, []

    def __call__(self, path, mode):
        name = os.path.basename(path)
        if name in self.absent or path != name and not os.path.exists(path):
            raise OSError(f'{path}: cannot open shared object file')
        self.loaded.append((path, mode))


def test_cuda_is_loaded_from_the_wheels_in_order_and_globally(monkeypatch, tmp_path):
    cudnn = tmp_path / 'nvidia/cudnn/lib/libcudnn.so.8'
    cudnn.parent.mkdir(parents=True)
    cudnn.touch()
    load = Loader()
    monkeypatch.setattr(environment.ctypes, 'CDLL', load)
    monkeypatch.setattr(sys, 'path', [*sys.path, str(tmp_path)])
    environment._preload_cuda()
    names = [os.path.basename(path) for path, _ in load.loaded]
    assert names == list(environment.CUDA_LIBRARIES)
    assert names.index('libcublasLt.so.11') < names.index('libcublas.so.11') < names.index('libcusolver.so.11')
    assert (str(cudnn), environment.ctypes.RTLD_GLOBAL) in load.loaded
    assert ('libnccl.so.2', environment.ctypes.RTLD_GLOBAL) in load.loaded  # no wheel: where the linker looks


def test_missing_cuda_libraries_name_their_wheels_once(monkeypatch):
    absent = ('libcublas.so.11', 'libcublasLt.so.11', 'libnccl.so.2')
    monkeypatch.setattr(environment.ctypes, 'CDLL', Loader(absent))
    with pytest.raises(environment.SetupError) as error:
        environment._preload_cuda()
    assert str(error.value) == ('mxnet-cu112 needs libcublasLt.so.11, libcublas.so.11, libnccl.so.2: '
                                'pip install nvidia-cublas-cu11==11.11.3.6 nvidia-nccl-cu11==2.21.5')


def test_cuda_is_loaded_only_for_the_cuda_wheel(machine):
    distribution(machine, 'mxnet-cu112', '1.9.1')
    module(machine, 'mxnet')
    assert refused(machine, 'import ctypes; ctypes.CDLL = lambda *a: open("/none")').startswith(
        'mxnet-cu112 needs libcudart.so.11.0, ')


# --- tools/check_system.py and setup.py ------------------------------------------------------

def check_system(*arguments, code='pass'):
    """Run the tool on a machine changed by ``code``, which sees its module as the dict ``environment``."""
    runner = (f'import runpy, sys, ctypes; {code}; sys.argv = ["check_system.py", *sys.argv[1:]]; '
              'runpy.run_path("tools/check_system.py", run_name="__main__")')
    return subprocess.run([sys.executable, '-S', '-c', runner, *arguments], cwd=ROOT, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)


NO_GL = 'real = ctypes.CDLL; ctypes.CDLL = lambda name, *a: open("/none") if name == "libGL.so.1" else real(name, *a)'


def test_check_system_passes_here():
    result = check_system()
    assert (result.returncode, result.stdout, result.stderr) == (0, '', '')


def test_check_system_prints_the_apt_line():
    result = check_system(code=NO_GL)
    assert result.returncode == 3
    assert result.stderr.endswith('apt-get install -y libgl1\n') and result.stderr.count('\n') == 1
    assert check_system('--print-packages', code=NO_GL).stdout == 'libgl1\n'
    assert check_system('--python-only', code=NO_GL).returncode == 0


def test_check_system_knows_debians_split_venv():
    result = check_system(code='sys.modules["ensurepip"] = None')
    assert result.returncode == 3
    assert result.stderr.endswith(f'apt-get install -y python3.{sys.version_info[1]}-venv\n')


def test_check_system_refuses_another_python_or_machine():
    result = check_system('--python-only', code='sys.version_info = (3, 12, 0, "final", 0)')
    assert result.returncode == 3 and 'use Python 3.9 to 3.11' in result.stderr
    result = check_system(code='import platform; platform.machine = lambda: "aarch64"')
    assert result.returncode == 3 and "pip install -e '.[cpu]'" in result.stderr


@pytest.fixture
def packaging(monkeypatch):
    """What setup.py hands to setuptools."""
    seen = {}
    monkeypatch.setattr('setuptools.setup', lambda **arguments: seen.update(arguments))
    runpy.run_path(str(ROOT / 'setup.py'))
    return seen


def test_packaging_agrees_with_the_checks(packaging):
    (first, last), (numpy_from, numpy_below) = environment.PYTHON, environment.NUMPY
    assert packaging['python_requires'] == f'>={first[0]}.{first[1]},<{last[0]}.{last[1] + 1}'
    assert 'numpy>={}.{},<{}.{}'.format(*numpy_from, *numpy_below) in packaging['install_requires']
    extras = packaging['extras_require']
    assert extras['cpu'] == [f'mxnet=={environment.MXNET}']
    assert set(extras['cu112']) == {f'mxnet-cu112=={environment.MXNET}', *environment.CUDA_LIBRARIES.values()}


def test_mxnet_is_in_no_more_than_one_extra_at_a_time(packaging):
    assert not any(requirement.startswith('mxnet') for requirement in packaging['install_requires'])
    extras = packaging['extras_require']
    assert {name for name in extras if any(need.startswith('mxnet') for need in extras[name])} == {'cpu', 'cu112'}


@pytest.mark.parametrize('lock, mxnet', [('cpu', 'mxnet'), ('tutorial', 'mxnet'), ('cu112', 'mxnet-cu112')])
def test_locks_pin_one_mxnet_and_the_direct_requirements(packaging, lock, mxnet):
    text = (ROOT / 'requirements' / f'{lock}.lock').read_text()
    pinned = [line.split('==')[0] for line in text.splitlines() if line[:1].isalnum()]
    assert [name for name in pinned if name.startswith('mxnet')] == [mxnet]
    for requirement in packaging['install_requires'] + packaging['extras_require']['dev']:
        assert requirement.split('>')[0].split('=')[0] in pinned
    assert '://' not in text


def smi(folder, monkeypatch, *lines):
    """Put an ``nvidia-smi`` first on the path that prints ``lines``."""
    script = folder / 'nvidia-smi'
    script.write_text('#!/bin/sh\n' + ''.join(f"echo '{line}'\n" for line in lines))
    script.chmod(0o755)
    monkeypatch.setenv('PATH', f"{folder}:{os.environ['PATH']}")


def test_cards_that_are_too_new_are_refused_in_one_line(tmp_path, monkeypatch):
    smi(tmp_path, monkeypatch, 'NVIDIA H100 80GB HBM3, 9.0, 550.54.15')
    with pytest.raises(environment.SetupError, match='NVIDIA H100 80GB HBM3 has compute capability 9.0, and MXNet'):
        environment.check_cards()
    smi(tmp_path, monkeypatch, 'NVIDIA H100 80GB HBM3, 9.0, 550.54.15', 'NVIDIA A100-SXM4-40GB, 8.0, 550.54.15')
    environment.check_cards()
    assert environment.cards()[1] == ('NVIDIA A100-SXM4-40GB', 8.0, '550.54.15')
    smi(tmp_path, monkeypatch, 'NVIDIA-SMI has failed because it could not communicate with the driver')
    assert environment.cards() == []

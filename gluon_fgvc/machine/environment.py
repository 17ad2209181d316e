"""What must hold before MXNet is imported: Python, NumPy, one MXNet, its libraries, its threads.

``import gluon_fgvc`` calls :func:`set_threads` and no more. Each room of the package that needs mxnet calls
:func:`prepare` before it imports it, so that a machine that cannot run it is told in one line what to do. This file
imports nothing but the standard library and keeps to the syntax of Python 3.6: ``setup.py`` and
``tools/check_system.py`` run it before anything is installed.
"""
import ctypes
import functools
import glob
import math
import os
import re
import subprocess
import sys
import warnings

PYTHON = ((3, 9), (3, 11))    # first and last minor version that MXNet 1.9.1 and the locks support
NUMPY = ((1, 22), (1, 24))    # from, below: MXNet uses names that NumPy 1.24 removed
MXNET = '1.9.1'
CAPABILITY = (5.0, 8.9)       # first and last of the GPUs that mxnet-cu112 has code for: Maxwell to Ada, not Hopper

# Module → what pip installs for it, besides mxnet; setup.py requires these.
PACKAGES = {
    'gluoncv': 'gluoncv>=0.10.5,<0.11',
    'matplotlib': 'matplotlib',
    'cv2': 'opencv-python',
    'PIL': 'pillow',
    'yaml': 'pyyaml',
    'safetensors': 'safetensors',
    'scipy': 'scipy',
    'tqdm': 'tqdm',
}

# Shared libraries that wheels link but do not carry → the Debian package that does.
SYSTEM_LIBRARIES = {
    'libgomp.so.1': 'libgomp1',              # MXNet, this and the next
    'libquadmath.so.0': 'libquadmath0',
    'libGL.so.1': 'libgl1',                  # OpenCV, this and the next two
    'libgthread-2.0.so.0': 'libglib2.0-0',
    'libglib-2.0.so.0': 'libglib2.0-0',
}

# What mxnet-cu112 links besides the driver → the wheel that carries it; each after what it needs itself.
CUDA_LIBRARIES = {
    'libcudart.so.11.0': 'nvidia-cuda-runtime-cu11==11.8.89',
    'libnvToolsExt.so.1': 'nvidia-nvtx-cu11==11.8.86',
    'libnvrtc.so.11.2': 'nvidia-cuda-nvrtc-cu11==11.8.89',
    'libcublasLt.so.11': 'nvidia-cublas-cu11==11.11.3.6',
    'libcublas.so.11': 'nvidia-cublas-cu11==11.11.3.6',
    'libcufft.so.10': 'nvidia-cufft-cu11==10.9.0.58',
    'libcurand.so.10': 'nvidia-curand-cu11==10.3.0.86',
    'libcusolver.so.11': 'nvidia-cusolver-cu11==11.4.1.48',
    'libcudnn.so.8': 'nvidia-cudnn-cu11==8.9.6.50',
    'libnccl.so.2': 'nvidia-nccl-cu11==2.21.5',
}


class SetupError(ImportError):
    """This machine or Python environment cannot run MXNet; the message is one line with the remedy."""


@functools.lru_cache(maxsize=None)  # every room asks; only what held is remembered
def prepare():
    """Check the environment and import mxnet and cv2, once.

    :raises SetupError: in one line, with the remedy.
    """
    check_python()
    _check_numpy()
    mxnet = _check_mxnet()
    if mxnet == 'mxnet-cu112':
        check_cards()
        _preload_cuda()
    _import('mxnet', mxnet)
    _import('cv2', 'opencv-python')


# --- versions --------------------------------------------------------------------------------

def check_python():
    """Raise SetupError unless this Python is one that MXNet runs on."""
    this = tuple(sys.version_info[:2])
    if not PYTHON[0] <= this <= PYTHON[1]:
        this, first, last = ('.'.join(map(str, version)) for version in (this,) + PYTHON)
        raise SetupError('Python {} cannot run MXNet {}: use Python {} to {}, e.g. python{} -m venv .venv'.format(
            this, MXNET, first, last, last))


def _check_numpy():
    from importlib import metadata  # not before Python 3.8
    remedy = "pip install 'numpy>={}.{},<{}.{}'".format(*(NUMPY[0] + NUMPY[1]))
    try:
        version = metadata.version('numpy')
    except metadata.PackageNotFoundError:
        raise SetupError('NumPy is not installed: ' + remedy) from None
    if not NUMPY[0] <= tuple(int(part) for part in re.findall(r'\d+', version)[:2]) < NUMPY[1]:
        raise SetupError('NumPy {} breaks MXNet {}: {}'.format(version, MXNET, remedy))


def _check_mxnet():
    """Return the name of the one installed distribution that carries mxnet."""
    from importlib import metadata
    found = {}
    for distribution in metadata.distributions():
        name = re.sub(r'[-_.]+', '-', distribution.metadata['Name'] or '').lower()
        if re.fullmatch(r'mxnet(-(mkl|native|cu\d+(mkl)?))?', name):
            found[name] = distribution.version
    if len(found) > 1:
        names = sorted(found)
        raise SetupError('{} are installed over one another: pip uninstall -y {}, then pip install one of {}'.format(
            ' and '.join(names), ' '.join(names), ', '.join('{}=={}'.format(name, MXNET) for name in names)))
    if not found:
        if 'mxnet' in sys.modules or _findable('mxnet'):
            return 'mxnet'  # built from source, on the path without an installed distribution
        raise SetupError("MXNet is not installed: pip install 'gluon_fgvc[cpu]', "
                         "or 'gluon_fgvc[cu112]' for NVIDIA GPUs")
    name, version = found.popitem()
    if version.split('.')[:2] != MXNET.split('.')[:2]:
        raise SetupError('{} {} is installed, and {} is needed: pip install {}=={}'.format(
            name, version, MXNET, name, MXNET))
    return name


def cards():
    """Return (name, compute capability as a float, driver version) of each NVIDIA card that the driver tells of."""
    try:
        done = subprocess.run(['nvidia-smi', '--query-gpu=name,compute_cap,driver_version', '--format=csv,noheader'],
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, universal_newlines=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    found = [re.split(r'\s*,\s*', line.strip()) for line in done.stdout.splitlines()]
    return [(card[0], float(card[1]), card[2]) for card in found
            if len(card) == 3 and re.match(r'\d+\.\d+$', card[1])]


def check_cards():
    """Raise SetupError where all cards are of generations that the wheels have no code for."""
    found = cards()
    if found and not any(CAPABILITY[0] <= capability <= CAPABILITY[1] for _, capability, _ in found):
        name, capability, _ = found[0]
        raise SetupError('{} has compute capability {}, and MXNet {} has code for {} to {}: use another GPU, or the '
                         'CPU: pip uninstall -y mxnet-cu112 && pip install mxnet=={}'.format(
                             name, capability, MXNET, CAPABILITY[0], CAPABILITY[1], MXNET))


def _findable(module):
    from importlib.util import find_spec
    return find_spec(module) is not None


# --- threads ---------------------------------------------------------------------------------

def set_threads():
    """Give OpenMP all CPUs, unless the user has decided; MXNet alone would take half, at half the speed."""
    if os.environ.get('OMP_NUM_THREADS'):
        return
    count = str(available_cpus())
    if 'mxnet' in sys.modules:
        warnings.warn_explicit(
            'mxnet was imported first, so its threads could not be set and it may run at half speed: '
            'import gluon_fgvc before mxnet, or set OMP_NUM_THREADS={}'.format(count),
            UserWarning, 'gluon_fgvc', 0)
        return
    os.environ['OMP_NUM_THREADS'] = count


def available_cpus():
    """Return how many CPUs this process may use: by its affinity, or by its quota, rounded up, if smaller."""
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS
        count = os.cpu_count() or 1
    return max(1, min([count] + [math.ceil(quota) for quota in _cgroup_quotas()]))


def _cgroup_quotas(root='/sys/fs/cgroup', membership='/proc/self/cgroup'):
    """Return the CPU quotas, in CPUs, that hold for this process's control groups (v1 and v2) and their parents."""
    quotas = []
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(':', 2)
        parts = [part for part in path.split('/') if part]
        # In a container the path can be the host's, unknown here; the container's own group is then the root.
        for depth in range(len(parts) + 1):
            folder = os.path.join(root, controllers, *parts[:depth])
            v2 = _read(os.path.join(folder, 'cpu.max')).split()
            v1 = [_read(os.path.join(folder, 'cpu.cfs_{}_us'.format(name))).strip() for name in ('quota', 'period')]
            for pair in (v2, v1):
                if len(pair) == 2 and all(number.isdigit() and int(number) for number in pair):
                    quotas.append(int(pair[0]) / int(pair[1]))
    return quotas


def _read(path):
    try:
        with open(path) as stream:
            return stream.read()
    except OSError:
        return ''


# --- libraries -------------------------------------------------------------------------------

def missing_packages():
    """Return the Debian packages of the system libraries that cannot be loaded, sorted."""
    return sorted({package for library, package in SYSTEM_LIBRARIES.items() if not _loads(library)})


def apt_line(packages):
    """Return the command that installs Debian ``packages``."""
    return '{}apt-get install -y {}'.format('' if os.geteuid() == 0 else 'sudo ', ' '.join(packages))


def _loads(library, mode=ctypes.DEFAULT_MODE):
    try:
        ctypes.CDLL(library, mode)
    except OSError:
        return False
    return True


def _preload_cuda():
    """Load CUDA from the nvidia-*-cu11 wheels, or from where the linker looks, before mxnet asks for it."""
    missing = {}
    for library, package in CUDA_LIBRARIES.items():
        in_wheels = [path for folder in sys.path for path in glob.glob(os.path.join(folder, 'nvidia/*/lib', library))]
        if not any(_loads(path, ctypes.RTLD_GLOBAL) for path in in_wheels + [library]):
            missing[library] = package
    if missing:
        raise SetupError('mxnet-cu112 needs {}: pip install {}'.format(
            ', '.join(missing), ' '.join(sorted(set(missing.values())))))


def _import(module, distribution):
    """Import ``module``, explaining what keeps ``distribution`` from loading."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)  # mxnet: a screenful about NumPy aliases
            __import__(module)
    except (ImportError, OSError, RuntimeError) as error:
        raise SetupError(_explain(error, module, distribution)) from error


def _explain(error, module, distribution):
    text = ' '.join(str(error).split())
    missing = re.search(r'([\w.+-]+\.so[\w.]*): cannot open shared object file', text)
    library = missing.group(1) if missing else None
    if library == 'libcuda.so.1':
        return ("{0} needs the NVIDIA driver (libcuda.so.1): install the driver, or use the CPU: "
                "pip uninstall -y {0} && pip install mxnet=={1}".format(distribution, MXNET))
    if library in CUDA_LIBRARIES:
        return '{} needs {}: pip install {}'.format(distribution, library, CUDA_LIBRARIES[library])
    if library in SYSTEM_LIBRARIES:
        return '{} needs the system library {}: {}'.format(distribution, library, apt_line([SYSTEM_LIBRARIES[library]]))
    if library:
        return '{} needs the system library {}: install the package that carries it'.format(distribution, library)
    return '{} cannot be imported ({}): pip install --force-reinstall --no-deps {}'.format(
        module, text, distribution + ('==' + MXNET if module == 'mxnet' else ''))

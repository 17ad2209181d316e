"""``fgvc doctor env``: what this machine and Python environment have, and how to mend what they lack.

Imports nothing but the standard library, and neither mxnet nor this package: its job begins where they fail.
Whatever may crash is tried in a process of its own.
"""
import argparse
import hashlib
import importlib.util
import json
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

HERE = os.path.dirname(os.path.abspath(__file__))
environment = runpy.run_path(os.path.join(HERE, 'environment.py'))
processor = runpy.run_path(os.path.join(HERE, 'processor.py'))

OK, NOTE, PROBLEM = 'ok', 'note', 'problem'
MINIMUM_FREE = 2 << 30  # bytes: a run with checkpoints of a ResNet-50 takes about one
SECONDS = 180           # to wait for imports

PROBE = '''
import json, runpy, sys
runpy.run_path(sys.argv[1])['prepare']()
import mxnet
wanted = ('CUDA', 'CUDNN', 'NCCL', 'MKLDNN', 'OPENMP', 'OPENCV', 'DIST_KVSTORE')
features = mxnet.runtime.Features()
print(json.dumps({'version': mxnet.__version__, 'gpus': mxnet.context.num_gpus(),
                  'features': [name for name in wanted if features.is_enabled(name)]}))
'''


class Check(NamedTuple):
    """One line of the diagnosis; the text of a problem ends with the command that mends it."""

    name: str
    state: str
    text: str


def main(argv):
    """Print the diagnosis; return 3 if there is a problem, else 0."""
    parser = argparse.ArgumentParser(prog='fgvc doctor env', description='Check Python, libraries, threads and disk.')
    parser.add_argument('--json', metavar='FILE', help='write the checks as a list')
    args = parser.parse_args(argv)
    if args.json and os.path.exists(args.json):
        parser.error("'{}' exists; name another file".format(args.json))
    checks = list(diagnose())
    for check in checks:
        mark = {OK: '  ok', NOTE: 'note', PROBLEM: '  !!'}[check.state]
        print('{}  {:<10}  {}'.format(mark, check.name, check.text), flush=True)
    if args.json:
        with open(args.json, 'w', encoding='utf-8') as stream:
            json.dump([check._asdict() for check in checks], stream, indent=1)
    return 3 if any(check.state == PROBLEM for check in checks) else 0


def diagnose():
    """Yield a :class:`Check` for each part."""
    yield _held('python', environment['check_python'], platform.python_version() + ' at ' + sys.executable)
    missing = environment['missing_packages']()
    yield Check('system', PROBLEM, 'libraries are missing: ' + environment['apt_line'](missing)) if missing else \
        Check('system', OK, 'all libraries that wheels link are there')
    numpy, mxnet = (_held(name, environment['_check_' + name]) for name in ('numpy', 'mxnet'))
    yield numpy
    yield mxnet
    if PROBLEM not in (numpy.state, mxnet.state) and not missing:
        yield from _imports(mxnet.text.split()[0])
    yield from _cards()
    yield from _packages()
    yield _onnx()
    yield _processor()
    yield _threads()
    for folder in _caches():
        yield _cache(folder)
    for folder in ('.', tempfile.gettempdir()):
        yield _disk(folder)


def _held(name, check, text=None):
    """Call a check of ``environment.py``, which returns the name of what it found, or raises."""
    try:
        found = check()
    except environment['SetupError'] as error:
        return Check(name, PROBLEM, str(error))
    found = found or name
    return Check(name, OK, text or '{} {}'.format(found, _version(found) or 'built from source'))


def _version(distribution):
    from importlib import metadata
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


# --- imports ---------------------------------------------------------------------------------

def _imports(distribution):
    """Import mxnet as the package does, with its CUDA libraries, and see what it can do."""
    answer, reason = _run(PROBE, os.path.join(HERE, 'environment.py'))
    if reason:
        yield Check('import', PROBLEM, reason.replace('gluon_fgvc: ', '', 1))
        return
    found = json.loads(answer)
    yield Check('import', OK, 'mxnet {} with {}'.format(found['version'], ', '.join(found['features'])))
    card = os.path.exists('/dev/nvidia0')
    if found['gpus']:
        yield Check('gpu', OK, '{} found'.format(found['gpus']))
    elif 'CUDA' in found['features']:
        yield Check('gpu', PROBLEM if card else NOTE, 'none found by {}; it runs on the CPU'.format(distribution) + (
            ', though there is a card: check that nvidia-smi works and names one of compute capability 5.0 to 8.9'
            if card else ''))
    elif card:
        wheels = ' '.join(sorted(set(environment['CUDA_LIBRARIES'].values())))
        yield Check('gpu', NOTE, 'this mxnet cannot use the NVIDIA card: pip uninstall -y {} && pip install '
                    'mxnet-cu112=={} {}'.format(distribution, environment['MXNET'], wheels))
    else:
        yield Check('gpu', OK, 'no NVIDIA card; the CPU is used')


def _cards():
    """Name each NVIDIA card, its driver, and whether MXNet has code for its generation."""
    first, last = environment['CAPABILITY']
    for name, capability, driver in environment['cards']():
        text = '{}, compute capability {}, driver {}'.format(name, capability, driver)
        yield Check('card', OK, text) if first <= capability <= last else Check(
            'card', NOTE, text + '; mxnet-cu112 has code for {} to {}: leave it out by --gpus'.format(first, last))


def _run(code, *words):
    """Run Python code elsewhere; return (its last line, None) or (None, why it failed)."""
    try:
        done = subprocess.run([sys.executable, '-W', 'ignore', '-c', code, *words], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, universal_newlines=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return None, 'no answer within {} s'.format(SECONDS)
    if done.returncode < 0:
        return None, 'the process was ended by signal {}'.format(-done.returncode)
    if done.returncode:
        return None, (done.stderr.strip().splitlines() or ['exit code {}'.format(done.returncode)])[-1]
    return (done.stdout.strip().splitlines() or [''])[-1], None


def _packages():
    """Check what the package needs besides mxnet and NumPy; all that is wanting becomes one pip line."""
    wanting, found = [], []
    for module, requirement in environment['PACKAGES'].items():
        name = re.match(r'[\w-]+', requirement).group()
        version = _version(name)
        if importlib.util.find_spec(module) is None or version and not satisfies(version, requirement[len(name):]):
            wanting.append(requirement)
        else:
            found.append('{} {}'.format(name, version) if version else name)
    if wanting:
        yield Check('packages', PROBLEM, 'missing or of another version: pip install '
                    + ' '.join("'{}'".format(requirement) for requirement in wanting))
        return
    yield Check('packages', OK, ', '.join(found))
    _, reason = _run('import runpy, sys; runpy.run_path(sys.argv[1])["prepare"](); import gluoncv',
                     os.path.join(HERE, 'environment.py'))
    if reason:
        remedy = 'pip uninstall -y torch' if _version('torch') else \
            "pip install --force-reinstall --no-deps '{}'".format(environment['PACKAGES']['gluoncv'])
        yield Check('gluoncv', PROBLEM, 'cannot be imported ({}): {}'.format(reason, remedy))


def satisfies(version, rule):
    """Return whether ``version``, e.g. '0.10.5', obeys ``rule``, e.g. '>=0.10.5,<0.11'; '' is no rule."""
    def numbers(text):
        return [int(part) for part in re.findall(r'\d+', text)]
    compare = {'>=': lambda a, b: a >= b, '<': lambda a, b: a < b, '==': lambda a, b: a == b}
    return all(compare[sign](numbers(version), numbers(bound))
               for sign, bound in re.findall(r'(>=|==|<)\s*([\w.]+)', rule))


def _onnx():
    versions = {name: _version(name) for name in ('onnx', 'onnxruntime')}
    if None in versions.values():
        absent = ' '.join(name for name, version in versions.items() if version is None)
        return Check('onnx', NOTE, 'needed for ONNX only, and not installed: pip install ' + absent)
    _, reason = _run('import onnx, onnxruntime')
    if reason:
        return Check('onnx', PROBLEM, 'cannot be imported ({}): pip install --force-reinstall onnx onnxruntime '
                                      "'numpy>={}.{},<{}.{}'".format(reason, *sum(environment['NUMPY'], ())))
    return Check('onnx', OK, ', '.join('{} {}'.format(*pair) for pair in versions.items()))


# --- machine ---------------------------------------------------------------------------------

def _processor():
    sets, choice = processor['instruction_sets'](), processor['onednn_choice']()
    bound = os.environ.get('DNNL_MAX_CPU_ISA')
    text = '{}; oneDNN uses {}'.format(', '.join(sets) or 'no instruction sets are named', choice)
    if bound in processor['ONEDNN'] and processor['onednn_choice'](bound='') != choice:
        return Check('processor', NOTE, text + ', bounded by DNNL_MAX_CPU_ISA={}: unset DNNL_MAX_CPU_ISA'.format(bound))
    if bound and bound not in (*processor['ONEDNN'], 'ALL'):
        return Check('processor', NOTE, text + "; DNNL_MAX_CPU_ISA={} is no name it knows and bounds nothing: use one "
                                               'of {}'.format(bound, ', '.join(processor['ONEDNN'])))
    return Check('processor', OK, text)


def _threads():
    cpus, given = environment['available_cpus'](), os.environ.get('OMP_NUM_THREADS')
    if not given:
        return Check('threads', OK, 'OMP_NUM_THREADS is not set; gluon_fgvc will set it to {}'.format(cpus))
    if not given.isdigit() or int(given) > cpus:
        return Check('threads', PROBLEM, "OMP_NUM_THREADS is '{}' on {} CPUs, and threads will wait for one another: "
                                         'export OMP_NUM_THREADS={}'.format(given, cpus, cpus))
    if int(given) < cpus:
        return Check('threads', NOTE, 'OMP_NUM_THREADS={} leaves some of {} CPUs idle: export OMP_NUM_THREADS={}'
                     .format(given, cpus, cpus))
    return Check('threads', OK, 'OMP_NUM_THREADS={} on {} CPUs'.format(given, cpus))


def _caches():
    """Return where pretrained weights are kept: those of GluonCV and MXNet, and our own."""
    mxnet = os.environ.get('MXNET_HOME') or os.path.join('~', '.mxnet')
    own = os.environ.get('GLUON_FGVC_HOME') or os.path.join('~', '.cache', 'gluon_fgvc')
    return [os.path.join(os.path.expanduser(folder), 'models') for folder in (mxnet, own)]


def _cache(folder):
    if not os.path.isdir(folder):
        return Check('weights', OK, "no cache yet at '{}'; it is made when weights are fetched".format(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        return Check('weights', PROBLEM, "cannot write to '{0}': chown -R \"$USER\" '{0}'".format(folder))
    files = sorted(name for name in os.listdir(folder) if name.endswith('.params'))
    # The zoos put the first digits of a file's SHA-1 into its name.
    damaged = [name for name in files for digits in re.findall(r'-([0-9a-f]{8})\.params$', name)
               if not _sha1(os.path.join(folder, name)).startswith(digits)]
    if damaged:
        return Check('weights', PROBLEM, 'damaged: rm ' + ' '.join(
            "'{}'".format(os.path.join(folder, name)) for name in damaged))
    return Check('weights', OK, "{} weight files in '{}'".format(len(files), folder))


def _sha1(path):
    digest = hashlib.sha1()
    with open(path, 'rb') as stream:
        for block in iter(lambda: stream.read(1 << 20), b''):
            digest.update(block)
    return digest.hexdigest()


def _disk(folder):
    path = os.path.abspath(folder)
    free = shutil.disk_usage(path).free
    text = "{:.1f} GiB free for '{}'".format(free / (1 << 30), path)
    if free < MINIMUM_FREE:
        return Check('disk', PROBLEM, text + ', and {} GiB are needed: remove old runs, or use --work-dir on another '
                                             'disk'.format(MINIMUM_FREE >> 30))
    return Check('disk', OK, text)

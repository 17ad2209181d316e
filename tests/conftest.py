"""Settings that every test shares, made before gluon_fgvc and MXNet are imported."""
import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, settings

# A shell that starts the tests in the background lets them ignore Ctrl-C, which subprocesses would inherit; with a
# handler of its own here, a subprocess starts with the default.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread for each of several workers, so that they do not fight; subprocesses inherit it.
if 'PYTEST_XDIST_WORKER' in os.environ:
    os.environ['OMP_NUM_THREADS'] = '1'  # not what the process that started the workers has set for itself
os.environ.setdefault('OMP_NUM_THREADS', '2')
os.environ.setdefault('OMP_WAIT_POLICY', 'passive')  # spinning threads slow a shared machine down
os.environ.setdefault('MPLBACKEND', 'Agg')

# Machines are shared and noisy: no example fails for being slow. The same examples every time.
settings.register_profile('gluon_fgvc', deadline=None, derandomize=True, max_examples=50,
                          suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('gluon_fgvc')


@pytest.fixture(scope='module', autouse=True)
def networks_are_collected():
    """Networks are cycles of objects, which Python collects when it has seen many objects, not many bytes."""
    yield
    with open('/proc/self/statm', encoding='ascii') as stream:
        if int(stream.read().split()[1]) * os.sysconf('SC_PAGE_SIZE') > 3 << 29:  # 1.5 GiB; to look takes a while
            gc.collect()

"""A request to end, SIGTERM or SIGUSR1, is honoured between two batches, where what was learnt can be kept."""
import signal
import threading
from contextlib import contextmanager

from gluon_fgvc.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they kill
_asked = []  # names of the signals that have come


@contextmanager
def heeded():
    """Within the context the signals are noted, and :func:`stop_if_asked` obeys; several are one request.

    Only the main thread can do so; in others the context changes nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, _note) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _asked.clear()


def stop_if_asked():
    """Raise Interrupted if a signal has come."""
    if _asked:
        raise Interrupted(f'asked to end by {_asked[0]}')


def _note(number, _):
    _asked.append(signal.Signals(number).name)

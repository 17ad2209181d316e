"""A request to end, SIGTERM or SIGUSR1, is honoured between two batches, where what was learnt can be kept."""
import signal
import threading
from contextlib import contextmanager

from gluon_fgvc.errors import Interrupted

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)  # what schedulers send before they kill
_asked = []  # names of the signals that have come
_team_decides = False


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


def heard():
    """Return the name of the signal that has come, or None."""
    return _asked[0] if _asked else None


def stop_if_asked():
    """Raise Interrupted if a signal has come; in a team nobody stops by himself, see :mod:`.team`."""
    if _asked and not _team_decides:
        raise Interrupted(f'asked to end by {_asked[0]}')


def leave_to_team():
    """Let :func:`stop_if_asked` do nothing from now on."""
    global _team_decides
    _team_decides = True


def _note(number, _):
    _asked.append(signal.Signals(number).name)

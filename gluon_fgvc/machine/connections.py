"""Connections of this process that must not end: MXNet opens new ones without a word and waits for ever.

What was on its way in a lost connection stays lost, so that every process of a job waits for an answer that nobody owes
any more. Whoever has joined a job therefore looks after the connections that it has then. Standard library only.
"""
import os
import socket
import stat
import threading

SILENCE = 40  # seconds without a sign of the other side, after which the system gives a connection up
EVERY = 1.0   # seconds between two looks
_SETTINGS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),          # where nothing is on its way, ask …
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, SILENCE // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE // 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000),  # … and where something is, wait no longer
)


class Watch:
    """Looks after the TCP connections that this process has now, until :meth:`stop`.

    :param lost: is called in a thread, once, with the address, 'host:port', of the other side of the first that ends.
    """

    def __init__(self, lost):
        self._lost, self._stopped = lost, threading.Event()
        self._watched = set(_connections(_SETTINGS))
        threading.Thread(target=self._run, daemon=True).start()

    def stop(self):
        """Let connections end."""
        self._stopped.set()

    def _run(self):
        while not self._stopped.wait(EVERY):
            gone = self._watched - set(_connections())
            if gone and not self._stopped.is_set():
                _, (host, port) = min(gone)
                self._lost('{}:{}'.format(host, port))
                return


def _connections(settings=()):
    """Yield (own address, that of the other side), each (host, port), of every TCP connection of this process.

    :param settings: (level, option, value) that each is given.
    """
    for name in os.listdir('/proc/self/fd'):
        try:
            if not stat.S_ISSOCK(os.stat('/proc/self/fd/' + name).st_mode):
                continue
            with socket.socket(fileno=os.dup(int(name))) as twin:
                if twin.family not in (socket.AF_INET, socket.AF_INET6) or twin.type != socket.SOCK_STREAM:
                    continue
                pair = twin.getsockname()[:2], twin.getpeername()[:2]
                for setting in settings:
                    twin.setsockopt(*setting)
        except OSError:  # closed meanwhile, or not connected
            continue
        yield pair

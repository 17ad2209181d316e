"""The service's process: uvicorn with a time-out for the headers too."""
import socket

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from gluon_fgvc.errors import ConfigError


class Protocol(H11Protocol):
    """HTTP/1.1 that closes a connection whose request headers take too long.

    uvicorn has such a time-out only while nothing arrives between two requests: a client that sends a byte now and
    then would hold its connection for ever.
    """

    seconds = 20
    _timer = None

    def connection_made(self, transport):
        super().connection_made(transport)
        self._watch()

    def data_received(self, data):
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc):
        super().connection_lost(exc)
        self._cancel()

    def _watch(self):
        if self.conn.their_state is not h11.IDLE:  # headers are complete
            self._cancel()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.seconds, self._too_slow)

    def _cancel(self):
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self):
        self._timer = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


def listening(host, port):
    """Return a socket that listens; 0 as ``port`` takes a free one.

    :raises ConfigError: if the address is not of this machine, or the port is taken or not allowed.
    """
    try:
        return socket.create_server((host, port), backlog=2048,
                                    family=socket.AF_INET6 if ':' in host else socket.AF_INET)
    except OSError as error:
        raise ConfigError(f"cannot listen on --host '{host}' --port {port}: {error.strerror or error}") from None


def server(service):
    """Return the uvicorn server of a :class:`~gluon_fgvc.deploy.service.app.Service`.

    Its ``run(sockets=[…])`` returns after SIGTERM or Ctrl-C, when the requests that had begun are answered.
    """
    limits = service.limits
    protocol = type('Protocol', (Protocol,), {'seconds': limits.read_seconds})
    return uvicorn.Server(uvicorn.Config(
        service.app, http=protocol, ws='none', lifespan='on', log_level='warning', access_log=False,
        server_header=False, limit_concurrency=limits.connections, timeout_keep_alive=15,
        timeout_graceful_shutdown=int(limits.read_seconds + limits.predict_seconds)))

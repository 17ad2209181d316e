"""The end of a connection that a process needs is noticed; of others, and after a stop, it is not."""
import queue
import socket

import pytest

from gluon_fgvc.machine import connections


@pytest.fixture
def linked(monkeypatch):
    """Return (listening socket, client's end, server's end) of a connection."""
    monkeypatch.setattr(connections, 'EVERY', 0.05)
    with socket.create_server(('127.0.0.1', 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as server:
            yield listener, client, server


def address(end):
    return '{}:{}'.format(*end.getsockname())


def test_a_lost_connection_is_told_once(linked):
    _, client, server = linked
    told = queue.Queue()
    connections.Watch(told.put)
    for option, value in ((socket.TCP_USER_TIMEOUT, 40000), (socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPCNT, 3)):
        assert client.getsockopt(socket.IPPROTO_TCP, option) == value
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    ends = {address(client), address(server)}
    client.close()
    assert told.get(timeout=10) in ends
    with pytest.raises(queue.Empty):
        told.get(timeout=0.3)


def test_connections_made_later_may_end(linked):
    told = queue.Queue()
    watch = connections.Watch(told.put)
    with socket.create_connection(linked[0].getsockname()):
        linked[0].accept()[0].close()
    with pytest.raises(queue.Empty):
        told.get(timeout=0.3)
    watch.stop()
    linked[1].close()
    with pytest.raises(queue.Empty):
        told.get(timeout=0.3)

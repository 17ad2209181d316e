"""A service of the small network on a free port, in a thread of the test's process."""
import asyncio
import http.client
import json
import socket
import threading
import time
from contextlib import contextmanager

from gluon_fgvc.deploy.service.app import Service
from gluon_fgvc.deploy.service.server import listening, server


@contextmanager
def running(predictor, limits=None):
    """Give a :class:`Client` of a service of ``predictor``."""
    service = Service(predictor, limits)
    app, sock = server(service), listening('127.0.0.1', 0)
    thread = threading.Thread(target=lambda: asyncio.run(app.serve([sock])))
    thread.start()
    try:
        end = time.monotonic() + 20
        while not app.started and time.monotonic() < end:
            time.sleep(0.01)
        yield Client(sock.getsockname()[1], service)
    finally:
        app.should_exit = True
        thread.join(30)
        assert not thread.is_alive()


class Client:
    def __init__(self, port, service=None):
        self.port, self.service = port, service

    def ask(self, method, path, body=None, headers=None):
        """Return (status, headers, content), JSON parsed."""
        connection = http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.headers.get_content_type() == 'application/json':
            content = json.loads(content)
        return answer.status, answer.headers, content

    def predict(self, data, query=''):
        status, _, content = self.ask('POST', '/predict' + query, data, {'content-type': 'application/octet-stream'})
        return status, content

    def form(self, files, query=''):
        """Send (name, bytes) as the files of a form."""
        parts = [b'--edge\r\ncontent-disposition: form-data; name="file"; filename="%s"\r\n\r\n%s\r\n'
                 % (name.encode(), data) for name, data in files]
        status, _, content = self.ask('POST', '/predict' + query, b''.join(parts) + b'--edge--\r\n',
                                      {'content-type': 'multipart/form-data; boundary=edge'})
        return status, content

    def metric(self, line):
        """Return the value of a line of /metrics, 0 where there is none."""
        text = self.ask('GET', '/metrics')[2].decode()
        return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(line + ' ')), 0.0)

    def socket(self, text=b''):
        """Return an open connection on which ``text`` was sent."""
        connection = socket.create_connection(('127.0.0.1', self.port), timeout=30)
        connection.sendall(text)
        return connection

    def until(self, condition, seconds=20):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, 'it never came about'
            time.sleep(0.02)

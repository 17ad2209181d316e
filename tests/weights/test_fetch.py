"""Fetching from a zoo, against a server of this test on the local machine."""
import hashlib
import http.server
import io
import os
import socket
import threading
import time
import zipfile

import pytest

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights.fetch import cache_folder, fetch_zipped

CONTENT = b'weights' * 1000
SHA1 = hashlib.sha1(CONTENT).hexdigest()


def zip_of(name, content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


ANSWERS = {'/good.zip': zip_of('net.params', CONTENT), '/other.zip': zip_of('net.params', b'other'),
           '/empty.zip': zip_of('readme.txt', b''), '/broken.zip': zip_of('net.params', CONTENT)[:50],
           '/short.zip': None}


@pytest.fixture(scope='module')
def server():
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path not in ANSWERS:
                return self.send_error(404)
            body = ANSWERS[self.path]
            self.send_response(200)
            self.send_header('Content-Length', str(len(body or CONTENT)))
            self.end_headers()
            self.wfile.write(body or CONTENT[:10])

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f'http://127.0.0.1:{server.server_port}'
        server.shutdown()


def test_a_file_is_fetched_once(server, tmp_path):
    folder = tmp_path / 'deep' / 'cache'
    path = fetch_zipped(f'{server}/good.zip', 'net.params', SHA1, str(folder))
    assert path == str(folder / 'net.params') and (folder / 'net.params').read_bytes() == CONTENT
    assert os.listdir(folder) == ['net.params']
    assert fetch_zipped('http://127.0.0.1:1/never', 'net.params', SHA1, str(folder)) == path


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / 'net.params').write_bytes(b'half')
    fetch_zipped(f'{server}/good.zip', 'net.params', SHA1, str(tmp_path))
    assert (tmp_path / 'net.params').read_bytes() == CONTENT


@pytest.mark.parametrize('name, words', [('other.zip', 'sha1'), ('empty.zip', 'net.params'), ('broken.zip', 'zip'),
                                         ('short.zip', 'zip'), ('absent.zip', 'Not Found')])
def test_what_cannot_be_fetched_leaves_nothing_behind(server, tmp_path, name, words):
    with pytest.raises(WeightsError) as caught:
        fetch_zipped(f'{server}/{name}', 'net.params', SHA1, str(tmp_path))
    assert words in str(caught.value) and f'{server}/{name}' in str(caught.value) and '\n' not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        start = time.perf_counter()
        with pytest.raises(WeightsError, match='timed out'):
            fetch_zipped(f'http://127.0.0.1:{silent.getsockname()[1]}/x', 'x', SHA1, str(tmp_path), timeout=0.2)
        assert time.perf_counter() - start < 5


def test_a_closed_port_and_a_full_path(tmp_path):
    with pytest.raises(WeightsError, match='refused'):
        fetch_zipped('http://127.0.0.1:1/x', 'x', SHA1, str(tmp_path))
    (tmp_path / 'file').write_text('')
    with pytest.raises(WeightsError):
        fetch_zipped('http://127.0.0.1:1/x', 'x', SHA1, str(tmp_path / 'file' / 'cache'))


def test_where_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv('GLUON_FGVC_HOME', str(tmp_path))
    assert cache_folder() == str(tmp_path / 'models')
    monkeypatch.delenv('GLUON_FGVC_HOME')
    monkeypatch.setenv('HOME', str(tmp_path))
    assert cache_folder() == str(tmp_path / '.cache' / 'gluon_fgvc' / 'models')

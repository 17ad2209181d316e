"""Fetching from a zoo or an address, against a server of this test on the local machine."""
import hashlib
import http.server
import io
import os
import re
import socket
import threading
import time
import zipfile

import pytest

from gluon_fgvc.errors import WeightsError
from gluon_fgvc.weights.fetch import cache_folder, fetch, fetch_zipped

CONTENT = bytes(range(256)) * 4000  # a megabyte: more than one block
SHA1, SHA256 = hashlib.sha1(CONTENT).hexdigest(), hashlib.sha256(CONTENT).hexdigest()


def zip_of(name, content, compression=zipfile.ZIP_STORED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, 'w', compression) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


ZIP = zip_of('net.params', CONTENT)


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files``, path → bytes; the attributes are how it misbehaves."""

    daemon_threads = True

    def __init__(self):
        super().__init__(('127.0.0.1', 0), Handler)
        self.files, self.requests = {'/net.zip': ZIP, '/net.params': CONTENT}, []
        self.ranges, self.cut, self.stall = True, None, False  # cut: bytes after which it hangs up
        self.url = f'http://127.0.0.1:{self.server_port}'


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers.get('Range')
        self.server.requests.append(asked)
        body = self.server.files.get(self.path)
        if body is None:
            return self.send_error(404)
        start = int(re.fullmatch(r'bytes=(\d+)-', asked)[1]) if asked and self.server.ranges else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header('Content-Range', f'bytes {start}-{len(body) - 1}/{len(body)}')
        self.send_header('Content-Length', str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][:self.server.cut])
        self.wfile.flush()
        if self.server.stall:
            time.sleep(3)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True, kwargs={'poll_interval': 0.02}).start()
        yield server
        server.shutdown()


# --- whole files -------------------------------------------------------------------------------

def test_a_file_is_fetched_once(server, tmp_path):
    folder = tmp_path / 'deep' / 'cache'
    path = fetch_zipped(f'{server.url}/net.zip', 'net.params', SHA1, str(folder))
    assert path == str(folder / 'net.params') and (folder / 'net.params').read_bytes() == CONTENT
    assert os.listdir(folder) == ['net.params']
    assert fetch_zipped('http://127.0.0.1:1/never', 'net.params', SHA1, str(folder)) == path
    assert server.requests == [None]


@pytest.mark.parametrize('digest', [SHA256, SHA256.upper(), SHA1])
def test_a_file_without_a_zip(server, tmp_path, digest):
    path = str(tmp_path / 'other.params')
    assert fetch(f'{server.url}/net.params', path, digest) == path
    assert (tmp_path / 'other.params').read_bytes() == CONTENT and os.listdir(tmp_path) == ['other.params']


def test_a_folder_is_a_mirror_too(tmp_path):
    (tmp_path / 'mirror.zip').write_bytes(ZIP)
    path = fetch_zipped((tmp_path / 'mirror.zip').as_uri(), 'net.params', SHA1, str(tmp_path / 'cache'))
    with open(path, 'rb') as stream:
        assert stream.read() == CONTENT


def test_a_damaged_file_in_the_cache_is_fetched_again(server, tmp_path):
    (tmp_path / 'net.params').write_bytes(b'half')
    fetch_zipped(f'{server.url}/net.zip', 'net.params', SHA1, str(tmp_path))
    assert (tmp_path / 'net.params').read_bytes() == CONTENT


# --- transfers that break off ------------------------------------------------------------------

def test_a_transfer_that_is_cut_goes_on_in_the_same_call(server, tmp_path):
    server.cut = 300_000
    fetch_zipped(f'{server.url}/net.zip', 'net.params', SHA1, str(tmp_path))
    assert (tmp_path / 'net.params').read_bytes() == CONTENT
    assert server.requests == [None, 'bytes=300000-', 'bytes=600000-', 'bytes=900000-']


def test_a_transfer_that_is_given_up_goes_on_in_the_next_call(server, tmp_path):
    server.cut = 100_000
    path = tmp_path / 'net.params'
    with pytest.raises(WeightsError, match='the server sent 500,000 of 1,024,000 bytes'):
        fetch(f'{server.url}/net.params', str(path), SHA256)
    assert os.listdir(tmp_path) == ['net.params.part'] and os.path.getsize(f'{path}.part') == 500_000
    server.cut = None
    server.requests.clear()
    fetch(f'{server.url}/net.params', str(path), SHA256)
    assert path.read_bytes() == CONTENT and server.requests == ['bytes=500000-']
    assert os.listdir(tmp_path) == ['net.params']


def test_a_server_that_ignores_ranges_sends_all_again(server, tmp_path):
    (tmp_path / 'net.params.part').write_bytes(CONTENT[:5000])
    server.ranges = False
    fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), SHA256)
    assert (tmp_path / 'net.params').read_bytes() == CONTENT and server.requests == ['bytes=5000-']


def test_a_part_that_is_whole_already(server, tmp_path):
    (tmp_path / 'net.params.part').write_bytes(CONTENT)
    fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), SHA256)
    assert (tmp_path / 'net.params').read_bytes() == CONTENT


@pytest.mark.parametrize('part', [b'of another file', CONTENT + b'longer'])
def test_a_part_of_another_file_is_not_believed(server, tmp_path, part):
    (tmp_path / 'net.params.part').write_bytes(part)
    (tmp_path / 'net.params.zip.part').write_bytes(part)
    fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), SHA256)
    assert (tmp_path / 'net.params').read_bytes() == CONTENT
    os.remove(tmp_path / 'net.params')
    fetch_zipped(f'{server.url}/net.zip', 'net.params', SHA1, str(tmp_path))
    assert (tmp_path / 'net.params').read_bytes() == CONTENT and os.listdir(tmp_path) == ['net.params']


def test_two_at_once_fetch_once(server, tmp_path):
    server.cut, results = 400_000, []

    def call():
        results.append(fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), SHA256))

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [str(tmp_path / 'net.params')] * 3
    assert server.requests == [None, 'bytes=400000-', 'bytes=800000-'] and os.listdir(tmp_path) == ['net.params']


# --- what cannot be had ------------------------------------------------------------------------

BAD = {'/other.zip': (zip_of('net.params', b'other'), 'sha1'),
       '/empty.zip': (zip_of('readme.txt', b''), 'net.params'),
       '/broken.zip': (ZIP[:50], 'zip'), '/no.zip': (b'<html>', 'zip'),
       '/bomb.zip': (zip_of('net.params', bytes(8 << 20), zipfile.ZIP_DEFLATED), 'grow')}


@pytest.mark.parametrize('name', BAD)
def test_a_bad_zip_leaves_nothing_behind(server, tmp_path, name):
    server.files[name], words = BAD[name]
    with pytest.raises(WeightsError) as caught:
        fetch_zipped(f'{server.url}{name}', 'net.params', SHA1, str(tmp_path))
    assert words in str(caught.value) and f'{server.url}{name}' in str(caught.value) and '\n' not in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_a_file_with_another_sum_leaves_nothing_behind(server, tmp_path):
    with pytest.raises(WeightsError, match=f'the sha256 of net.params is not {"0" * 64}'):
        fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), '0' * 64)
    assert os.listdir(tmp_path) == []


def test_a_file_that_is_not_there(server, tmp_path):
    with pytest.raises(WeightsError, match=f"cannot fetch '{server.url}/absent.zip': Not Found"):
        fetch_zipped(f'{server.url}/absent.zip', 'net.params', SHA1, str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_a_server_that_does_not_answer_is_given_up(tmp_path):
    with socket.socket() as silent:
        silent.bind(('127.0.0.1', 0))
        silent.listen()
        start = time.perf_counter()
        with pytest.raises(WeightsError, match='timed out'):
            fetch_zipped(f'http://127.0.0.1:{silent.getsockname()[1]}/x', 'x', SHA1, str(tmp_path), timeout=0.2)
        assert time.perf_counter() - start < 5


def test_a_server_that_stalls_is_given_up_and_its_part_kept(server, tmp_path):
    server.cut, server.stall = 1000, True
    start = time.perf_counter()
    with pytest.raises(WeightsError, match='timed out'):
        fetch(f'{server.url}/net.params', str(tmp_path / 'net.params'), SHA256, timeout=0.1)
    assert time.perf_counter() - start < 5
    assert os.listdir(tmp_path) == ['net.params.part'] and os.path.getsize(tmp_path / 'net.params.part') == 5000


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

"""The service answers as the predictor does, refuses what it must, and outlives its clients."""
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import cv2
import numpy as np
import pytest

from gluon_fgvc.config import EvalView
from gluon_fgvc.deploy import Predictor
from gluon_fgvc.deploy.service.batching import parts
from gluon_fgvc.deploy.service.limits import Limits
from gluon_fgvc.deploy.service.server import listening
from tests.deploy.service.running import Client, running
from tests.deploy.small import CLASSES, build_net, export_net, write_pictures


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('service')
    export_net(build_net(), folder / 'export', eval_view=EvalView(resize=24, crop=20), input_size=(20, 20))
    return folder


@pytest.fixture(scope='module')
def predictor(folder):
    return Predictor(folder / 'export', engine='mxnet', batch_size=8)


@pytest.fixture(scope='module')
def client(predictor):
    with running(predictor, Limits(image_bytes=300_000, request_bytes=500_000, request_images=4, pixels=90_000,
                                   read_seconds=1)) as client:
        yield client


@pytest.fixture(scope='module')
def images(folder):
    return [open(path, 'rb').read() for path in write_pictures(folder / 'pictures')]


def jpeg(height, width, quality=95):
    noise = np.random.RandomState(0).randint(0, 256, (height, width, 3)).astype('uint8')
    return cv2.imencode('.jpg', noise, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def probabilities(answer):
    found = {row['class']: row['probability'] for row in answer['predictions']}
    return [found[name] for name in CLASSES]


# --- answers ---------------------------------------------------------------------------------

def test_one_image_is_answered_as_offline(client, predictor, images):
    for data in images:
        status, content = client.predict(data)
        assert status == 200 and len(content['images']) == 1
        np.testing.assert_allclose(probabilities(content['images'][0]), predictor.predict([data])[0], atol=1e-6)


def test_many_clients_share_batches_and_get_their_own_answers(client, predictor, images):
    expected = predictor.predict(images)
    before = client.metric('fgvc_batch_images_count'), client.metric('fgvc_batch_images_sum')
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(client.predict, images * 20))
    assert {status for status, _ in answers} == {200}
    for (_, content), row in zip(answers, np.tile(expected, (20, 1))):
        np.testing.assert_allclose(probabilities(content['images'][0]), row, atol=1e-6)
    batches, count = client.metric('fgvc_batch_images_count') - before[0], client.metric('fgvc_batch_images_sum')
    assert count - before[1] == 100 and batches < 90
    assert client.metric('fgvc_queue_images') == 0


def test_a_form_with_several_images_and_one_that_is_none(client, predictor, images):
    status, content = client.form([('a.png', images[0]), ('note.txt', b'words'), ('b.png', images[1])], '?top=1')
    assert status == 200
    first, bad, second = content['images']
    assert bad == {'name': 'note.txt', 'error': 'not a JPEG, PNG or WebP image'}
    for found, data in ((first, images[0]), (second, images[1])):
        [best] = found['predictions']
        assert best['class'] == CLASSES[predictor.predict([data])[0].argmax()]


def test_maps_and_where_they_lie(client, predictor):
    data = jpeg(100, 200)
    status, content = client.predict(data, '?maps=1')
    [found] = content['images']
    assert status == 200 and (found['height'], found['width']) == (100, 200)
    # The shorter side, 100, becomes 24, and the middle 20 x 20 of 24 x 48 are seen.
    np.testing.assert_allclose(found['view'], [14 / 48, 2 / 24, 20 / 48, 20 / 24])
    [shown] = found['maps']
    expected = predictor.maps(predictor.load(data)[np.newaxis])['class activation'][0]
    assert shown['name'] == 'class activation' and (shown['height'], shown['width']) == expected.shape
    np.testing.assert_allclose(np.reshape(shown['values'], expected.shape), expected / expected.max(), atol=6e-4)
    assert 'maps' not in client.predict(data)[1]['images'][0]


def test_state_and_page(client):
    assert client.ask('GET', '/health')[2] == {'status': 'alive'}
    assert client.ask('GET', '/ready')[2] == {'status': 'ready'}
    about = client.ask('GET', '/model')[2]
    assert about['classes'] == list(CLASSES) and about['engine'] == 'mxnet' and about['limits']['pixels'] == 90_000
    status, headers, page = client.ask('GET', '/')
    assert status == 200 and headers.get_content_type() == 'text/html'
    assert headers['x-content-type-options'] == 'nosniff'
    for name in re.findall(rb'(?:href|src)="([\w.]+)"', page):
        assert client.ask('GET', '/' + name.decode())[0] == 200
    assert client.ask('GET', '/absent')[0] == 404 and client.ask('GET', '/predict')[0] == 405


def test_metrics_count(client, images):
    lines = ('fgvc_images_total', 'fgvc_requests_total{path="/predict",status="200"}',
             'fgvc_request_seconds_count{path="/predict"}', 'fgvc_requests_total{path="other",status="404"}',
             'fgvc_refused_total{reason="type"}')
    before = [client.metric(line) for line in lines]
    client.form([('a', images[0]), ('b', images[1])])
    client.predict(b'words')
    for i in range(3):
        client.ask('GET', f'/absent{i}')
    assert [client.metric(line) - value for line, value in zip(lines, before)] == [2, 1, 2, 3, 1]
    assert client.metric('process_resident_memory_bytes') > 1e7


def test_batches_have_few_sizes():
    sizes = {count: [len(part) for part in parts(list(range(count)), 12)] for count in range(60)}
    assert sizes[0] == [] and sizes[13] == [12, 1] and sizes[35] == [12, 12, 8, 2, 1]
    assert all(sum(found) == count and set(found) <= {1, 2, 4, 8, 12} for count, found in sizes.items())


# --- refusals --------------------------------------------------------------------------------

@pytest.mark.parametrize('data, status, says', [
    (b'', 400, 'no body'), (b'words', 415, 'not a JPEG, PNG or WebP'), (b'GIF89a' + bytes(50), 415, 'not a JPEG'),
    (jpeg(40, 50)[:700], 422, 'truncated'), (jpeg(40, 50)[:2] + b'\xff' + bytes(500), 422, ''),
    (jpeg(301, 300, 20), 413, '300 x 301 pixels, at most 90,000'), (jpeg(10, 300), 200, ''),
    (b'\xff\xd8\xff' + bytes(300_000), 413, '300,003 bytes, at most 300,000')])
def test_images_that_are_refused(client, data, status, says):
    found, content = client.predict(data)
    assert found == status and says in content.get('error', '')


def test_forms_that_are_refused(client, images):
    assert client.form([('a', images[0])] * 5)[0] == 400
    assert client.form([])[0] == 400
    for text in (b'--other--', b'--edge\r\n\r\n', b''):
        assert client.ask('POST', '/predict', text, {'content-type': 'multipart/form-data; boundary=edge'})[0] == 400
    assert client.ask('POST', '/predict', b'x', {'content-type': 'multipart/form-data'})[0] == 400
    for query in ('?top=0', '?top=-1', '?top=many', '?top=' + 5000 * '9', '?top=%C2%B2'):
        assert client.predict(images[0], query)[0] == 400


def test_too_large_a_request_is_refused_before_and_while_it_is_read(client):
    with client.socket(b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 500001\r\n\r\n') as connection:
        assert connection.recv(100).startswith(b'HTTP/1.1 413')
    chunk = b'%x\r\n%s\r\n' % (100_000, bytes(100_000))
    with client.socket(b'POST /predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n') as connection:
        for _ in range(6):
            connection.sendall(chunk)
        assert connection.recv(100).startswith(b'HTTP/1.1 413')


def test_slow_clients_are_let_go(client):
    start = time.monotonic()
    head = b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n'
    with client.socket(head + b'x') as body, client.socket(b'POST /predict HTTP/1.1\r\nho') as headers, \
            client.socket() as silent:
        assert body.recv(100).startswith(b'HTTP/1.1 408')
        assert headers.recv(100) == b'' and silent.recv(100) == b''
    assert 0.5 < time.monotonic() - start < 15
    with client.socket(b'nonsense\r\n\r\n') as connection:
        assert connection.recv(100).startswith(b'HTTP/1.1 400')


def test_clients_that_die_leave_nothing_behind(client, images):
    for cut in (20, 90, 150, None):
        text = b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n%s' % (len(images[0]), images[0])
        client.socket(text[:cut]).close()
    client.until(lambda: client.metric('fgvc_queue_images') == 0)
    assert client.predict(images[0])[0] == 200 and client.service.batcher.bytes == 0


# --- load ------------------------------------------------------------------------------------

class Held:
    """Stands for a network that computes until it is let go."""

    def __init__(self, predictor):
        self.__dict__.update(vars(predictor), transform=predictor.transform, gate=threading.Event(), plain=predictor)

    def predict_batch(self, images):
        assert self.gate.wait(30)
        return self.plain.predict_batch(images)


def test_a_full_queue_is_a_503(predictor, images):
    held = Held(predictor)
    with running(held, Limits(queue=2)) as client, ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(client.predict, images[0]) for _ in range(2)]
        client.until(lambda: client.service.batcher.images == 2)
        status, headers, content = client.ask('POST', '/predict', images[0])
        assert status == 503 and headers['retry-after'] == '1' and '2 images are waiting' in content['error']
        assert client.ask('GET', '/ready')[0] == 503 and client.ask('GET', '/health')[0] == 200
        held.gate.set()
        assert [future.result()[0] for future in waiting] == [200, 200]
        client.until(lambda: client.ask('GET', '/ready')[0] == 200)
        assert client.form([('a', images[0])] * 3)[0] == 503  # more than the queue ever holds
        assert client.metric('fgvc_refused_total{reason="full"}') >= 2


def test_an_answer_that_takes_too_long_is_a_504(predictor, images):
    held = Held(predictor)
    with running(held, Limits(predict_seconds=0.3)) as client:
        assert client.predict(images[0])[0] == 504
        held.gate.set()
        assert client.predict(images[0])[0] == 200


def test_a_fault_of_the_network_is_a_500_and_the_next_is_answered(predictor, images):
    held = Held(predictor)
    held.gate.set()
    held.plain = None
    with running(held) as client:
        assert client.predict(images[0])[0] == 500
        held.plain = predictor
        assert client.predict(images[0])[0] == 200


def test_nothing_of_an_upload_is_written(predictor, images, monkeypatch, tmp_path):
    """Starlette writes parts of forms above 1 MiB into temporary files: there is no folder for them."""
    monkeypatch.setattr(tempfile, 'tempdir', str(tmp_path / 'absent'))
    data = images[0] + bytes(3 << 20)
    with running(predictor) as client:
        status, content = client.form([('a.png', data)])
        assert status == 200 and 'predictions' in content['images'][0]
        assert client.predict(data)[0] == 200


# --- the command -----------------------------------------------------------------------------

def test_the_command_serves_and_ends_in_peace(folder, images):
    command = [sys.executable, '-W', 'ignore', '-m', 'gluon_fgvc', 'serve', str(folder / 'export'), '--port', '0',
               '--engine', 'mxnet', '--queue', '3']
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, 'PYTHONPATH': os.getcwd()})
    try:
        assert process.stdout.readline() == 'engine: mxnet, as asked\n'
        port = int(re.match(r'serving on http://127\.0\.0\.1:(\d+),', process.stdout.readline()).group(1))
        client = Client(port)
        assert client.predict(images[0])[0] == 200
        assert client.ask('GET', '/model')[2]['limits'] == {**vars(replace(Limits(), queue=3))}
        half = b'POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n' % len(images[0])
        with client.socket(half) as begun:
            client.until(lambda: client.metric('fgvc_queue_images') == 1)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            begun.sendall(images[0])  # what had begun is answered
            assert begun.recv(100).startswith(b'HTTP/1.1 200')
        assert process.wait(30) == 0 and process.stdout.read() == 'stopped\n' and process.stderr.read() == ''
    finally:
        process.kill()
        process.communicate()


def test_the_command_says_what_is_wrong(folder, monkeypatch):
    from gluon_fgvc.commands import serve
    from gluon_fgvc.errors import CheckpointError, ConfigError
    with pytest.raises(CheckpointError, match='not an exported model'):
        serve.main([str(folder)])
    with pytest.raises(ConfigError, match='--port 70000'):
        serve.main([str(folder / 'export'), '--port', '70000'])
    with listening('127.0.0.1', 0) as taken, pytest.raises(ConfigError, match='Address already in use'):
        serve.main([str(folder / 'export'), '--engine', 'mxnet', '--port', str(taken.getsockname()[1])])
    monkeypatch.setitem(sys.modules, 'uvicorn', None)
    monkeypatch.delitem(sys.modules, 'gluon_fgvc.deploy.service.server')
    with pytest.raises(ConfigError, match=r"pip install 'gluon_fgvc\[serve\]'"):
        serve.main([str(folder / 'export')])

"""The page in a real browser: large and small windows, light and dark, answers, maps and errors."""
import cv2
import numpy as np
import pytest

from gluon_fgvc.deploy import Predictor
from tests.deploy.service.browser import browser, is_available
from tests.deploy.service.running import running
from tests.deploy.small import CLASSES, build_net, export_net, write_pictures

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not is_available(), reason='needs chromium and chromedriver')]

DONE = "const cards = [...document.querySelectorAll('.card')]; return cards.length === {} && " \
       'cards.every(card => card.dataset.done)'
CARD = ("const card = document.querySelector('.card'); return [card.querySelector('.name').textContent, "
        "[...card.querySelectorAll('.class')].map(e => e.textContent), card.querySelector('.value').textContent, "
        "card.querySelector('canvas').width, card.querySelector('figcaption').textContent]")


@pytest.mark.parametrize('phone', [False, True])
def test_page(tmp_path, phone):
    export_net(build_net(), tmp_path / 'export')
    predictor = Predictor(tmp_path / 'export', engine='mxnet')
    paths = write_pictures(tmp_path / 'pictures', 2)
    tricky = tmp_path / 'pictures/<b>bold.png'
    cv2.imwrite(str(tricky), np.random.RandomState(0).randint(0, 256, (50, 60, 3)))
    (tmp_path / 'broken.png').write_bytes(b'\x89PNG\r\n\x1a\n')
    with running(predictor) as client, browser(tmp_path / 'profile', phone) as window:
        grounds = []
        for scheme in ('light', 'dark'):
            window.prefer(scheme)
            window.open(f'http://127.0.0.1:{client.port}/')
            window.wait("return document.getElementById('model').textContent.includes('3 classes')")
            grounds.append(window.run('return getComputedStyle(document.body).backgroundColor'))
        assert grounds[0] != grounds[1]
        window.upload('#files', [str(tricky)])
        window.wait(DONE.format(1))
        row = predictor.predict([str(tricky)])[0]
        name, classes, best, width, caption = window.run(CARD)
        assert name == '<b>bold.png'  # as text
        assert classes == [CLASSES[i] for i in np.argsort(-row)] and best == f'{100 * row.max():.1f} %'
        assert width == 9 and caption == 'Where it looks: class activation'
        assert window.run("const [i, c] = ['img', 'canvas'].map(n => document.querySelector('.card ' + n)"
                          ".getBoundingClientRect()); return Math.abs(i.width - c.width) < 1 && i.width > 50 && "
                          'Math.abs(i.height - c.height) < 1')
        assert window.complaints() == []
        window.upload('#files', [*paths, str(tmp_path / 'broken.png')])
        window.wait(DONE.format(4))
        [error] = window.run("return [...document.querySelectorAll('.error .note')].map(e => e.textContent)")
        assert error.startswith('Not classified: ') and 'truncated' in error
        assert window.run('return document.documentElement.scrollWidth <= innerWidth')  # nothing sticks out
        window.screenshot(tmp_path / 'page.png')
        assert cv2.imread(str(tmp_path / 'page.png')).std() > 5

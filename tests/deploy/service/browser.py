"""A real browser without a window, driven over WebDriver: as much of the protocol as the tests need."""
import base64
import json
import re
import shutil
import subprocess
import time
import urllib.request
from contextlib import contextmanager

ELEMENT = 'element-6066-11e4-a52e-4f735466cecf'  # the key of the W3C's protocol
PHONE = {'deviceMetrics': {'width': 390, 'height': 844, 'pixelRatio': 2.0, 'touch': True, 'mobile': True}}


def is_available():
    return bool(shutil.which('chromedriver') and (shutil.which('chromium') or shutil.which('google-chrome')))


@contextmanager
def browser(folder, phone=False):
    """Give a :class:`Browser` whose profile lies in ``folder``."""
    driver = subprocess.Popen([shutil.which('chromedriver'), '--port=0'], stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True)
    try:
        words = (re.search(r'successfully on port (\d+)', line) for line in driver.stdout)
        port = next(found.group(1) for found in words if found)
        options = {'args': ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                            '--window-size=1200,900', f'--user-data-dir={folder}']}
        if phone:
            options['mobileEmulation'] = PHONE
        opened = Browser(f'http://127.0.0.1:{port}/session')
        session = opened.send('', {'capabilities': {'alwaysMatch': {
            'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}}})
        opened.address += '/' + session['sessionId']
        yield opened
        opened.send('', method='DELETE')
    finally:
        driver.terminate()
        driver.wait(20)


class Browser:
    """One window."""

    def __init__(self, address):
        self.address = address

    def send(self, path, content=None, method=None):
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.address + path, data, {'content-type': 'application/json'},
                                         method=method or ('GET' if content is None else 'POST'))
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.load(answer)['value']

    def open(self, address):
        self.send('/url', {'url': address})

    def run(self, script):
        """Return what ``script``, the body of a function, returns."""
        return self.send('/execute/sync', {'script': script, 'args': []})

    def upload(self, selector, paths):
        """Choose files, as a person would."""
        element = self.send('/element', {'using': 'css selector', 'value': selector})[ELEMENT]
        self.send(f'/element/{element}/value', {'text': '\n'.join(paths)})

    def wait(self, script, seconds=60):
        """Wait until ``script`` returns something true, and return it."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = self.run(script)
            if found:
                return found
            time.sleep(0.1)
        raise TimeoutError(script)

    def prefer(self, scheme):
        """Let the system's colours be 'light' or 'dark'."""
        self.send('/goog/cdp/execute', {'cmd': 'Emulation.setEmulatedMedia', 'params': {
            'features': [{'name': 'prefers-color-scheme', 'value': scheme}]}})

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.send('/screenshot')))

    def complaints(self):
        """Return the errors in the console."""
        return [entry['message'] for entry in self.send('/se/log', {'type': 'browser'}) if entry['level'] == 'SEVERE']

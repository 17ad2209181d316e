"""A pytest plugin: the method of docs/adding_a_method.md, out of the page and among the others, as ``documented``.

``python -m pytest -p tests.documented_method tests/test_method_contract.py -k documented``
"""
import atexit
import re
import shutil
import tempfile
from pathlib import Path

PAGE = Path(__file__).parents[1] / 'docs/adding_a_method.md'


def add():
    """Make the documented code a method of this process, and return its folder."""
    from gluon_fgvc import methods
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    code, = re.findall(r'```python\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL)
    (Path(folder) / 'documented.py').write_text(code, 'utf-8')
    methods.__path__.append(folder)
    return folder


def pytest_configure(config):
    add()

"""The code of docs/python.md does what it says; its folder of photographs is a small one."""
import re
from pathlib import Path

import gluon_fgvc as fg
from tests import small_run

PAGE = Path(__file__).parents[1] / 'docs' / 'python.md'


def test_the_page_from_photographs_to_a_network_of_ones_own(tmp_path, monkeypatch):
    small_run.write(tmp_path, train=48, test=8)
    (tmp_path / 'images').rename(tmp_path / 'photos')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('gluon_fgvc.methods._registered', {})
    blocks = re.findall(r'```python\n(.*?)```', PAGE.read_text('utf-8'), re.DOTALL)
    assert len(blocks) == 2 and len(blocks[0].split('\n')) <= 10
    names = {}
    for block in blocks:
        assert "'mobilenetv2_0.25'," in block and "{'epochs': 3}" in block
        # Nothing is fetched for a test, and one epoch says as much as three.
        block = block.replace("'mobilenetv2_0.25',", "{'name': 'mobilenetv2_0.25', 'weights': 'none'},")
        exec(compile(block.replace("{'epochs': 3}", "{'epochs': 1}"), str(PAGE), 'exec'), names)
    assert names['scores']['images'] == 4 and 0 <= names['scores']['top1'] <= 1
    assert (names['run'].folder / 'report.html').is_file()
    own = fg.evaluate('work_dirs/own', 'val')
    assert own['images'] == 4 and names['own'].method.net.classifier.weight.shape == (2, 2 * 1280)

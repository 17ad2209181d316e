"""A training whose images are rows of an array and whose classes have super-categories, down to its report."""
import json
import re

from gluon_fgvc.commands import cli, train
from tests.data import official

CONFIG = '''\
data: {name: cifar100, root: DATA, complete: false, train: {flip: true}, batch_size: 3, workers: 1, val_fraction: 0}
backbone: {name: mobilenetv2_0.25, weights: none}
method: {name: finetune, lr_mult: 1}
train: {epochs: 1, optimizer: {name: sgd, lr: 0.001}}
run: {contexts: [cpu0], log_every: 1}
'''


def test_super_categories_and_thumbnails_reach_the_report(tmp_path):
    official.cifar100(tmp_path)
    (tmp_path / 'cfg.yaml').write_text(CONFIG.replace('DATA', str(tmp_path)))
    assert cli.run(train.main, ['--cfg', str(tmp_path / 'cfg.yaml'), '--work-dir', str(tmp_path / 'run')]) == 0
    result = json.loads((tmp_path / 'run' / 'evaluation.json').read_text())
    assert [(group['name'], group['classes'], group['images']) for group in result['per_group']] == [
        ('fish', 3, 1), ('fruit', 3, 2)]
    right = sum(group['correct'] for group in result['per_group'])
    assert right == sum(row['correct'] for row in result['per_class'])
    page = (tmp_path / 'run' / 'report.html').read_text()
    assert 'Super-categories' in page and 'image cannot be read' not in page
    sections = dict(re.findall('<h2>(.*?)</h2>(.*?)</section>', page, re.DOTALL))
    assert len(re.findall('<img ', sections['Most confident errors'])) == 3 - right
    assert len(re.findall('heat map of class activation', sections['Where it looks'])) == 3
    assert f'{tmp_path}/cifar-100-python/test#2' in (tmp_path / 'run' / 'predictions.csv').read_text()

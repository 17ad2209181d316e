"""What somebody new does with photographs of their own, as the documents say it, on small pictures."""
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

from gluon_fgvc.commands import cli, doctor, train
from tests import small_run

SMALL = ['backbone.name=mobilenetv2_0.25', 'backbone.weights=none', 'run.contexts=[cpu0]', 'train.epochs=1',
         'train.schedule=constant', 'data.batch_size=4', 'data.workers=0', 'data.train.random_resized_crop=32',
         'data.eval.resize=36', 'data.eval.crop=32']
GROUPS = {'auk': 'bird', 'cod': 'fish', 'eel': 'fish'}
START = str(small_run.ROOT / 'configs' / 'finetune' / 'photos_resnet50.yaml')


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The current directory, with ``photos/{train,test}/<class>`` of three classes."""
    monkeypatch.chdir(tmp_path)
    small_run.write(tmp_path, train=24, test=6, classes=('auk', 'cod', 'eel'))
    (tmp_path / 'images').rename('photos')
    return tmp_path / 'photos'


def start(*words):
    return cli.run(train.main, ['--cfg', START, '--work-dir', 'run', *words, *SMALL])


def test_the_quickstart_shows_the_file_that_is_there():
    page = (small_run.ROOT / 'docs' / 'quickstart.md').read_text('utf-8')
    shown = re.search(r'```yaml\n(data:.*?)```', page, re.DOTALL)[1]
    assert yaml.safe_load(shown) == yaml.safe_load(Path(START).read_text('utf-8'))


def test_photographs_in_folders_of_classes(photos):
    for split in ('train', 'test'):
        for folder in sorted((photos / split).iterdir()):
            (photos / folder.name).mkdir(exist_ok=True)
            for path in folder.iterdir():
                path.rename(photos / folder.name / f'{split}{path.name}')
        shutil.rmtree(photos / split)
    assert start() == cli.OK
    assert json.loads(Path('run/evaluation.json').read_text())['split'] == 'test'


def test_a_class_without_validation_photographs(photos, capsys):
    shutil.copytree(photos / 'test', photos / 'val')
    shutil.rmtree(photos / 'val' / 'eel')
    assert start('data.test_share=null') == cli.FAILED
    message = capsys.readouterr().err
    assert "class 'eel' has a folder in train, test but none in val" in message and 'data.classes: union' in message
    assert start('data.test_share=null', 'data.classes=union') == cli.OK
    assert Path('run/report.html').exists()


def test_a_list_with_fine_and_coarse_labels(photos):
    for split in ('train', 'test'):
        lines = [f'{path.relative_to(photos)}, {path.parent.name}, {GROUPS[path.parent.name]}'
                 for path in sorted((photos / split).rglob('*.jpg'))]
        Path(f'{split}.csv').write_text('\n'.join(['image, species, group', *lines, '']))
    tree = yaml.safe_load(Path(START).read_text('utf-8'))
    tree['data'] = {'name': 'list_file', 'root': 'photos', 'train_list': 'train.csv', 'test_list': 'test.csv',
                    'train': tree['data']['train'], 'eval': tree['data']['eval']}
    Path('list.yaml').write_text(yaml.safe_dump(tree))
    assert cli.run(train.main, ['--cfg', 'list.yaml', '--work-dir', 'run', *SMALL]) == cli.OK
    groups = json.loads(Path('run/evaluation.json').read_text())['per_group']
    assert [(group['name'], group['images']) for group in groups] == [('bird', 2), ('fish', 4)]


def test_a_photograph_of_the_test_in_the_training(photos, capsys):
    shutil.copy(photos / 'test' / 'cod' / '0.jpg', photos / 'train' / 'cod' / 'leak.jpg')
    assert cli.run(doctor.main, ['data', '--cfg', START, '--workers', '0', 'data.test_share=null']) == cli.PROBLEMS
    out = capsys.readouterr().out
    assert re.search(r'duplicate_across +1 ', out)

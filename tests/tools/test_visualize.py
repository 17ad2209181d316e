"""CRA-CNN beside plain fine-tuning as a user types it: train, measure the pointing game, compare pictures, export."""
import csv
import json
import re

import pytest

from gluon_fgvc.commands import cli, evaluate, export, train, visualize
from tests import small_run

BOX = (8, 8, 22.5, 23)  # around square and circle of small_run, roughly


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with runs of both methods on photographs with boxes."""
    folder = small_run.write(tmp_path_factory.mktemp('runs'))
    for split in ('train', 'test'):
        with open(folder / f'{split}.csv', 'w', newline='') as stream:
            table = csv.writer(stream)
            table.writerow(['path', 'label', 'x', 'y', 'width', 'height'])
            for path in sorted((folder / 'images' / split).glob('*/*.jpg')):
                table.writerow([path.relative_to(folder), path.parent.name, *BOX])
    text = small_run.CONFIG.replace('name: image_folder, root: images', 'name: list_file, train_list: train.csv, '
                                                                        'test_list: test.csv')
    # A deep network from scratch on so small images moves its windows wildly: its gradients are thousands.
    text = text.replace('mobilenetv2_0.25', 'cluttered_cnn')
    (folder / 'base.yaml').write_text(text)
    (folder / 'cra.yaml').write_text(text.replace('{name: finetune, lr_mult: 1, dropout: 0.3}',
                                                  '{name: cra_cnn, size: 16, rhythm_start: 1, rhythm: 1}'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ('base', 'cra'):
            words = ['--cfg', f'{name}.yaml', '--work-dir', name, 'run.pointing_game=true', 'train.epochs=2']
            assert cli.run(train.main, words) == 0
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


def test_the_run_logs_its_terms_and_the_rhythm(here):
    steps = [row for row in small_run.records(here / 'cra') if row['kind'] == 'train']
    assert {row['phase'] for row in steps} == {'start', 'off'}
    assert all({'classification', 'attention', 'restriction', 'contrastive', 'loss'} <= row.keys() for row in steps)


def test_played_stands_beside_accuracy(here, capfd):
    result = json.loads((here / 'cra/evaluation.json').read_text())
    played = result['pointing_game']
    assert played['images'] + played['without'] == result['images'] == 4
    # The photographs of 40 x 48 are squeezed to 32 x 32.
    assert played['area'] == pytest.approx(22.5 * 23 / 40 / 48) and 0 <= played['energy'] <= 1
    assert cli.run(evaluate.main, ['cra', '--split', 'val', '--pointing-game']) == 0
    assert re.search(r'activation in the boxes [01]\.\d{4}, which cover 0\.2695', ''.join(capfd.readouterr()))
    assert json.loads((here / 'cra/evaluation_val.json').read_text())['pointing_game']['images']


def test_boxes_are_asked_for_before_training(here, capfd):
    words = ['--cfg', 'cfg.yaml', '--work-dir', 'none', 'run.pointing_game=true']
    assert cli.run(train.main, words) == 2
    assert "the data set has no boxes for split 'test'" in capfd.readouterr().err and not (here / 'none').exists()


def test_two_networks_side_by_side(here, capfd):
    assert cli.run(visualize.main, ['cra', '--split', 'test', '--baseline', 'base', '--out', 'pair.html']) == 0
    assert capfd.readouterr().out == '4 images: pair.html\n'
    page = (here / 'pair.html').read_text()
    assert len(re.findall(r'<section', page)) == 4 and 'label' in page
    assert len(re.findall(r'<strong>class activation, baseline finetune \((circle|square), ', page)) == 4
    assert len(re.findall(r'<strong>class activation, cra_cnn', page)) == 4
    assert len(re.findall(r'<strong>redundancy</strong>', page)) == 4
    assert page.count('the image sampled there, attention') == 4


def test_files_and_a_limit(here, capfd):
    assert cli.run(visualize.main, ['base', 'images/test', '--limit', '3', '--sheet', 'maps.jpg']) == 0
    assert capfd.readouterr().out == '3 of 4 images: base/maps.html, maps.jpg\n'
    assert (here / 'maps.jpg').stat().st_size > 1000
    assert 'class activation' in (here / 'base/maps.html').read_text()
    assert cli.run(visualize.main, ['base', 'images/test', '--limit', '1']) == 0  # the page of the run itself is anew


@pytest.mark.parametrize('flag, name', [('--out', 'mine.html'), ('--sheet', 'mine.png')])
def test_what_exists_is_not_replaced(here, capfd, flag, name):
    (here / name).write_text('precious')
    words = ['base', 'images/test', '--limit', '1', flag, name]
    assert cli.run(visualize.main, words) == 2
    assert f"'{name}' exists; name another, or add --overwrite" in capfd.readouterr().err
    assert (here / name).read_text() == 'precious'
    assert cli.run(visualize.main, [*words, '--overwrite']) == 0 and (here / name).stat().st_size > 1000


@pytest.mark.parametrize('says, words', [
    ('give images, folders or globs, or --split', ['cra']),
    ('give images, folders or globs, or --split', ['cra', 'images/test', '--split', 'test']),
    ("--sheet 'maps.svg' must end in .png, .jpg or .jpeg", ['cra', 'images/test', '--sheet', 'maps.svg'])])
def test_mistakes(here, capfd, says, words):
    assert cli.run(visualize.main, words) == 2
    error = capfd.readouterr().err
    assert says in error and error.count('\n') == 1


def test_exports_are_of_one_size(here, capfd):
    for name in ('base', 'cra'):
        assert cli.run(export.main, [name, '--out', f'{name}_model']) == 0
    sizes = [sorted((path.name, path.stat().st_size) for path in (here / f'{name}_model').glob('*.params'))
             for name in ('base', 'cra')]
    assert sizes[0] == sizes[1] and sizes[0]

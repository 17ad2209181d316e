"""Every command of docs/tasks.md, in order, on small pictures with a small network."""
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from gluon_fgvc.commands import cli, entry
from gluon_fgvc.studies import runs as study
from tests import small_run

PAGE = (small_run.ROOT / 'docs' / 'tasks.md').read_text('utf-8')
SMALL = ['backbone.name=mobilenetv2_0.25', 'backbone.weights=none', 'run.contexts=[cpu0]', 'train.epochs=1',
         'train.optimizer.lr=0.0005', 'train.schedule=constant', 'data.batch_size=4', 'data.workers=0',
         'data.train.random_resized_crop=32', 'data.eval.resize=36', 'data.eval.crop=32']
CLASSES = {'auk': 'bird', 'cod': 'fish', 'eel': 'fish'}
LEAK = Path('photos/train/cod/leak.jpg')


def commands():
    """Return (number of the task, words) of each command; 0 is before the first."""
    found = []
    for number, part in enumerate(re.split(r'^## \d+\. ', PAGE, flags=re.MULTILINE)):
        for block in re.findall(r'^```sh\n(.*?)^```', part, re.DOTALL | re.MULTILINE):
            found += [(number, shlex.split(line)) for line in block.splitlines()]
    return found


def leak():
    shutil.copy('photos/test/cod/0.jpg', LEAK)


def validation():
    shutil.copytree('photos/test', 'photos/val')
    shutil.rmtree('photos/val/eel')


def lists():
    shutil.rmtree('photos/val')
    head = re.search(r'```csv\n(.*?)\n', PAGE)[1]
    for split in 'train', 'test':
        rows = [f'{path.relative_to("photos")},{path.parent.name},{CLASSES[path.parent.name]}'
                for path in sorted(Path('photos', split).rglob('*.jpg'))]
        Path(f'{split}.csv').write_text('\n'.join([head, *rows, '']))


PREPARED = {1: leak, 2: LEAK.unlink, 3: validation, 4: lists,
            7: lambda: shutil.copytree('photos/test/cod', 'new_photos'),
            9: lambda: Path('other_machine').symlink_to('work_dirs/study/results')}  # which task 9 fills


def test_every_command(tmp_path, monkeypatch, capsys):
    small_run.write(tmp_path, train=36, test=12, classes=tuple(CLASSES))
    monkeypatch.chdir(tmp_path)
    Path('images').rename('photos')
    monkeypatch.setattr(study, '_call',  # trainings of a study, here instead of in processes
                        lambda words: entry.main([str(word) for word in words[3:]]))
    said, before = {}, None
    for number, words in commands():
        if number != before and number in PREPARED:
            PREPARED[number]()
        before = number
        assert words[0] == 'fgvc'
        words, out = (words[1:-2], words[-1]) if words[-2] == '>' else (words[1:], None)
        code = entry.main(words + (SMALL if number == 0 else []))
        captured = capsys.readouterr()
        assert code == (cli.PROBLEMS if number == 1 else cli.OK), (words, captured.err)
        said[number] = said.get(number, '') + captured.out + captured.err
        if out:
            Path(out).write_text(captured.out)
    assert set(said) == set(range(13))
    check(said)


def check(said):
    """Check what the page promises."""
    assert re.search(r'duplicate_across +1 ', said[1]) and Path('doctor/data.html').exists()
    assert 'class="facts"' in Path('runs/first/report.html').read_text()
    assert json.loads(Path('runs/union/split.json').read_text())['splits']['val']['images'] == 8
    groups = json.loads(Path('runs/lists/evaluation.json').read_text())['per_group']
    assert [(group['name'], group['images']) for group in groups] == [('bird', 4), ('fish', 8)]
    assert "starting from 'runs/first', epoch 1" in said[6]
    assert {path.name for path in Path('predicted').iterdir()} == {
        'predictions.csv', 'predictions.json', 'contact_sheet.jpg'}
    assert 'runs/first/maps.html' in said[8]
    assert '4 runs, 0 finished' in said[9] and '| 95 % interval | p |' in Path('work_dirs/study/results.md').read_text()
    assert Path('merged/methods.json').read_bytes() == Path('work_dirs/study/results/methods.json').read_bytes()
    entry, = json.loads(Path('work_dirs/study/results/folds.json').read_text())['configs']
    assert [run['test']['images'] for run in entry['runs']] == [24, 24]
    assert "McNemar's exact test: p = " in said[11] and 'on average over 2 pairs' in said[11]
    one, other = (json.loads((Path(folder) / 'predictions.json').read_text())['images'][0]['predictions'][0]
                  for folder in ('predicted', 'predicted_again'))
    assert one['class'] == other['class'] and one['probability'] == pytest.approx(other['probability'], abs=1e-4)

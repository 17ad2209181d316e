"""Readers and writers of a run folder."""
import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_fgvc import run_folder
from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.run_folder import PREDICTION_COLUMNS, RunFolder, read_predictions, runs_in, suffix_of
from tests.test_import_rules import imports

RESULT = {'split': 'test', 'checkpoint': 'best', 'chosen_by': {'split': None, 'epoch': 0}, 'images': 1, 'loss': 0.5,
          'top1': 1.0, 'evaluated_at': 'now', 'per_class': []}
ROW = ['a b.png', 1, 'square', 1, 'square', '0.750000', '0.750000', 1, '1 0', '0.750000 0.250000']


def test_it_needs_no_mxnet():
    files = Path(run_folder.__file__).parent.glob('*.py')
    found = {name for file in files for _, name in imports(ast.parse(file.read_text()), file.stem, {})}
    assert 'gluon_fgvc.files' in found and not {name for name in found if name.split('.')[0] in ('mxnet', 'numpy')}


def test_a_name_or_a_path(tmp_path):
    assert RunFolder.config == 'config.yaml' and RunFolder(tmp_path).config == tmp_path / 'config.yaml'


def test_what_describes_a_run(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_classes() is run.read_split() is run.read_environment() is run.read_study() is None
    assert not run.is_run and not run.has_checkpoint
    run.describe('train: {}\n', ('kreis', 'größe'), {'splits': {}}, {'cpu': 'x'})
    assert run.is_run and run.config.read_text() == 'train: {}\n'
    assert run.classes.read_text(encoding='utf-8') == '[\n "kreis",\n "größe"\n]\n'
    assert run.read_classes() == ['kreis', 'größe'] and run.read_split() == {'splits': {}}
    assert run.read_environment() == {'cpu': 'x'}


@pytest.mark.parametrize('content, says', [(b'{', 'not valid JSON'), (b'\xff\xfe', 'not valid JSON'),
                                           (b'{}', 'not a list of class names'), (b'[1]', 'not a list of class names')])
def test_damaged_classes(tmp_path, content, says):
    run = RunFolder(tmp_path)
    run.classes.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        run.read_classes()


@pytest.mark.parametrize('key, value', [('val_loss', '"1"'), ('lr', '{}'), ('train_top1', '[1]'), ('step', 'true!')])
def test_records_end_where_a_measure_is_no_number(tmp_path, key, value):
    run, whole = RunFolder(tmp_path), {'kind': 'epoch', 'epoch': 0, 'val_loss': None, 'phase': 'all', 'norms': {'a': 1}}
    run.add_record(whole)
    with open(run.metrics, 'a') as stream:
        stream.write(f'{{"kind": "epoch", "epoch": 1, "{key}": {value}}}\n')
    run.add_record({**whole, 'epoch': 2})
    assert run.read_records() == [whole]


def test_records_end_where_a_kill_cut_them(tmp_path):
    run = RunFolder(tmp_path)
    assert run.read_records() == []
    first, second = {'kind': 'train', 'epoch': 0, 'loss': 1.0}, {'kind': 'epoch', 'epoch': 0, 'val_loss': 2.0}
    run.write_records([first])
    run.add_record(second)
    with open(run.metrics, 'a') as stream:
        stream.write('{"kind": "epo\n' + json.dumps(first) + '\n')
    assert run.read_records() == [first, second]
    run.write_metrics_table([first, second, {'kind': 'epoch', 'epoch': 1, 'lr': 3}])
    assert run.metrics_table.read_text() == 'epoch,val_loss,lr\n0,2.0,\n1,,3\n'


def test_evaluations_by_their_suffix(tmp_path):
    assert suffix_of('test') == '' and suffix_of('val', 'last', 'flip') == '_val_last_flip'
    run = RunFolder(tmp_path)
    run.write_evaluation({**RESULT, 'split': 'val', 'views': 'flip'}, [ROW])
    assert run.read_evaluation() is None and run.read_evaluation('_val_flip')['top1'] == 1.0
    assert not run.test_evaluations.exists() and run.count_tests() == 0
    (row,) = read_predictions(run.predictions_file('_val_flip'))
    assert (row.path, row.label, row.predicted_name) == ('a b.png', 1, 'square')
    assert (row.probability, row.correct) == (0.75, True)
    assert run.predictions_file('_val_flip').read_text().splitlines()[0] == ','.join(PREDICTION_COLUMNS)


def test_a_test_is_listed_before_its_figures_can_be_read(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)

    def full(*_):
        raise OSError('no space')

    monkeypatch.setattr('gluon_fgvc.run_folder.folder.write_atomically', full)
    with pytest.raises(OSError):
        run.write_evaluation(RESULT, [ROW])
    assert run.count_tests() == 1 and not run.evaluation.exists() and not run.predictions.exists()
    assert json.loads(run.test_evaluations.read_text()) == {
        key: value for key, value in RESULT.items() if key not in ('split', 'per_class')}


def test_one_process_trains(tmp_path):
    code = ('import sys; from gluon_fgvc.errors import CheckpointError; from gluon_fgvc.run_folder import RunFolder\n'
            'try:\n    RunFolder(sys.argv[1]).lock()\nexcept CheckpointError as error:\n    print(error)')
    with RunFolder(tmp_path).lock():
        done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True, text=True)
    assert 'another process is training' in done.stdout
    RunFolder(tmp_path).lock().close()


def test_runs_side_by_side(tmp_path):
    for name in ('20260102-000000', '20260101-000000', 'empty'):
        (tmp_path / name).mkdir()
    for name in ('20260102-000000', '20260101-000000'):
        RunFolder(tmp_path / name).config.write_text('')
    assert [folder.name for folder in runs_in(tmp_path)] == ['20260101-000000', '20260102-000000']


def test_what_the_best_checkpoint_was_chosen_by(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(CheckpointError, match="no 'best' checkpoint yet"):
        run.best_so_far()
    run.best.write_text('{"chosen_by": {"epoch": 3}}')
    assert run.best_so_far() == {'epoch': 3}
    run.previous.write_text('{}')
    run.forget_checkpoints()
    assert not run.best.exists() and not run.previous.exists()

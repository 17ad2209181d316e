"""What flows between a training, its evaluation and its report."""
import json
import shutil

import pytest

from gluon_fgvc import backbones, config, data, runs
from gluon_fgvc.commands import cli, evaluate, export, predict, train, visualize
from gluon_fgvc.engine import checkpoint
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.run_folder import RunFolder, manifests
from tests import small_run


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A folder with ``run``, a training of one epoch, and how often its data set was read."""
    folder = small_run.write(tmp_path_factory.mktemp('flow'))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        read = counted(patch)
        runs.train(runs.load_config('cfg.yaml'), 'run')
    return folder, read


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained[0])
    return trained[0]


def counted(patch):
    """Count the calls of ``data.build``."""
    build, calls = data.build, []
    patch.setattr(data, 'build', lambda cfg: calls.append(cfg.name) or build(cfg))
    return calls


def test_the_data_set_is_read_once_by_a_training_with_test_and_report(trained):
    assert trained[1] == ['image_folder']
    assert RunFolder(trained[0] / 'run').count_tests() == 1 and RunFolder(trained[0] / 'run').report.exists()


def test_an_evaluation_and_its_report_read_it_once(here, monkeypatch):
    calls = counted(monkeypatch)
    opened = runs.open_run('run')
    runs.evaluate(opened, 'val')
    assert runs.report(opened) == 'run/report.html'
    assert calls == ['image_folder']


@pytest.mark.parametrize('command, words', [
    (evaluate, ('run', '--split', 'val')), (export, ('run',)), (predict, ('run', 'images/test', '--out', 'predicted')),
    (visualize, ('run', '--split', 'test', '--limit', '1')),
    (train, ('--cfg', 'cfg.yaml', '--init-from', 'run', '--work-dir', 'other', '--no-test'))])
def test_a_better_epoch_while_a_run_is_opened(here, tmp_path, monkeypatch, capsys, command, words):
    """A training replaces the best checkpoint after it was found whole and before its parameters are read."""
    shutil.copytree(here / 'run', tmp_path / 'run')
    for name in 'images', 'cfg.yaml':
        (tmp_path / name).symlink_to(here / name)
    monkeypatch.chdir(tmp_path)
    opened, file_of, trained_on = runs.open_run('run'), manifests.file_of, []

    def replaced(folder, record, ending):
        if not trained_on and str(folder) == 'run':
            trained_on.append(record['epoch'])
            checkpoint.save(folder, 'best', opened.method.train_net, {**record, 'epoch': record['epoch'] + 1})
        return file_of(folder, record, ending)

    monkeypatch.setattr(manifests, 'file_of', replaced)
    assert cli.run(command.main, words) == cli.OK, capsys.readouterr().err
    assert trained_on == [1] and 'Traceback' not in capsys.readouterr().err


def test_a_resumed_training_does_not_test_again(here):
    before = RunFolder('run').evaluation.read_bytes()
    result = runs.train(runs.load_config('cfg.yaml'), 'run')
    assert RunFolder('run').count_tests() == 1 and RunFolder('run').evaluation.read_bytes() == before
    assert result == json.loads(before)


def test_pruning_and_its_fine_tuning_read_it_once(here, monkeypatch):
    calls = counted(monkeypatch)
    pruning = runs.Pruning('l1', fraction=0.5, batches=1)
    result = runs.prune_run(runs.open_run('run'), here / 'pruned', pruning, epochs=1)
    assert calls == ['image_folder'] and set(result['figures']) == {'before', 'after', 'fine-tuned'}


def test_an_opened_run_asks_for_no_pretrained_parameters(here, monkeypatch):
    asked, get = [], backbones.get
    monkeypatch.setattr(backbones, 'get', lambda name, **values: asked.append(values['weights']) or get(name, **values))
    text = RunFolder('run').config.read_text()
    try:
        RunFolder('run').config.write_text(text.replace('weights: none', 'weights: nowhere.params'))
        opened = runs.open_run('run')
    finally:
        RunFolder('run').config.write_text(text)
    assert asked == ['none'] and opened.cfg.backbone.weights == 'nowhere.params'


def test_a_split_read_with_other_options_changes_nothing(here):
    opened, before = runs.open_run('run'), sorted(path.name for path in (here / 'run').iterdir())
    result = runs.evaluate_altered(opened, 'test', [('data.eval.resize', [40, 40]), ('data.batch_size', 3)])
    assert result['images'] == 4 and opened.cfg.data.batch_size == 4
    assert sorted(path.name for path in (here / 'run').iterdir()) == before
    with pytest.raises(ConfigError, match="fold 1 is not below folds, 0"):
        runs.evaluate_altered(opened, 'test', [('data.fold', 1)])


def test_every_option_that_names_parameters_is_marked(here):
    """TASN names those of its localisation net as well."""
    cfg = config.replace(runs.load_config('cfg.yaml'), {
        'method': {'name': 'tasn', 'attention_weights': 'zoo'}, 'backbone.weights': 'zoo'},
        method_options=lambda name: __import__(f'gluon_fgvc.methods.{name}', fromlist=['Options']).Options)
    bare = config.untrained(cfg)
    assert (bare.backbone.weights, bare.method.options.attention_weights) == ('none', 'none')
    assert config.replace(bare, {'backbone.weights': 'zoo', 'method.attention_weights': 'zoo'}) == cfg


@pytest.mark.parametrize('overrides, says', [
    (('method.name=warn', 'method.depth=9'), 'depth'), (('method.name=warn', 'method.stages=[stage7]'), 'stage7'),
    (('method.name=attention_scaled', 'method.schedule=FFA'), "train.epochs is 1, but method.schedule 'FFA' has 3"),
    (('method.name=tasn', 'data.eval.crop=null', 'data.eval.resize=64'), 'data.eval gives images of many sizes'),
    (('backbone.name=resnet81',), 'resnet81'), (('backbone.output_stride=8', 'backbone.name=alexnet'), 'output_stride'),
    (('data.folds=5',), 'fold is not given')])
def test_options_are_checked_before_data_are_looked_for(here, overrides, says, capsys):
    """The data root is not there, which would be another error, of exit code 1."""
    assert cli.run(train.main, ['--cfg', 'cfg.yaml', 'data.root=nowhere', *overrides]) == cli.USAGE
    message = capsys.readouterr().err
    assert says in message and 'nowhere' not in message

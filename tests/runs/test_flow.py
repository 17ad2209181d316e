"""What flows between a training, its evaluation and its report."""
import json

import pytest

from gluon_fgvc import backbones, config, data, runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.run_folder import RunFolder
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
    with pytest.raises(ConfigError, match="override 'data.fold': unknown key"):
        runs.evaluate_altered(opened, 'test', [('data.fold', 1)])


def test_every_option_that_names_parameters_is_marked(here):
    """TASN names those of its localisation net as well."""
    cfg = config.replace(runs.load_config('cfg.yaml'), {
        'method': {'name': 'tasn', 'attention_weights': 'zoo'}, 'backbone.weights': 'zoo'},
        method_options=lambda name: __import__(f'gluon_fgvc.methods.{name}', fromlist=['Options']).Options)
    bare = config.untrained(cfg)
    assert (bare.backbone.weights, bare.method.options.attention_weights) == ('none', 'none')
    assert config.replace(bare, {'backbone.weights': 'zoo', 'method.attention_weights': 'zoo'}) == cfg

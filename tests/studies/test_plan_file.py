"""A study from a file is the same study as from a command line, and what is wrong in it is told with its line."""
import pytest

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.studies import plan_file, runs
from tests.studies.test_study import calls, results, run_tool  # noqa: F401 (a fixture)

TEXT = """\
base: a.yaml
overrides: {train.epochs: 3}
seeds: [0, 2]
evaluate: true
variants:
  whole: {}
  wide: {method.width: 4, method.lr: 1e-3}
  rest: {config: b.yaml, method.map: {0: x}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in 'ab':
        (tmp_path / f'{name}.yaml').write_text('')
    return tmp_path


def read(folder, text=TEXT):
    (folder / 's.yaml').write_text(text)
    return plan_file.read('s.yaml')


def test_it_plans_what_the_command_line_plans(folder):
    study = read(folder)
    assert (study.name, study.seeds, study.folds, study.evaluate) == ('s', (0, 2), (), True)
    planned = study.runs(overrides=('run.log_every=5',))
    assert [(run.variant, run.seed) for run in planned] == [(v, s) for v in ('whole', 'wide', 'rest') for s in (0, 2)]
    words = runs.plan('s', ['a.yaml'], [0, 2], overrides=['train.epochs=3'],
                      variants=[('wide', ['method.width=4', 'method.lr=0.001'])])
    assert study.runs(only=['wide']) == words
    assert planned[4].config.name == 'b.yaml'
    assert planned[4].overrides == ('train.epochs=3', 'method.map={0: x}', 'run.log_every=5')
    assert planned[0].overrides == ('train.epochs=3', 'run.log_every=5')


@pytest.mark.parametrize('change, says', [
    (('seeds:', 'seed:'), "s.yaml, line 3: seed: unknown key 'seed'; did you mean 'seeds'?"),
    (('base: a.yaml\n', ''), "s.yaml: required key 'base' is missing"),
    (('[0, 2]', '[0, 0]'), 's.yaml, line 3: seeds: [0, 0] has a value twice'),
    (('[0, 2]', '[]'), 's.yaml, line 3: seeds: must have at least one seed'),
    (('[0, 2]', '[0, yes]'), 's.yaml, line 3: seeds: [0, True] is not a list of whole numbers'),
    (('evaluate: true', 'evaluate: 1'), 's.yaml, line 4: evaluate: 1 is not true or false'),
    (('method.width: 4', 'width: 4'), "s.yaml, line 7: variants.wide.width: override 'width' is not of the form"),
    (('method.width: 4', 'run.seed: 4'), "s.yaml, line 7: variants.wide.run.seed: give seeds with 'seeds'"),
    (('wide:', '../wide:'), "s.yaml, line 7: variants.../wide: a variant's name must be made of"),
    (('wide:', 'whole:'), "s.yaml: line 7: key 'whole' is given twice"),
    (('config: b.yaml', 'config: 3'), 's.yaml, line 8: variants.rest: 3 is not the path of a configuration'),
    (('{method.width: 4, method.lr: 1e-3}', '4'), 's.yaml, line 7: variants.wide: 4 is not a mapping'),
    (('variants:', 'variants: [1]\nx:'), "s.yaml, line 6: x: unknown key 'x'")])
def test_what_is_wrong_is_told_with_its_line(folder, change, says):
    assert change[0] in TEXT
    with pytest.raises(ConfigError) as caught:
        read(folder, TEXT.replace(*change))
    assert str(caught.value).startswith(says) and '\n' not in str(caught.value)


@pytest.mark.parametrize('text', ['', '3', '[1]', 'base: ['])
def test_a_file_that_is_no_study(folder, text):
    with pytest.raises(ConfigError, match=r's\.yaml'):
        read(folder, text)


def test_a_missing_file_or_variant(folder):
    with pytest.raises(ConfigError, match="cannot read study 'none.yaml': No such file"):
        plan_file.read('none.yaml')
    with pytest.raises(ConfigError, match=r"--variant 'wid': study 's' has none of this name; did you mean 'wide'\?"):
        read(folder).runs(only=['wid'])
    with pytest.raises(ConfigError, match="--seeds 7: study 's' has the seeds 0, 2"):
        read(folder).runs(seeds=[0, 7])
    with pytest.raises(ConfigError, match="--folds 0: study 's' has no folds"):
        read(folder).runs(folds=[0])
    with pytest.raises(ConfigError, match="cannot read configuration 'c.yaml'"):
        read(folder, TEXT.replace('b.yaml', 'c.yaml')).runs()


def test_the_tool_runs_a_file(folder, run_tool, capsys):  # noqa: F811
    (folder / 's.yaml').write_text(TEXT)
    assert run_tool('--study', 's.yaml', '--variant', 'wide', name=None) == 0
    assert [call[-3:] for call in calls()] == [['train.epochs=3', 'method.width=4', 'method.lr=0.001']] * 2
    assert [entry['variant'] for entry in results()['configs']] == ['wide'] and len(results()['evaluations']) == 2
    for words in (('--seeds', 7), ('--cfg', 'a.yaml'), ('--evaluate',), ('--variant', 'wide', 'method.width=5')):
        assert run_tool('--study', 's.yaml', *words, name=None) == 2
    assert '--study: the file says --evaluate; change it there' in capsys.readouterr().err and len(calls()) == 2


def test_seeds_and_folds_pick_some_of_a_files_runs(folder):
    file = read(folder, TEXT + 'folds: [0, 1, 2]\n')
    runs = file.runs(only=['wide'], seeds=[2], folds=[2, 0])
    assert [(run.variant, run.seed, run.fold) for run in runs] == [('wide', 2, 0), ('wide', 2, 2)]
    assert runs == [run for run in file.runs() if run in runs]

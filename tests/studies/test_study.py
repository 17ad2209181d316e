import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_fgvc.commands import cli
from gluon_fgvc.commands import study as study_command
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.studies import page as study_page
from gluon_fgvc.studies import runs as study
from tests import small_run

ROOT = Path(__file__).parents[2]
TRAIN = [sys.executable, str(Path(__file__).with_name('fake_train.py'))]


@pytest.fixture
def run_tool(tmp_path, monkeypatch):
    """Call the tool in an empty folder with configurations a.yaml and b.yaml and the training stand-in."""
    monkeypatch.chdir(tmp_path)
    for name in 'ab':
        Path(f'{name}.yaml').write_text(f'# {name}\n')
    def run(*words, name='s'):
        argv = [*(['--name', name] if name else []), '--results', 'docs/results', *map(str, words)]
        return cli.run(lambda argv: study_command.main(argv, train=TRAIN, check=lambda *_: None), argv)
    return run


def calls():
    path = Path('calls.jsonl')
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def results():
    return json.loads(Path('docs/results/s.json').read_text())


def behave(**seeds):
    Path('behaviour.json').write_text(json.dumps({key[1:]: value for key, value in seeds.items()}))


def test_plan_only_prints(run_tool, capsys):
    assert run_tool('--cfg', 'a.yaml', 'b.yaml', '--seeds', 0, 1, '--plan') == 0
    out = capsys.readouterr().out
    assert 'a seed 0  new         work_dirs/study/s/a/seed0\n' in out and 'b seed 1' in out
    assert '4 runs, 0 finished; the test split stays untouched' in out
    assert not calls() and not Path('docs').exists() and not Path('work_dirs').exists()


def test_all_runs_once_and_their_command_lines(run_tool):
    words = ('--cfg', 'a.yaml', 'b.yaml', '--seeds', 0, 2, 'train.epochs=3', '--evaluate')
    assert run_tool(*words) == 0
    assert calls()[1] == ['--cfg', 'a.yaml', '--work-dir', 'work_dirs/study/s/a/seed2', '--seed', '2', 'train.epochs=3']
    assert len(calls()) == 4
    assert run_tool(*words) == 0
    assert len(calls()) == 4  # all finished


def test_results_by_hand(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, 2, '--evaluate') == 0
    tree = results()
    entry = tree['configs'][0]
    tops = [run['test']['top1'] for run in entry['runs']]
    expected = [json.loads(Path(f'work_dirs/study/s/a/seed{k}/evaluation.json').read_text())['top1'] for k in range(3)]
    assert tops == expected and len(set(tops)) > 1
    summary = entry['summary']['test']['top1']
    assert summary['mean'] == pytest.approx(statistics.mean(tops))
    assert summary['sd'] == pytest.approx(statistics.stdev(tops))
    assert entry['sha256'] == study.plan('s', ['a.yaml'], [0])[0].sha256
    assert 'seed' not in entry['resolved']['run'] and entry['resolved']['train']['epochs'] == 9
    run = entry['runs'][0]
    assert run['seconds'] == pytest.approx(9 * 151.2) and run['machine']['cpu'] == 'AMD EPYC'
    assert run['chosen_by']['split'] == 'val' and run['val']['top1'] == run['chosen_by']['value']
    assert 'system' not in run['machine'] and 'per_class' not in run['test']
    assert [e['seed'] for e in tree['evaluations']] == [0, 1, 2]
    assert tree['commands'] == [
        'fgvc study --name s --results docs/results --cfg a.yaml --seeds 0 1 2 --evaluate']


def test_one_failing_run_does_not_lose_the_others(run_tool, capsys):
    behave(s1='fail')
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, 2, '--evaluate') == 1
    assert [r['seed'] for r in results()['configs'][0]['runs']] == [0, 2]
    captured = capsys.readouterr()
    assert 'error: 1 of 3 runs failed: a seed 1' in captured.err and 'exit code 1' in captured.out
    behave()
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, 2, '--evaluate') == 0
    assert len(calls()) == 4 and [r['seed'] for r in results()['configs'][0]['runs']] == [0, 1, 2]


def test_unfinished_runs_are_resumed(run_tool):
    behave(s0='cut')
    assert run_tool('--cfg', 'a.yaml', '--evaluate', 'train.epochs=3') == 1
    behave()
    assert run_tool('--cfg', 'a.yaml', '--evaluate', 'train.epochs=3') == 0
    assert '--resume' not in calls()[0] and '--resume' in calls()[1]


def test_a_training_that_leaves_no_evaluation_failed(run_tool, capsys):
    behave(s0='silent')
    assert run_tool('--cfg', 'a.yaml', '--evaluate') == 1
    assert 'no evaluation of the test split was written' in capsys.readouterr().out


def test_without_evaluate_the_test_split_is_untouched_until_asked(run_tool):
    assert run_tool('--cfg', 'a.yaml') == 0
    assert '--no-test' in calls()[0]
    entry = results()['configs'][0]
    assert entry['runs'][0]['test'] is None and entry['summary']['test'] == {} and results()['evaluations'] == []
    assert entry['summary']['val']['top1']['mean'] == entry['runs'][0]['chosen_by']['value']
    assert run_tool('--cfg', 'a.yaml') == 0 and len(calls()) == 1
    assert run_tool('--cfg', 'a.yaml', '--evaluate') == 0
    assert '--resume' in calls()[1] and '--no-test' not in calls()[1]
    assert results()['configs'][0]['runs'][0]['test'] and len(results()['evaluations']) == 1


def test_validation_curves(run_tool):
    assert run_tool('--cfg', 'a.yaml', 'b.yaml', '--seeds', 0, 1) == 0
    records = [json.loads(line) for line in Path('work_dirs/study/s/a/seed1/metrics.jsonl').read_text().splitlines()]
    curve = results()['configs'][0]['runs'][1]['curve']
    assert curve == [record['val_top1'] for record in records if record['kind'] == 'epoch'] and len(curve) == 9
    assert '![Validation error after each epoch](results/s.svg)' in Path('docs/results.md').read_text()
    picture = Path('docs/results/s.svg').read_text()
    assert '>a<' in picture and '>b<' in picture and 'validation top-1 error, %' in picture


def test_data_that_vary_with_the_seed(run_tool, capsys):
    Path('c.yaml').write_text('data: {name: elpv}\nbackbone: {name: resnet18_v1}\nmethod: {name: finetune}\n'
                              'train: {epochs: 1, optimizer: {name: sgd, lr: 0.1}}\n')
    words = ('--cfg', 'c.yaml', '--seeds', 0, 3)
    assert run_tool(*words, '--vary', 'data') == 0
    assert calls()[1][-2:] == ['data.val_seed=3', 'data.split_seed=3']
    assert results()['configs'][0]['seeded'] == ['data.val_seed', 'data.split_seed']
    assert 'data.val_seed and data.split_seed as the seed' in Path('docs/results.md').read_text()
    capsys.readouterr()
    assert run_tool(*words) == 2  # other data are not mixed in
    assert 'changed since' in capsys.readouterr().err


def test_folds(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--seeds', 1, '--folds', 0, 4, '--evaluate') == 0
    assert [c[-1] for c in calls()] == ['data.fold=0', 'data.fold=4']
    assert [(r['seed'], r['fold']) for r in results()['configs'][0]['runs']] == [(1, 0), (1, 4)]
    assert Path('work_dirs/study/s/a/seed1-fold4/study.json').exists()


def test_earlier_results_and_evaluations_stay(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--evaluate') == 0
    folder = Path('work_dirs/study/s/a/seed0')
    (folder / 'test_evaluations.jsonl').write_text('{"evaluated_at": "2026-01-01T00:00:00", "top1": 0.5}\n')
    assert run_tool('--cfg', 'b.yaml', '--seeds', 7, '--evaluate') == 0
    assert [c['config'] for c in results()['configs']] == ['a.yaml', 'b.yaml'] and len(results()['commands']) == 2
    assert run_tool('--cfg', 'a.yaml', '--evaluate') == 0
    assert [e['evaluated_at'][:4] for e in results()['evaluations']] == ['2026'] * 3


def test_another_comment_is_no_change(run_tool):
    Path('a.yaml').write_text('# a\ndata:\n  name: elpv\ntrain: {epochs: 1, optimizer: {name: sgd, lr: 0.01}}\n')
    assert run_tool('--cfg', 'a.yaml') == 0
    Path('a.yaml').write_text('train: {optimizer: {lr: 1e-2, name: sgd}, epochs: 1}  # b\ndata: {name: elpv}\n')
    assert run_tool('--cfg', 'a.yaml') == 0
    assert len(calls()) == 1


def test_how_runs_are_executed_may_change(run_tool):
    words = ('--cfg', 'a.yaml', '--seeds', 0, 'train.epochs=3')
    assert run_tool(*words, 'data.workers=0') == 0 and run_tool(*words, 'data.workers=2', 'run.log_every=5') == 0
    assert len(calls()) == 1 and results()['configs'][0]['overrides'] == ['train.epochs=3', 'data.workers=0']
    assert run_tool(*words, 'run.pointing_game=true') == 2  # what a finished run has not measured


@pytest.mark.parametrize('change', ('file', 'override'))
def test_a_changed_configuration_is_not_mixed_in(run_tool, capsys, change):
    assert run_tool('--cfg', 'a.yaml') == 0
    words = ['--cfg', 'a.yaml', '--seeds', 0]
    if change == 'file':
        Path('a.yaml').write_text('# a\nrun: {}\n')
    else:
        words.append('train.epochs=3')
    capsys.readouterr()
    assert run_tool(*words) == 2
    assert "'a.yaml' or its overrides changed since" in capsys.readouterr().err
    Path('docs/results/s.json').unlink()
    assert run_tool(*words) == 2
    assert 'was run with another' in capsys.readouterr().err
    assert len(calls()) == 1


def test_a_foreign_folder_is_left_alone(run_tool, capsys):
    folder = Path('work_dirs/study/s/a/seed0')
    folder.mkdir(parents=True)
    (folder / 'notes.txt').write_text('mine')
    assert run_tool('--cfg', 'a.yaml') == 2
    assert 'holds something that is no run of this study' in capsys.readouterr().err and not calls()


@pytest.mark.parametrize('words, says', [
    (['--cfg', 'none.yaml'], "cannot read configuration 'none.yaml'"),
    (['--cfg', 'a.yaml', './a.yaml'], "--cfg: 'a' is given twice"),
    (['--cfg', 'a.yaml', '--seeds', 1, 1], "--seeds: '1' is given twice"),
    (['--cfg', 'a.yaml', 'run.seed=1'], 'give seeds with --seeds'),
    (['--cfg', 'a.yaml', '--evaluate', 'epochs=1'], "'epochs=1' is not of the form"),
    (['--cfg', 'a.yaml', '--name', '../x'], "--name '../x' must be made of"),
    (['--seeds', 1], 'give --study, or --name and --cfg, or --render'),
    (['--cfg', 'a.yaml', '--seeds', 'x'], 'invalid int value')])
def test_usage_errors_are_one_line(run_tool, capsys, words, says):
    assert run_tool(*words) == 2
    error = capsys.readouterr().err
    assert says in error and error.startswith('error: ') and error.count('\n') == 1


def test_render_is_made_of_the_results_alone(run_tool, tmp_path):
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, '--evaluate') == 0
    page = Path('docs/results.md').read_text()
    assert run_tool('--render', name=None) == 0 and Path('docs/results.md').read_text() == page
    summary = results()['configs'][0]['summary']['test']['top1']
    assert f"| a | test | 60 | 2 | {100 * summary['mean']:.2f} ± {100 * summary['sd']:.2f} |" in page
    assert '### Evaluations of the test split: 2' in page and 'OMP_NUM_THREADS=2' in page
    assert str(tmp_path) not in page


def test_played_is_a_column_where_it_was_measured(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, '--evaluate') == 0
    assert 'In boxes' not in Path('docs/results.md').read_text()
    behave(s2='pointing_game', s3='pointing_game')
    assert run_tool('--cfg', 'b.yaml', '--seeds', 2, 3, '--evaluate') == 0
    page = Path('docs/results.md').read_text()
    a, b = (next(line for line in page.split('\n') if line.startswith(f'| {name} | test')) for name in 'ab')
    assert '| Mean class | In boxes | Cross-entropy | Minutes a run |' in page
    assert 'which cover 49.0 % of the images' in page
    assert b.split(' | ')[-3] == '85.00 ± 7.07' and a.split(' | ')[-3] == '–'


def test_configurations_are_compared_with_the_first(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, '--evaluate') == 0
    assert '### Compared' not in Path('docs/results.md').read_text()
    assert run_tool('--cfg', 'a.yaml', 'b.yaml', '--seeds', 0, 1, 2, '--evaluate') == 0
    tree = results()
    first, second = tree['configs']
    for run, own, top1 in [*zip(first['runs'], (0, 0, 0), (0.8, 0.9, 0.7)), *zip(second['runs'], (1, 1, 1),
                                                                              (0.84, 0.92, 0.73))]:
        run['test']['top1'] = top1
        run['cost'] = {'parameters': 4_000_000 + 500_000 * own, 'multiply_adds': 400_000_000}
    second['summary']['test']['top1']['mean'] = 0.83
    del second['runs'][2]  # has no partner: a difference of two runs
    text = '\n'.join(study_page._comparison(tree, drawn=()))
    assert '| a | – | – | – | – | 4.00 | – | 0.400 |' in text
    # t of one degree of freedom: 12.706 at 97.5 %, and 3 / (1.41 / √2) = 3 is passed with p = 2 arctan(1/3) / π
    assert '| b | 2 | +3.00 ± 1.41 | -9.71 to +15.71 | 0.205 | 4.50 | +6.00 | 0.400 | 208 |' in text
    assert 'Interval and p: paired t-test over runs.' in text
    assert 'Differences of test top-1 to a, in points' in text
    for run in first['runs'] + second['runs']:
        run['cost'] = None  # results of before it was kept
    assert '| b | 2 | +3.00 ± 1.41 | -9.71 to +15.71 | 0.205 | – | – | – | – |' in '\n'.join(
        study_page._comparison(tree, drawn=()))


def test_runs_of_several_folds_are_compared_by_the_corrected_test(run_tool):
    assert run_tool('--cfg', 'a.yaml', 'b.yaml', '--folds', 0, 1, 2, '--evaluate') == 0
    tree = results()
    for entry, values in zip(tree['configs'], ((0.8, 0.9, 0.7), (0.84, 0.92, 0.76))):
        for run, top1 in zip(entry['runs'], values):
            run['test']['top1'] = top1
    text = '\n'.join(study_page._comparison(tree, drawn=()))
    assert '| b | 3 | +4.00 ± 2.00 | – | – |' in text  # the split is not on record
    for entry in tree['configs']:
        for run in entry['runs']:
            run['split_images'] = {'train': 40, 'test': 20}
    text = '\n'.join(study_page._comparison(tree, drawn=()))
    # the standard error is 2 √(1/3 + 1/2) = 1.826, Student's t of two degrees of freedom 4.303; 4 / 1.826 = 2.191
    assert '| b | 3 | +4.00 ± 2.00 | -3.86 to +11.86 | 0.160 |' in text
    assert 'corrected resampled t-test (Nadeau and Bengio 2003)' in text


def test_results_stay_with_the_runs_unless_told(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('a.yaml').write_text('')
    words = ['--name', 's', '--cfg', 'a.yaml', '--work-dir', 'here']
    assert cli.run(lambda argv: study_command.main(argv, train=TRAIN, check=lambda *_: None), words) == 0
    assert Path('here/results/s.json').exists() and '# Results' in Path('here/results.md').read_text()
    assert 'page: here/results.md' in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['a.yaml', 'calls.jsonl', 'here']


def test_finished_runs_are_shown_after_a_kill(run_tool, monkeypatch):
    killed = study._call

    def run(words):
        if Path('work_dirs/study/s/a/seed0').exists() and 'work_dirs/study/s/a/seed1' in words:
            raise KeyboardInterrupt
        return killed(words)

    monkeypatch.setattr(study, '_call', run)
    assert run_tool('--cfg', 'a.yaml', '--seeds', 0, 1, '--evaluate') == 130
    assert [r['seed'] for r in results()['configs'][0]['runs']] == [0]
    assert '| a | test | 60 | 1 |' in Path('docs/results.md').read_text()


def test_a_request_to_end_reaches_the_training(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('a.yaml').write_text('')
    behave(s0='wait')
    words = ['--name', 's', '--cfg', 'a.yaml', '--seeds', '0', '1']
    tool = ('import sys; from gluon_fgvc.commands import cli, study; '
            f'sys.exit(cli.run(lambda argv: study.main(argv, train={TRAIN}, check=lambda *_: None), {words}))')
    process = subprocess.Popen([sys.executable, '-c', tool], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                               env={**os.environ, 'PYTHONPATH': str(ROOT)})
    while process.stdout.readline() != 'waits\n':
        assert process.poll() is None
    process.terminate()
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75 and told.count('error: ') == 1 and 'a seed 0: the training was asked to end' in told
    assert len(calls()) == 1 and not study.trained(Path('work_dirs/study/s/a/seed0'))


@pytest.mark.parametrize('words, says', [
    (('--folds', 0, 1), "'cfg seed 0 fold 0' cannot be run: .*set data.folds"),
    (('--folds', 0, 3, 'data.folds=3'), "'cfg seed 0 fold 3' cannot be run: .*not one of the 3 folds"),
    (('--variant', 'warn', 'method.name=warn', 'method.depth=9'), "'cfg warn seed 0' cannot be run: .*depth"),
    (('--variant', 'long', 'train.epoch=9'), "'cfg long seed 0' cannot be run: .*unknown key 'epoch'")])
def test_a_plan_checks_each_configuration(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    Path('cfg.yaml').write_text(small_run.CONFIG)
    assert cli.run(study_command.main, ['--name', 's', '--cfg', 'cfg.yaml', '--plan', *map(str, words)]) == cli.USAGE
    captured = capsys.readouterr()
    assert re.search(says, captured.err) and captured.err.count('error: ') == 1 and 'new' not in captured.out


def test_a_plan_says_what_another_method_drops(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path('cfg.yaml').write_text(small_run.CONFIG)
    words = ['--name', 's', '--cfg', 'cfg.yaml', '--plan', '--seeds', '0', '1', 'data.folds=2', '--folds', '0', '1',
             '--variant', 'plain', 'run.log_every=1', '--variant', 'warn', 'method.name=warn']
    with pytest.warns(UserWarning, match='method.name=warn in the place of finetune: dropped of cfg.yaml, .*: dropout; '
                                         'kept: lr_mult'):
        assert cli.run(study_command.main, words) == cli.OK
    assert '8 runs, 0 finished' in capsys.readouterr().out


def test_render_refuses_other_files(tmp_path):
    (tmp_path / 'x.json').write_text('[]')
    with pytest.raises(CheckpointError, match='is not a results file'):
        study_page.render(tmp_path)


def test_the_committed_page_is_what_the_results_say():
    assert (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8') == study_page.render(ROOT / 'docs' / 'results')


def test_status_needs_the_record(tmp_path):
    config = tmp_path / 'a.yaml'
    config.write_text('')
    run, = study.plan('s', [config], [0], work_dir=tmp_path / 'w')
    assert study.status(run, False) == 'new'
    run.folder.mkdir(parents=True)
    (run.folder / 'study.json').write_text('{"tor')
    with pytest.raises(ConfigError, match='no run of this study'):
        study.status(run, False)


# --- variants --------------------------------------------------------------------------------

VARIANTS = ('--cfg', 'a.yaml', '--evaluate', 'train.epochs=3', '--variant', 'wide', 'method.width=4', 'method.depth=2',
            '--variant', 'narrow', 'method.width=1', '--seeds', 0, 1)


def test_variants_of_a_configuration(run_tool, capsys):
    assert run_tool(*VARIANTS) == 0
    assert calls()[0][1:] == ['a.yaml', '--work-dir', 'work_dirs/study/s/a/wide/seed0', '--seed', '0',
                              'train.epochs=3', 'method.width=4', 'method.depth=2']
    assert calls()[3][-2:] == ['train.epochs=3', 'method.width=1'] and len(calls()) == 4
    assert 'a wide seed 1' in capsys.readouterr().out
    assert [(c['config'], c['variant'], c['overrides'][1:]) for c in results()['configs']] == [
        ('a.yaml', 'wide', ['method.width=4', 'method.depth=2']), ('a.yaml', 'narrow', ['method.width=1'])]
    page = Path('docs/results.md').read_text()
    assert '| wide | test |' in page and '- `a.yaml` (narrow), SHA-256' in page
    assert '--variant wide method.width=4 method.depth=2' in page


def test_variants_add_to_a_study(run_tool):
    assert run_tool('--cfg', 'a.yaml', '--evaluate') == 0
    assert run_tool(*VARIANTS) == 0
    assert run_tool(*VARIANTS) == 0
    assert [c.get('variant') for c in results()['configs']] == [None, 'wide', 'narrow'] and len(calls()) == 5
    assert '| a (wide) | test |' in Path('docs/results.md').read_text()
    assert len(results()['evaluations']) == 5
    assert run_tool('--cfg', 'a.yaml', '--variant', 'wide', 'method.width=5') == 2  # is not the same any more


@pytest.mark.parametrize('words, says', [
    (('--variant', 'wide'), "--variant 'wide' must be a name of letters"),
    (('--variant', '../wide', 'method.width=1'), "--variant '../wide' must be a name of letters"),
    (('--variant', 'a', 'method.width=1', '--variant', 'a', 'method.width=2'), "--variant: 'a' is given twice"),
    (('--variant', 'a', 'run.seed=1'), 'give seeds with --seeds')])
def test_wrong_variants(run_tool, capsys, words, says):
    assert run_tool('--cfg', 'a.yaml', *words) == 2
    assert says in capsys.readouterr().err and not calls()


def test_summaries_in_the_repository_are_of_the_runs_beside_them():
    for path in sorted((ROOT / 'docs' / 'results').glob('*.json')):
        for entry in json.loads(path.read_text('utf-8'))['configs']:
            for split, summary in entry['summary'].items():
                for metric, said in summary.items():
                    values = [run[split][metric] for run in entry['runs'] if (run[split] or {}).get(metric) is not None]
                    assert said['runs'] == len(values), (path.name, entry.get('variant'), metric)
                    assert said['mean'] == pytest.approx(statistics.mean(values)), (path.name, entry.get('variant'))

"""The arithmetic of comparisons, and that each benchmark measures what it says; how fast anything is, is not tested."""
import argparse
import json
from pathlib import Path

import pytest

import benchmarks
from benchmarks import backbones as table_of_backbones
from benchmarks import (
    cluttered_mnist,
    engines,
    fusion,
    inference,
    int8_speed,
    relu6,
    samplers,
    study_costs,
    training_loop,
    warn_inference,
)
from benchmarks.comparison import Comparison, spread
from gluon_fgvc import backbones
from gluon_fgvc.commands import benchmark, cli
from gluon_fgvc.errors import ConfigError

TINY = ['--backbone', 'mobilenetv2_0.25', '--size', '64', '--batch', '4', '--steps', '3', '--rounds', '2']


def test_spread():
    assert spread([5, 1, 2, 4, 3]) == {'median': 3, 'first_quartile': 2, 'third_quartile': 4, 'least': 1, 'largest': 5,
                                       'samples': 5}


def test_ratios_are_taken_within_a_round():
    slowing_down = Comparison({}, 'step', {'bare': [1.0, 2.0, 10.0], 'ours': [1.1, 2.2, 11.0]}, target=1.05)
    bare, ours = slowing_down.summary()
    assert (bare['name'], ours['name']) == ('bare', 'ours')
    assert bare['seconds']['median'] == 2.0 and bare['ratio']['largest'] == bare['ratio']['least'] == 1.0
    for key in ('least', 'median', 'largest'):
        assert ours['ratio'][key] == pytest.approx(1.1)
    assert not slowing_down.kept()
    assert Comparison({}, 'step', slowing_down.seconds, target=1.11).kept()
    assert Comparison({}, 'step', slowing_down.seconds).kept()
    assert slowing_down.table() == [
        '       ms a step          middle half    ratio      middle half',
        'bare     2000.00    1500.00 – 6000.00    1.000',
        'ours     2200.00    1650.00 – 6600.00    1.100    1.100 – 1.100',
        'target: a ratio of at most 1.05, missed']


def test_each_contender_may_have_its_own_target():
    times = {'net': [1.0, 2.0], 'fast': [0.1, 0.2], 'exact': [0.3, 0.6]}
    kept = Comparison({}, 'batch', times, {'fast': 0.11, 'exact': 0.31})
    assert kept.kept() and kept.table()[-1] == 'target: a ratio of at most fast 0.11, exact 0.31, kept'
    assert not Comparison({}, 'batch', times, {'fast': 0.09, 'exact': 0.31}).kept()
    assert Comparison({}, 'batch', times, {'fast': 0.11}).kept()


def test_samplers_are_timed_beside_the_network():
    parser = argparse.ArgumentParser()
    samplers.add_options(parser)
    result = samplers.measure(parser.parse_args(
        ['--backbone', 'mobilenetv2_0.25', '--batch', '2', '--size', '64', '--sampled', '32', '--map', '8',
         '--rounds', '2']))
    assert list(result.seconds) == ['mobilenetv2_0.25 at 32', *samplers.CONTENDERS]
    assert all(len(times) == 2 and min(times) > 0 for times in result.seconds.values())
    assert result.target == {'fast': 0.10, 'exact': 0.25} and result.unit == 'batch'


def test_both_loops_do_the_same_work_in_turn(monkeypatch):
    order, stop = [], training_loop._Turns.stop
    monkeypatch.setattr(training_loop._Turns, 'stop', lambda self, name: order.append(name) or stop(self, name))
    parser = argparse.ArgumentParser()
    training_loop.add_options(parser)
    result = training_loop.measure(parser.parse_args(TINY))
    assert order == [training_loop.BARE, training_loop.OURS] * 3
    assert {name: len(samples) for name, samples in result.seconds.items()} == {
        training_loop.BARE: 2, training_loop.OURS: 2}  # the first round warmed up
    assert all(sample > 0 for samples in result.seconds.values() for sample in samples)
    assert result.settings['parameter_difference'] < 1e-5


@pytest.mark.parametrize('words, contenders', [
    (['loading', '--images', '8', '--batch', '4', '--rounds', '2', '--long-side', '64'], ['Gluon', 'gluon_fgvc']),
    (['loader_wait', '--backbone', 'mobilenetv2_0.25', '--batch', '2', '--steps', '2', '--workers', '1', '--recipe'],
     ['training step', 'wait for the loader'])])
def test_loading_is_measured(words, contenders, tmp_path):
    code = cli.run(benchmark.main, [*words, '--json', str(tmp_path / 'x.json')])
    result = json.loads((tmp_path / 'x.json').read_text())
    assert [row['name'] for row in result['summary']] == contenders == list(result['seconds'])
    assert {len(samples) for samples in result['seconds'].values()} == {2}
    assert all(sample > 0 for samples in result['seconds'].values() for sample in samples)
    assert code == (cli.OK if result['kept'] else cli.PROBLEMS)


def test_list_names_all(capsys):
    assert cli.run(benchmark.main, ['--list']) == 0
    listed = [line.split(':')[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == benchmarks.available() and 'training_loop' in listed


@pytest.mark.parametrize('words, says', [
    ([], 'name a benchmark; --list shows them'), (['training_lop'], "did you mean 'training_loop'?"),
    (['training_loop', '--steps', '0'], "argument --steps: '0' is not a whole number of at least 1"),
    (['training_loop', '--backbone', 'resnet'], "unknown backbone 'resnet'")])
def test_wrong_words(words, says, capsys):
    assert cli.run(benchmark.main, words) == 2
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1


@pytest.mark.parametrize('target, code, word', [(1e9, 0, 'kept'), (0.0, 3, 'missed')])
def test_the_tool_prints_and_writes(monkeypatch, tmp_path, capsys, target, code, word):
    samples = {'bare': [1.0, 2.0], 'ours': [2.0, 2.0]}
    monkeypatch.setattr(training_loop, 'measure', lambda options: Comparison(
        {'size': options.size}, 'step', samples, target))
    file = tmp_path / 'new' / 'loop.json'
    words = ['training_loop', '--size', '7', '--json', str(file)]
    assert cli.run(benchmark.main, words) == code
    printed = capsys.readouterr().out
    assert printed.startswith('training_loop: size 7\n') and 'omp_num_threads' in printed and word in printed
    tree = json.loads(file.read_text())
    assert tree['seconds'] == samples and tree['kept'] == (code == 0) and tree['target'] == target
    assert tree['summary'][1]['ratio']['median'] == 1.5 and {'cpu', 'omp_num_threads'} <= set(tree['machine'])
    assert cli.run(benchmark.main, words) == 2  # before anything is measured
    assert 'exists; name another, or add --overwrite' in capsys.readouterr().err
    assert cli.run(benchmark.main, [*words, '--overwrite']) == code


# --- the table of backbones ----------------------------------------------------------------------

PAGE = Path(__file__).parents[1] / 'docs' / 'backbones.md'
ROWS = PAGE.with_suffix('.json')
SMALL = 'cifar_resnet20_v1'


@pytest.fixture
def write_table(tmp_path):
    """Run the tool on a page of this test's own."""
    (tmp_path / 'page.md').write_text(f'before\n{table_of_backbones.BEGIN}\nold\n{table_of_backbones.END}\nafter\n')

    def write_table(*words, code=0):
        assert cli.run(benchmark.main, ['backbones', '--page', str(tmp_path / 'page.md'), '--rows',
                                        str(tmp_path / 'rows.json'), '--batch', '2', '--rounds', '1', *words]) == code
        return (tmp_path / 'page.md').read_text(), tmp_path / 'rows.json'

    return write_table


def test_a_page_gets_its_table(write_table, capsys):
    page, rows = write_table('--only-table', SMALL, 'mobilenet0.25')
    row = f'| {SMALL} | yes | 16 32 64 | 1 2 4 | 32 | 0.27 | 0.041 | – | – |'
    assert row in page and '| mobilenet0.25 |' in page and 'old' not in page
    assert page.startswith('before\n') and page.endswith('\nafter\n') and row in capsys.readouterr().out
    assert set(json.loads(rows.read_text())) == {SMALL, 'mobilenet0.25'}


def test_times_are_measured_once(write_table, monkeypatch):
    write_table('--only-table', 'mobilenet0.25')
    page, rows = write_table(SMALL)
    first = json.loads(rows.read_text())[SMALL]
    assert first['forward'] > first['backward'] > 0 and first['machine'] in page and '| mobilenet0.25 |' in page
    assert write_table(SMALL)[0] == page and write_table('--only-table', SMALL)[0] == page
    monkeypatch.setattr(table_of_backbones, 'times', lambda name, batch, rounds: {'forward': 1234.5})
    assert '| 1,234 |' in write_table('--again', SMALL)[0]


def test_an_interrupted_run_goes_on_where_it_stopped(write_table, monkeypatch):
    def times(name, batch, rounds):
        if name == 'resnet18_v1':
            raise KeyboardInterrupt
        return {'forward': 1.0, 'backward': 0.5, 'batch': batch, 'machine': 'here'}

    monkeypatch.setattr(table_of_backbones, 'times', times)
    page, rows = write_table(SMALL, 'resnet18_v1', code=130)
    assert 'old' in page and json.loads(rows.read_text())[SMALL]['forward'] == 1.0


@pytest.mark.parametrize('text, says', [(None, 'no page'), ('no table here', 'has no place for the table')])
def test_pages_without_a_place_are_left_alone(text, says, tmp_path, capsys):
    path = tmp_path / 'page.md'
    if text:
        path.write_text(text)
    assert cli.run(benchmark.main, ['backbones', '--only-table', SMALL, '--page', str(path),
                                    '--rows', str(tmp_path / 'rows.json')]) == 2
    assert says in capsys.readouterr().err and not (tmp_path / 'rows.json').exists()
    assert not text or path.read_text() == text


def test_the_documentation_has_all_backbones_and_its_own_rows():
    rows = json.loads(ROWS.read_text())
    assert sorted(rows) == backbones.available()
    assert '\n'.join(table_of_backbones.table(rows)) in PAGE.read_text()


@pytest.mark.parametrize('name', [name if name in (SMALL, 'efficientnet_lite0', 'resnet50_v1d') else pytest.param(
    name, marks=pytest.mark.slow) for name in backbones.available()])
def test_the_documentation_is_up_to_date(name):
    row = json.loads(ROWS.read_text())[name]
    described = json.loads(json.dumps(table_of_backbones.describe(name)))
    assert {key: row[key] for key in described} == described


# --- WARN ------------------------------------------------------------------------------------

def options_of(module, *words):
    parser = argparse.ArgumentParser()
    module.add_options(parser)
    return parser.parse_args(words)


def test_inference_of_warn_takes_turns_with_its_base(monkeypatch):
    order, load = [], inference.load_exported

    def counted(folder, ctx):
        metadata, graph = load(folder, ctx)
        graph.register_forward_hook(lambda *_: order.append(metadata.method))
        return metadata, graph

    monkeypatch.setattr(inference, 'load_exported', counted)
    words = ('--backbone', SMALL, '--base', SMALL, '--depth', '1', '--batch', '2', '--rounds', '3')
    result = warn_inference.measure(options_of(warn_inference, *words))
    assert order == ['finetune', 'warn'] * 5
    assert {name: len(samples) for name, samples in result.seconds.items()} == {'WRN': 3, 'WARN': 3}
    assert result.target == 1.05 and result.settings['depth'] == 1


def test_fused_prediction_takes_turns_with_the_exported():
    result = fusion.measure(options_of(fusion, '--backbone', SMALL, '--size', '32', '--batch', '2', '--rounds', '3'))
    assert {name: len(samples) for name, samples in result.seconds.items()} == {'exported': 3, 'fused': 3}
    assert result.kept() and result.settings['backbone'] == SMALL


def test_both_forms_of_relu6_take_turns():
    words = '--size', '32', '--batch', '2', '--rounds', '3'
    result = relu6.measure(options_of(relu6, '--backbone', 'mobilenetv2_0.25', *words))
    assert {name: len(samples) for name, samples in result.seconds.items()} == {'clip alone': 3, 'after a ReLU': 3}
    with pytest.raises(ConfigError, match="'resnet18_v1' has no ReLU6"):
        relu6.measure(options_of(relu6, '--backbone', 'resnet18_v1', *words))


def test_throughput_of_cluttered_mnist(monkeypatch):
    composed = []
    monkeypatch.setattr(cluttered_mnist.Composer, '__call__', lambda self, index: composed.append(
        (index, self.distractors)))
    words = '--images', '7', '--rounds', '3', '--distractors', '4'
    result = cluttered_mnist.measure(options_of(cluttered_mnist, *words))
    assert composed == [(index, 4) for index in range(7)] * 3 and len(result.seconds['composing']) == 3
    for seconds, kept, word in ((1 / 6000, True, '6,000 images/s'), (1 / 4000, False, '4,000 images/s')):
        throughput = cluttered_mnist.Throughput({}, 'image', {'composing': [seconds] * 3}, cluttered_mnist.TARGET)
        assert throughput.kept() is kept and word in throughput.table()[0]


@pytest.mark.slow
def test_epochs_of_attention_scaled_training(tmp_path):
    code = cli.run(benchmark.main, ['attention', '--backbone', 'mobilenetv2_0.25', '--size', '32', '--batch', '2',
                                    '--images', '8', '--steps', '2', '--rounds', '2', '--json',
                                    str(tmp_path / 'x.json')])
    result = json.loads((tmp_path / 'x.json').read_text())
    assert code == (0 if result['kept'] else 3)
    assert {name: (part['target'], list(part['seconds'])) for name, part in result['parts'].items()} == {
        'F': (1 / 30, ['first epoch', 'second epoch']), 'A, in_out': (1.0, ['E', 'A']), 'A, out': (0.85, ['E', 'A'])}
    assert all(len(samples) == 2 for part in result['parts'].values() for samples in part['seconds'].values())


@pytest.mark.parametrize('other, share, kept', [(3.0, 1.0, True), (1.95, 0.975, True), (1.8, 0.9, False)])
def test_auto_is_held_to_the_fastest_engine(other, share, kept):
    measured = engines.Engines({}, {'net, 1 image': Comparison({}, 'image', {'auto': [2.0] * 3, 'other': [other] * 3})})
    assert measured.share(measured.comparisons['net, 1 image']) == pytest.approx(share)
    assert measured.kept() is kept and ('kept' if kept else 'missed') in measured.table()[-1]
    assert measured.record()['networks']['net, 1 image']['share'] == pytest.approx(share)


def test_engines_take_turns(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    file = tmp_path / 'x.json'
    assert cli.run(benchmark.main, ['engines', '--backbones', 'mobilenetv2_0.25', '--size', '32', '--batch', '2',
                                    '--rounds', '1', '--json', str(file)]) in (cli.OK, cli.PROBLEMS)
    found = json.loads(file.read_text())['networks']
    assert list(found) == ['mobilenetv2_0.25, 1 image', 'mobilenetv2_0.25, 2 images']
    assert all(next(iter(one['seconds'])) == 'auto' and len(one['seconds']) == 3 for one in found.values())


@pytest.mark.parametrize('vnni', [True, False])
def test_int8_is_timed_beside_the_fused_network(vnni, monkeypatch):
    """Its target holds where the processor has instructions for it, and for networks that have one."""
    monkeypatch.setattr(int8_speed, 'has_vnni', lambda: vnni)
    monkeypatch.setattr(int8_speed, 'TARGETS', {'mobilenetv2_0.25': 0.5})
    parser = argparse.ArgumentParser()
    int8_speed.add_options(parser)
    found = int8_speed.measure(parser.parse_args(
        ['--backbone', 'mobilenetv2_0.25', '--size', '32', '--batch', '2', '--rounds', '2']))
    assert list(found.seconds) == ['float32, mxnet_fused', 'float32, onnxruntime', 'int8']
    assert all(len(times) == 2 and min(times) > 0 for times in found.seconds.values())
    assert found.target == ({'int8': 0.5} if vnni else None)


def test_costs_of_a_study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('base.yaml').write_text(
        'data: {name: image_folder, root: ., batch_size: 4, train: {random_resized_crop: 48, flip: true}, '
        'eval: {resize: [32, 32]}}\nbackbone: {name: mobilenetv2_0.25, weights: none}\n'
        'method: {name: finetune}\ntrain: {epochs: 3, optimizer: {name: sgd, lr: 0.01}}\n')
    Path('s.yaml').write_text('base: base.yaml\nvariants:\n  plain: {}\n  pmg: {method.name: pmg, method.features: 8}\n'
                              '  two: {train.epochs: 2, data.batch_size: 2}\n')
    parser = argparse.ArgumentParser()
    study_costs.add_options(parser)
    words = ['--study', 's.yaml', '--classes', '5', '--steps', '2', '--rounds', '2']
    result = study_costs.measure(parser.parse_args([*words, '--variant', 'plain', '--variant', 'pmg']))
    assert list(result.seconds) == ['plain', 'pmg'] and result.unit == 'step' and result.settings['what'] == 'training'
    plain, pmg = (min(result.seconds[name]) for name in ('plain', 'pmg'))
    assert 1.5 * plain < pmg  # whose step is four passes
    result = study_costs.measure(parser.parse_args([*words, '--predict']))
    assert list(result.seconds) == ['plain', 'pmg', 'two'] and result.unit == 'batch'
    assert all(len(samples) == 2 and min(samples) > 0 for samples in result.seconds.values())
    with pytest.raises(ConfigError, match="--variant 'many': study 's' has none of this name"):
        study_costs.measure(parser.parse_args([*words, '--variant', 'many']))

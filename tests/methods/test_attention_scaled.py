"""Attention-scaled convolutions as a method: schedules, groups, what learns, the cheap A phase, export."""
import json

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mxnet import autograd, nd, sym

from gluon_fgvc import backbones, deploy, methods, nn
from gluon_fgvc.config import EvalView
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.fit import fit as train_method
from gluon_fgvc.engine.log import Log
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.methods.attention_scaled import GROUPS, LETTERS, SCHEDULE, expand, group_of
from gluon_fgvc.nn.parameters import structural, to_numpy
from tests.engine import toy

CLASSES = 3


def create(backbone='mobilenetv2_0.25', **options):
    mx.random.seed(0)
    np.random.seed(0)
    return methods.create('attention_scaled', backbones.get(backbone), CLASSES, **options)


# --- schedules -------------------------------------------------------------------------------

@pytest.mark.parametrize('schedule, expected', [
    ('FFA3BA2', 'FFAAABAA'), ('F2A3BA3BA2', SCHEDULE), ('E', 'E'), ('A12', 'A' * 12), ('F1B', 'FB')])
def test_repeats_are_written_out(schedule, expected):
    assert expand(schedule) == expected


@given(st.lists(st.tuples(st.sampled_from(sorted(LETTERS)), st.integers(1, 20)), min_size=1))
def test_expanding_undoes_any_way_of_writing(pairs):
    plain = ''.join(letter * times for letter, times in pairs)
    assert expand(plain) == plain
    assert expand(''.join(f'{letter}{times}' for letter, times in pairs)) == plain


@given(st.text(max_size=12))
def test_anything_else_is_an_error_that_names_the_character(text):
    try:
        assert set(expand(text)) <= set(LETTERS)
    except ConfigError as error:
        assert 'method.schedule' in str(error)


@pytest.mark.parametrize('schedule, message', [
    ('FFXA', "'X' at position 3 is not a letter of F, A, B, G, E"), ('FFa', "'a' at position 3"),
    ('3FA', "'3' at position 1"), ('F A', "' ' at position 2"),
    ('A0B', "'A0' at position 1 repeats no time"), ('', 'has no letter'),
    ('A3-2', "'-' at position 3"), ('A²', "'²' at position 2")])
def test_wrong_schedules(schedule, message):
    with pytest.raises(ConfigError) as error:
        create(schedule=schedule)
    assert message in str(error.value)


@pytest.mark.parametrize('epochs, letters', [(12, SCHEDULE), (5, 'FFAAA'), (14, SCHEDULE + 'EE'), (0, '')])
def test_without_a_schedule_the_papers_is_cut_or_continued(epochs, letters):
    assert ''.join(phase.name for phase in create().phases(epochs)) == letters


def test_a_schedule_of_another_length_than_the_training():
    method = create(schedule='FA3')
    assert [phase.name for phase in method.phases(4)] == list('FAAA')
    with pytest.raises(ConfigError, match="train.epochs is 5, but method.schedule 'FA3' has 4 epochs"):
        method.phases(5)


def test_every_letter_starts_a_fresh_optimizer():
    timeline = phases.timeline(create(schedule='FA2B').phases(4), 4)
    assert [(phase.name, first, length) for phase, first, length in timeline] == [
        ('F', 0, 1), ('A', 1, 1), ('A', 2, 1), ('B', 3, 1)]
    assert all(phase.fresh_optimizer for phase, _, _ in timeline)


# --- what learns -----------------------------------------------------------------------------

@pytest.mark.parametrize('backbone', ['resnet18_v1', 'mobilenetv2_0.25'])
def test_groups_cover_each_parameter_once_and_letters_train_them(backbone):
    method, learned = create(backbone), {}
    names = [name for name, parameter in structural(method.train_net).items() if parameter._differentiable]
    for letter, phase in LETTERS.items():
        learned[letter] = set(phases.enter(phase, method.train_net, hybridize=False))
    groups = {group: {name for name in names if group_of(name) == group} for group in GROUPS}
    assert sum(map(len, groups.values())) == len(names) and all(groups.values())
    for letter in 'FAB':
        assert learned[letter] == groups[letter]
    assert learned['E'] == groups['F'] | groups['B'] | groups['rest']
    assert learned['A'] == {f'{name}.attention' for name in nn.attention_convolutions(method.net)}
    assert {'body.stage1.0.conv1.gamma'} & learned['B'] == set()  # no weight of a convolution among them
    if backbone == 'resnet18_v1':  # the released scripts miss BatchNorm on the shortcuts
        assert any('downsample' in name for name in learned['B'])


@pytest.mark.parametrize('letter, mode', [('F', 'fixed'), ('A', 'fixed'), ('B', 'moving'), ('G', 'fixed'),
                                          ('E', 'moving')])
def test_batch_norm_of_each_letter(letter, mode):
    assert LETTERS[letter].batch_norm == mode and LETTERS[letter].epochs == 1


def test_g_keeps_the_factors_of_filters_and_b_divides_them_out():
    method, images = create('resnet18_v1', form='out'), nd.array(np.random.RandomState(0).normal(size=(8, 3, 64, 64)))
    attention = [conv.attention for conv in method.convolutions.values()]

    def scores(letter, factors):
        for parameter, values in zip(attention, factors):
            parameter.set_data(values)
        phases.enter(LETTERS[letter], method.train_net, hybridize=False)
        with autograd.train_mode():
            return method.train_net(images).asnumpy()

    learnt = [nd.random.uniform(0.5, 1.5, parameter.shape) for parameter in attention]
    ones = [nd.ones(parameter.shape) for parameter in attention]
    with autograd.predict_mode():
        scores('G', learnt)
        deployed = method.net(images).asnumpy()
    np.testing.assert_allclose(scores('G', learnt), deployed, rtol=1e-5)
    erased, plain = scores('B', learnt), scores('B', ones)
    assert np.abs(erased - plain).max() < 0.05 * np.abs(plain).max() < np.abs(deployed - scores('G', ones)).max()


def test_momentum_of_moving_statistics():
    method = create()
    letters = {phase.name: phase for phase in method.phases(14)}
    assert {name: phase.batch_norm_momentum for name, phase in letters.items()} == {
        'F': None, 'A': None, 'B': 0.9, 'E': 0.9}
    layers = []
    method.net.apply(lambda block: layers.append(block) if isinstance(block, mx.gluon.nn.BatchNorm) else None)
    for layer in layers:
        layer._kwargs['momentum'] = 0.99  # as EfficientNet was trained
    for letter, momentum in (('F', 0.99), ('B', 0.9), ('A', 0.99)):
        phases.enter(letters[letter], method.train_net, hybridize=False)
        assert {layer._kwargs['momentum'] for layer in layers} == {momentum}
    own = create(batch_norm_momentum=None).phases(14)
    assert {phase.batch_norm_momentum for phase in own} == {None}


@pytest.mark.parametrize('form', ['in_out', 'out'])
@pytest.mark.parametrize('penalty', ['l1', 'l2', 'diverge', 'diverge_l2'])
def test_a_share_makes_penalties_comparable(form, penalty):
    """Whatever the penalty, λ makes its gradient the same fraction of the cross-entropy's; the share of λ is said."""
    images, labels = nd.array(np.random.RandomState(0).normal(size=(6, 3, 64, 64))), nd.array([0, 1, 2, 0, 1, 2])
    method = create(form=form, penalty=penalty, penalty_share=0.25)
    before = to_numpy(method.net)
    line = method.calibrate(lambda: (images, labels))
    assert f"penalty '{penalty}'" in line and "0.25 of the cross-entropy's gradient" in line
    for name, values in to_numpy(method.net).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
    given = create(form=form, penalty=penalty, penalty_weight=2 * method.penalty_weight)
    assert "0.5 of the cross-entropy's gradient" in given.calibrate(lambda: (images, labels))
    # The layers' own ratios, by hand: with λ their median is the share.
    phases.enter(given.phases(12)[2], given.train_net, False)
    with autograd.record():
        loss = given.losses({'logits': given.net(images)}, labels, LETTERS['F'])['cross_entropy'].mean()
    loss.backward()
    slopes = [np.abs(conv.attention.grad().asnumpy()).mean() for conv in given.convolutions.values()]
    generator, ratios = np.random.RandomState(0), []
    for conv, slope in zip(given.convolutions.values(), slopes):
        a = 1 + 0.1 * generator.standard_normal(conv.attention.shape).reshape((conv.attention.shape[0], -1))
        gradient = {'l1': np.sign(a), 'l2': a / np.linalg.norm(a, axis=1, keepdims=True),
                    'diverge': -2 * (a - 1) / a.size, 'diverge_l2': -2 * (a - 1)}[penalty]
        ratios.append(np.abs(gradient).mean() / slope)
    assert np.median(ratios) * method.penalty_weight == pytest.approx(0.25, rel=1e-3)


def test_without_a_penalty_nothing_is_calibrated():
    def first_batch():
        raise AssertionError('no batch is needed')
    assert create(penalty_weight=0).calibrate(first_batch) is None
    assert methods.create('finetune', backbones.get('mobilenetv2_0.25'), 3).calibrate(first_batch) is None


def test_a_group_without_parameters_is_an_error():
    with pytest.raises(ConfigError, match="'B', epoch 3, trains batch norm, of which 'squeezenet1.0' has no parameter"):
        create('squeezenet1.0', schedule='FAB')
    with pytest.raises(ConfigError, match="'G', epoch 2"):
        create('squeezenet1.0', schedule='FG')
    assert create('squeezenet1.0', schedule='FAE').phases(3)
    with pytest.raises(ConfigError, match="'B', epoch 6"):
        create('squeezenet1.0').phases(12)


@pytest.mark.parametrize('options, message', [
    ({'penalty_weight': float('nan')}, 'nan must be a finite number'), ({'penalty_weight': float('inf')}, 'inf must'),
    ({'penalty': 'l1', 'ceiling': 1.0}, "not with 'l1'")])
def test_wrong_penalties(options, message):
    with pytest.raises(ValueError, match=message):
        create(**options)


def test_the_penalty_counts_where_attention_learns():
    method = create(penalty='l1_mean', penalty_weight=0.5)
    outputs, labels = {'logits': nd.zeros((2, CLASSES))}, nd.array([0, 1])
    for letter, terms in (('F', {'cross_entropy'}), ('A', {'cross_entropy', 'attention'}), ('E', {'cross_entropy'})):
        losses = method.losses(outputs, labels, LETTERS[letter])
        assert set(losses) == terms
        if letter == 'A':
            assert losses['attention'].asscalar() == pytest.approx(0.5)  # λ times the mean of ones
    method.penalty_weight = 0
    assert set(method.losses(outputs, labels, LETTERS['A'])) == {'cross_entropy'}


# --- training --------------------------------------------------------------------------------

STILL = {'data__train': {'resize': [32, 32]}, 'data__eval': {'resize': [32, 32]},
         # Adam's first steps go by the sign of a gradient, which rounding decides where it is all but 0.
         'train__optimizer': {'name': 'sgd', 'lr': 1e-2}}


def fit(tmp_path, name, quick=True, backbone='mobilenetv2_0.25', epochs=4, **options):
    method, folder = create(backbone, **options), tmp_path / name
    folder.mkdir()
    cfg = toy.settings(train__epochs=epochs, **STILL)
    if not quick:
        method.phase_net = lambda phase: None
    train, val = toy.loaders(cfg, tmp_path / 'images', 16)
    train_method(method, toy.training_data(train, val, num_classes=CLASSES), cfg, Log(folder))
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    return to_numpy(method.net), rows, (folder / 'log.txt').read_text()


def test_a_phases_without_weight_gradients_train_to_what_the_plain_loop_trains_to(tmp_path):
    options = dict(form='out', schedule='FA2F')
    expected, plain, plain_log = fit(tmp_path, 'plain', quick=False, **options)
    found, rows, log = fit(tmp_path, 'quick', **options)
    assert 'without weight gradients' in log and 'without weight gradients' not in plain_log
    assert 'computed once and reused' in log
    assert [create(form='out').phase_net(LETTERS[letter]) for letter in 'FBE'] == [None] * 3
    moved = [np.abs(values - 1).max() for name, values in found.items() if name.endswith('.attention')]
    assert max(moved) > 5e-3
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
    for row, other in zip(rows, plain):
        if row['kind'] == 'epoch':
            assert row['train_loss'] == pytest.approx(other['train_loss'], abs=1e-4)


def test_what_training_keeps_of_attention(tmp_path):
    _, rows, log = fit(tmp_path, 'run', schedule='FAEB')
    assert 'without weight gradients' not in log  # in_out has no such way
    kept = [row for row in rows if row['kind'] == 'method']
    assert [(row['epoch'], row['phase']) for row in kept] == [(1, 'A')]
    counts = {name: sum(layer['counts']) for name, layer in kept[0]['attention'].items()}
    method = create()
    assert counts == {name: conv.attention.data().size for name, conv in method.convolutions.items()}
    epochs = {row['phase']: row for row in rows if row['kind'] == 'epoch'}
    assert epochs['A']['train_attention'] < 0 and 'train_attention' not in epochs['F']
    assert epochs['A']['train_loss'] == pytest.approx(
        epochs['A']['train_cross_entropy'] + epochs['A']['train_attention'], abs=1e-5)


def graph(path):
    """Read a symbol file without the names of operators, which count how many Gluon made in this process."""
    tree = json.loads(path.read_text())
    for node in tree['nodes']:
        if node['op'] != 'null':
            del node['name']
    return tree


@pytest.mark.parametrize('form', ['in_out', 'out'])
def test_the_exported_graph_is_that_of_the_plain_network(tmp_path, form):
    method, rng = create(form=form), np.random.RandomState(0)
    for conv in method.convolutions.values():
        conv.attention.set_data(nd.array(rng.uniform(0.8, 1.2, conv.attention.shape)))
    plain = methods.create('finetune', backbones.get('mobilenetv2_0.25'), CLASSES)
    settings = dict(classes=list('abc'), eval_view=EvalView(resize=(32, 32)), input_size=(32, 32), mean=(0.5,) * 3,
                    std=(0.25,) * 3)
    pixels = list(rng.randint(0, 256, (2, 32, 32, 3)).astype('uint8'))
    exported = deploy.export(method.deployed(), tmp_path / 'scaled', method='attention_scaled', images=pixels,
                             **settings)
    deploy.export(plain.net, tmp_path / 'plain', method='finetune', **settings)
    assert exported.difference <= 1e-5
    (symbol, parameters), (other, others) = (
        [next((tmp_path / name).glob(f'*{suffix}')) for suffix in ('symbol.json', '.params')]
        for name in ('scaled', 'plain'))
    assert graph(symbol) == graph(other)
    assert set(nd.load(str(parameters))) == set(nd.load(str(others)))
    assert nn.attention_convolutions(method.net)  # the network in memory is as it was
    with autograd.predict_mode():
        assert 'broadcast_mul' in method.net(sym.var('data')).tojson()

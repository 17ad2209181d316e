"""What a training recipe adds to the loop: limits in which nothing changes, values by hand, resume with all on."""
import numpy as np
import pytest

from gluon_fgvc.data import samplers
from gluon_fgvc.engine import checkpoint, fit, train_epoch
from gluon_fgvc.engine.average import ParameterAverage
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn.parameters import to_numpy
from tests.engine import toy
from tests.engine.test_fit import DEVICES, digest, epoch_rows, one_step
from tests.engine.test_fit import fit as train

PLAIN = {'name': 'sgd', 'lr': 0.5, 'momentum': 0}


def change(tmp_path, run, optimizer=None, contexts=None, phases=None, **changes):
    """Train one step on four images; return the change of each parameter."""
    method = toy.Toy(batch_norm=False, ctx=contexts, phases=phases)
    before = to_numpy(method.net)
    cfg = toy.settings(train__epochs=1, train__optimizer={**PLAIN, **(optimizer or {})}, data__train={}, **changes)
    train(tmp_path, cfg, method, run, contexts, val=False, count=4)
    after = to_numpy(method.net)
    return {name: after[name] - before[name] for name in before}


def norm(arrays):
    return float(np.sqrt(sum((array.astype('float64') ** 2).sum() for array in arrays.values())))


@pytest.mark.parametrize('contexts', [None, DEVICES])
@pytest.mark.parametrize('parts', [3, 9])
def test_a_batch_in_parts_is_the_whole_batch(tmp_path, parts, contexts):
    """More parts than images, and parts of unequal size, included. BatchNorm, which there is none of, sees parts."""
    whole = change(tmp_path, 'whole', contexts=contexts)
    found = change(tmp_path, 'parts', contexts=contexts, train__accumulate=parts)
    for name in whole:
        np.testing.assert_allclose(found[name], whole[name], atol=1e-6)
    assert norm(whole) > 1e-3


def test_parts_do_not_add_up_over_steps(tmp_path):
    cfg = {'train__epochs': 2, 'train__optimizer': PLAIN, 'data__train': {}}
    whole, _, _ = train(tmp_path, toy.settings(**cfg), toy.Toy(batch_norm=False), 'a')
    parts, _, _ = train(tmp_path, toy.settings(**cfg, train__accumulate=2), toy.Toy(batch_norm=False), 'b')
    for name, array in to_numpy(whole.net).items():
        np.testing.assert_allclose(to_numpy(parts.net)[name], array, atol=1e-5)


@pytest.mark.parametrize('contexts', [None, DEVICES])
def test_clipping_shortens_the_step_and_keeps_its_direction(tmp_path, contexts):
    plain = change(tmp_path, 'plain', contexts=contexts)
    gradient = norm(plain) / PLAIN['lr']
    for bound in (gradient / 4, gradient * 4):
        clipped = change(tmp_path, f'at{bound}', {'clip_norm': bound}, contexts)
        factor = min(1, bound / gradient)
        for name in plain:
            np.testing.assert_allclose(clipped[name], factor * plain[name], rtol=1e-4, atol=1e-7)


def test_clipping_sees_only_what_learns(tmp_path):
    phases = [Phase('head', 1, r'classifier\..*')]
    gradient = norm(change(tmp_path, 'plain', phases=phases)) / PLAIN['lr']
    found = change(tmp_path, 'clipped', {'clip_norm': gradient / 2}, phases=phases)
    assert norm(found) == pytest.approx(PLAIN['lr'] * gradient / 2, rel=1e-4)


def test_what_is_off_changes_no_bit(tmp_path):
    """Limits of all keys, given as such, against a configuration that does not know them."""
    off = {'train__accumulate': 1, 'train__cutmix': 0.0, 'train__focal_gamma': 0.0, 'train__logit_adjustment': 0.0,
           'train__pairwise_confusion': 0.0, 'run__tensorboard': False}
    optimizer = {**PLAIN, 'layer_decay': 1.0, 'decay_norms': True, 'clip_norm': None}
    old = toy.settings(train__optimizer=PLAIN, train__mixup=0.3)
    new = toy.settings(train__optimizer=optimizer, train__mixup=0.3, **off)
    assert digest(train(tmp_path, old, run='a')[0]) == digest(train(tmp_path, new, run='b')[0])


def test_a_bound_that_is_never_reached_changes_no_bit(tmp_path):
    plain = one_step(tmp_path, 'a')
    bound = change(tmp_path, 'b', {'clip_norm': 1e6})
    for name in plain:
        np.testing.assert_array_equal(bound[name], plain[name])


def test_pairwise_confusion_is_a_term_of_its_own(tmp_path):
    cfg = toy.settings(train__pairwise_confusion=2.0)
    _, _, folder = train(tmp_path, cfg)
    row = next(row for row in epoch_rows(folder) if row['kind'] == 'epoch')
    assert 0 <= row['train_pairwise_confusion'] <= 4
    # The trained loss is the sum of its terms; only (1,) terms count once an image.
    assert row['train_loss'] == pytest.approx(row['train_cross_entropy'] + row['train_pairwise_confusion'], rel=1e-4)


ALL = {
    'data__train': {'random_resized_crop': 8, 'flip': True, 'policy': 'trivial_augment', 'erasing': 0.5},
    'train__optimizer': {'name': 'adamw', 'lr': 0.01, 'wd': 0.1, 'decay_norms': False, 'layer_decay': 0.9,
                         'clip_norm': 0.5},
    'train__schedule': {'name': 'cosine', 'warmup': 0.5}, 'train__accumulate': 2, 'train__mixup': 0.2,
    'train__cutmix': 1.0, 'train__label_smoothing': 0.1, 'train__focal_gamma': 1.5, 'train__logit_adjustment': 1.0,
    'train__pairwise_confusion': 0.5, 'train__class_weights': 'balanced', 'train__ema': 0.9,
    'train__select_by': 'macro_f1', 'data__workers': 1}


def test_with_all_of_it_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch):
    cfg = toy.settings(train__epochs=4, **ALL)
    whole, expected, folder = train(tmp_path, cfg, toy.Toy(dropout=0.5))

    def broken(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        seeds = train_epoch._seed_step
        patch.setattr(train_epoch, '_seed_step', lambda seed, step: seeds(seed, step) if step < 10 else broken())
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path, cfg, toy.Toy(dropout=0.5), 'cut')
    resumed, progress, cut = train(tmp_path, cfg, toy.Toy(dropout=0.5), 'cut')
    assert digest(resumed) == digest(whole) and progress == expected
    assert epoch_rows(cut) == epoch_rows(folder)
    for kind in ('last', 'best'):
        assert checkpoint.read(cut, kind)['parameters_sha256'] == checkpoint.read(folder, kind)['parameters_sha256']


@pytest.mark.parametrize('key, other', [
    ('train__accumulate', 1), ('train__mixup', 0.0), ('train__cutmix', 0.0), ('train__focal_gamma', 0.0),
    ('train__logit_adjustment', 3.0), ('train__pairwise_confusion', 0.0),
    ('data__train', {'random_resized_crop': 8, 'flip': True, 'policy': 'trivial_augment'}),
    ('data__train', {'random_resized_crop': 8, 'flip': True, 'policy': 'rand_augment', 'erasing': 0.5})])
def test_every_part_of_it_takes_effect(tmp_path, with_all, key, other):
    """Else the test above would prove nothing of it."""
    assert one_epoch(tmp_path, **{**ALL, key: other}) != with_all


@pytest.fixture(scope='module')
def with_all(tmp_path_factory):
    return one_epoch(tmp_path_factory.mktemp('all'), **ALL)


def one_epoch(folder, **settings):
    """Return the hash of the parameters after an epoch on 13 images, of which class 0 has one more than class 1."""
    cfg = toy.settings(**{**settings, 'train__epochs': 1, 'data__workers': 0})
    return digest(train(folder, cfg, val=False, count=13)[0])


@pytest.mark.parametrize('select_by, key, sign', [
    ('top1', 'top1', 1), ('loss', 'loss', -1), ('nll', 'loss', -1), ('mean_class', 'mean_class_accuracy', 1),
    ('macro_f1', 'macro_f1', 1)])
def test_what_chooses_the_epoch(tmp_path, monkeypatch, select_by, key, sign):
    values = {'top1': [0.5, 0.7, 0.6, 0.4], 'loss': [0.9, 0.8, 0.7, 0.6], 'mean_class_accuracy': [0.3, 0.2, 0.1, 0.0],
              'macro_f1': [0.1, 0.2, 0.4, 0.3]}
    epochs = iter(range(4))

    def summary(*_):
        epoch = next(epochs)
        return {name: rows[epoch] for name, rows in values.items()}
    monkeypatch.setattr(fit.metrics, 'summary', summary)
    _, progress, _ = train(tmp_path, toy.settings(train__epochs=4, train__select_by=select_by))
    best = int(np.argmax(sign * np.array(values[key])))
    assert progress.best['epoch'] == best and progress.best['value'] == values[key][best]
    assert progress.best['metric'] == select_by and 0.05 <= progress.best['temperature'] <= 20


def test_the_average_rises_to_its_decay(tmp_path):
    """After t steps the decay is at most (1 + t) / (10 + t): by hand for three steps of one number."""
    method = toy.Toy(batch_norm=False)
    average, bias = ParameterAverage(method.net, 0.25), method.net.classifier.bias
    expected = 0.0
    for step, value in enumerate((1.0, -2.0, 4.0, 8.0)):
        bias.set_data(np.full(2, value))
        average.update()
        expected += (1 - min(0.25, (1 + step) / (10 + step))) * (value - expected)
        assert average.state()['classifier.bias'][0] == pytest.approx(expected, rel=1e-6)


def test_addresses_of_random_numbers_do_not_meet():
    """A sample's numbers and a step's come from other seeds, also where epoch, index and step are the same."""
    sample = samplers.generator(samplers.AUGMENT, 0, 1, 2).random(4)
    assert not np.allclose(sample, train_epoch._seed_step(0, 1).random(4))

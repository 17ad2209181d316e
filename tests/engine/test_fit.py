"""The loop: resume, phases, devices, penalties, targets, and what it does when a loss breaks."""
import json

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc.engine import checkpoint, train_epoch
from gluon_fgvc.engine.evaluate import predict
from gluon_fgvc.engine.fit import fit as train_method
from gluon_fgvc.engine.log import Log
from gluon_fgvc.engine.state import State
from gluon_fgvc.errors import ConfigError, TrainingError
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn.parameters import sha256_of, to_numpy
from tests.engine import toy


def fit(tmp_path, cfg, method=None, run='run', contexts=None, val=True, count=16):
    contexts = contexts or [mx.cpu()]
    method = method or toy.Toy()
    folder = tmp_path / run
    folder.mkdir(exist_ok=True)
    loaders = toy.loaders(cfg, tmp_path / 'images', count)
    log = Log(folder, checkpoint.recover(folder, print))
    try:
        progress = train_method(method, toy.training_data(loaders[0], loaders[1] if val else None, contexts), cfg, log)
    finally:
        for loader in loaders:
            loader.close()
    return method, progress, folder


def digest(method):
    return sha256_of(to_numpy(method.train_net))


def epoch_rows(folder):
    rows = [json.loads(line) for line in (folder / 'metrics.jsonl').read_text().splitlines()]
    for row in rows:
        row.pop('seconds', None), row.pop('images_per_s', None)
    return rows


def test_it_learns(tmp_path):
    method, progress, folder = fit(tmp_path, toy.settings(train__epochs=6))
    rows = [row for row in epoch_rows(folder) if row['kind'] == 'epoch']
    assert rows[-1]['train_loss'] < 0.6 * rows[0]['train_loss'] and rows[-1]['val_top1'] == 1.0
    assert progress.epoch == 6 and progress.step == 24
    assert (folder / 'metrics.csv').read_text().count('\n') == 7


@pytest.mark.parametrize('optimizer', [
    {'name': 'sgd', 'lr': 0.1, 'momentum': 0.9, 'wd': 1e-3}, {'name': 'nag', 'lr': 0.1, 'momentum': 0.9},
    {'name': 'adam', 'lr': 0.01}, {'name': 'sgd', 'lr': 0.1, 'momentum': 0.0}])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, monkeypatch, optimizer):
    cfg = toy.settings(train__epochs=4, train__optimizer=optimizer, train__schedule={'name': 'cosine', 'warmup': 0.5},
                       train__mixup=0.2, train__label_smoothing=0.1, train__ema=0.9, data__workers=1)
    whole, expected, folder = fit(tmp_path, cfg, toy.Toy(dropout=0.5))

    def broken(*_, **__):
        raise KeyboardInterrupt

    # Cut off in the middle of epoch 3, after some steps that the checkpoint does not know of.
    with monkeypatch.context() as patch:
        seeds = train_epoch._seed_step
        patch.setattr(train_epoch, '_seed_step', lambda seed, step: seeds(seed, step) if step < 10 else broken())
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, cfg, toy.Toy(dropout=0.5), 'cut')
    assert checkpoint.read(tmp_path / 'cut', 'last')['epoch'] == 2
    other = toy.Toy(dropout=0.5)
    other.net.initialize(mx.init.Normal(1), force_reinit=True)  # whatever it starts from must not matter
    resumed, progress, cut = fit(tmp_path, cfg, other, 'cut')
    assert digest(resumed) == digest(whole) and progress == expected
    assert epoch_rows(cut) == epoch_rows(folder)
    for kind in ('last', 'best'):
        assert checkpoint.read(cut, kind)['parameters_sha256'] == checkpoint.read(folder, kind)['parameters_sha256']


def test_the_resume_test_can_fail(tmp_path):
    first, _, _ = fit(tmp_path, toy.settings(), toy.Toy(dropout=0.5), 'a')
    second, _, _ = fit(tmp_path, toy.settings(run__seed=1), toy.Toy(dropout=0.5), 'b')
    assert digest(first) != digest(second)


def test_resume_across_phases(tmp_path):
    phases = [Phase('head', 1, r'classifier\..*', batch_norm='fixed'), Phase('all', 2, fresh_optimizer=True),
              Phase('slow', 1, lr_mult={'conv.*': 0.1})]
    cfg = toy.settings(train__epochs=4, train__optimizer={'name': 'adam', 'lr': 0.01})
    whole, _, _ = fit(tmp_path, cfg, toy.Toy(phases=phases))
    for epochs in (1, 2, 3):
        name = f'stop{epochs}'
        (tmp_path / name).mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(State, 'keep_best', lambda state: None)
            saved = State.keep_last

            def save_and_stop(state, states):
                result = saved(state, states)
                if state.now.epoch == epochs:
                    raise KeyboardInterrupt
                return result
            patch.setattr(State, 'keep_last', save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path, cfg, toy.Toy(phases=phases), name)
        resumed, _, _ = fit(tmp_path, cfg, toy.Toy(phases=phases), name)
        assert digest(resumed) == digest(whole), epochs


def test_a_frozen_parameter_keeps_every_bit_and_fixed_statistics_stay(tmp_path):
    method = toy.Toy(phases=[Phase('head', 1, r'classifier\..*', batch_norm='fixed')])
    before = to_numpy(method.net)
    fit(tmp_path, toy.settings(train__epochs=1, train__optimizer={'name': 'sgd', 'lr': 0.1, 'wd': 0.1}), method)
    after = to_numpy(method.net)
    changed = {name for name in before if before[name].tobytes() != after[name].tobytes()}
    assert changed == {'classifier.weight', 'classifier.bias'}


def test_moving_statistics_move(tmp_path):
    method = toy.Toy(phases=[Phase('conv', 1, r'conv\..*', batch_norm='moving')])
    before = to_numpy(method.net)
    fit(tmp_path, toy.settings(train__epochs=1), method)
    after = to_numpy(method.net)
    assert (before['bn.running_mean'] != after['bn.running_mean']).any()
    assert (before['bn.gamma'] == after['bn.gamma']).all()


def one_step(tmp_path, run, contexts=None, method=None, **changes):
    """Train one step on four images without momentum; return the change of each parameter."""
    method = method or toy.Toy(batch_norm=False)
    before = to_numpy(method.net)
    cfg = toy.settings(train__epochs=1, train__optimizer={'name': 'sgd', 'lr': 0.5, 'momentum': 0}, data__train={},
                       **changes)
    fit(tmp_path, cfg, method, run, contexts, val=False, count=4)
    after = to_numpy(method.net)
    return {name: after[name] - before[name] for name in before}


def test_lr_mult_scales_the_update_and_the_last_match_wins(tmp_path):
    plain = one_step(tmp_path, 'a')
    scaled = one_step(tmp_path, 'b', method=toy.Toy(batch_norm=False, phases=[
        Phase('x', 1, lr_mult={'.*': 3.0, r'classifier\..*': 10.0})]))
    np.testing.assert_allclose(scaled['classifier.weight'], 10 * plain['classifier.weight'], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(scaled['conv.weight'], 3 * plain['conv.weight'], rtol=1e-4, atol=1e-7)


def test_two_devices_equal_one(tmp_path):
    devices = [mx.cpu(0), mx.cpu(1)]
    one = one_step(tmp_path, 'one')
    two = one_step(tmp_path, 'two', devices, toy.Toy(batch_norm=False, ctx=devices))
    for name in one:
        np.testing.assert_allclose(two[name], one[name], atol=1e-6)
    assert np.abs(one['conv.weight']).max() > 1e-4


DEVICES = [mx.cpu(0), mx.cpu(1)]


def test_the_first_step_moves_the_statistics_of_every_device(tmp_path):
    """By the mean and variance of each device's own two images, as they lie in the batch."""
    cfg = toy.settings(train__epochs=1, train__optimizer={'name': 'sgd', 'lr': 0.0, 'momentum': 0}, data__train={})
    method = toy.Toy(ctx=DEVICES)
    before = to_numpy(method.net)
    fit(tmp_path, cfg, method, 'run', DEVICES, val=False, count=4)
    images = toy.loaders(cfg, tmp_path / 'images', 4)[0]
    batch = toy.normalize()(next(iter(images.epoch(0))).images)
    with mx.autograd.predict_mode():
        maps = toy.Toy().net.conv(batch).asnumpy()
    means = np.mean([part.mean(axis=(0, 2, 3)) for part in (maps[:2], maps[2:])], axis=0)
    moved = to_numpy(method.net)['bn.running_mean'] - before['bn.running_mean']
    assert np.abs(moved).max() > 1e-3
    np.testing.assert_allclose(moved, 0.1 * means, rtol=1e-3, atol=1e-6)  # BatchNorm's momentum is 0.9


def test_on_two_devices_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path):
    """Statistics of BatchNorm included, also where a phase begins with a fresh optimizer."""
    def method():
        return toy.Toy(ctx=DEVICES, phases=[Phase('first', 2), Phase('second', 2, fresh_optimizer=True)])
    cfg = toy.settings(train__epochs=4)
    whole, _, folder = fit(tmp_path, cfg, method(), 'whole', DEVICES)
    for epochs in (1, 2, 3):
        with pytest.MonkeyPatch.context() as patch:
            saved = State.keep_last

            def save_and_stop(state, states):
                saved(state, states)
                if state.now.epoch == epochs:
                    raise KeyboardInterrupt
            patch.setattr(State, 'keep_last', save_and_stop)
            with pytest.raises(KeyboardInterrupt):
                fit(tmp_path, cfg, method(), f'cut{epochs}', DEVICES)
        resumed, _, cut = fit(tmp_path, cfg, method(), f'cut{epochs}', DEVICES)
        assert digest(resumed) == digest(whole) and epoch_rows(cut) == epoch_rows(folder), epochs


def test_validation_looks_at_what_the_checkpoint_keeps(tmp_path):
    cfg = toy.settings(train__epochs=2)
    _, progress, folder = fit(tmp_path, cfg, toy.Toy(ctx=DEVICES), 'two', DEVICES)
    kept = toy.Toy()
    checkpoint.load_parameters(folder, checkpoint.read(folder, 'best'), kept.net)
    val = toy.loaders(cfg, tmp_path / 'images')[1]
    predictions = predict(kept.net, toy.normalize(), val, [mx.cpu()])
    rows = [row for row in epoch_rows(folder) if row['kind'] == 'epoch']
    assert predictions.losses.mean() == pytest.approx(rows[progress.best['epoch']]['val_loss'], rel=1e-6)


def test_a_penalty_of_the_batch_is_not_divided_by_the_images(tmp_path):
    method = toy.Toy(batch_norm=False, penalty=0.25)
    weight = to_numpy(method.net)['classifier.weight']
    without = one_step(tmp_path, 'a')
    with_penalty = one_step(tmp_path, 'b', method=method)
    # d/dw 0.25 |w|^2 = 0.5 w, times the rate 0.5
    change = with_penalty['classifier.weight'] - without['classifier.weight']
    np.testing.assert_allclose(change, -0.25 * weight, atol=1e-6)
    # And the same over two devices, where each adds the penalty of its own copy.
    devices = [mx.cpu(0), mx.cpu(1)]
    two = one_step(tmp_path, 'c', devices, toy.Toy(batch_norm=False, penalty=0.25, ctx=devices))
    np.testing.assert_allclose(two['classifier.weight'], with_penalty['classifier.weight'], atol=1e-6)


def test_class_weights_scale_the_gradient(tmp_path):
    plain = one_step(tmp_path, 'a')
    doubled = one_step(tmp_path, 'b', train__class_weights=[2, 2])
    np.testing.assert_allclose(doubled['conv.weight'], 2 * plain['conv.weight'], rtol=1e-4, atol=1e-7)


def test_a_loss_that_is_not_finite_stops_with_term_phase_and_step(tmp_path):
    cfg = toy.settings(train__epochs=3, train__optimizer={'name': 'sgd', 'lr': 0.1})
    _, _, folder = fit(tmp_path, toy.settings(train__epochs=1, train__optimizer={'name': 'sgd', 'lr': 0.1}))
    kept = checkpoint.read(folder, 'last')
    method = toy.Toy()
    plain = method.losses
    calls = []

    def losses(outputs, labels, phase):
        calls.append(1)
        factor = float('nan') if len(calls) == 2 else 1
        return {'cross_entropy': plain(outputs, labels, phase)['cross_entropy'] * factor}
    method.losses = losses
    with pytest.raises(TrainingError, match=r"'cross_entropy' is not finite at step 5 \(epoch 2, phase 'all'\)"):
        fit(tmp_path, cfg, method)
    assert checkpoint.read(folder, 'last') == kept


def test_parameters_that_are_not_finite_behind_a_finite_loss_are_not_kept(tmp_path):
    """MKLDNN's ReLU, which this net does not use, turns NaN into 0, and with it a broken net into a constant."""
    method = toy.Toy()
    plain = method.losses

    def losses(outputs, labels, phase):
        with mx.autograd.pause():
            running_var = method.net.bn.running_var.data()  # not used while batch statistics are
            running_var[0] = float('nan')
        return plain(outputs, labels, phase)
    method.losses = losses
    with pytest.raises(TrainingError, match=r"parameter 'bn.running_var' is not finite \(epoch 1, phase 'all'\)"):
        fit(tmp_path, toy.settings(), method, val=False)
    assert checkpoint.read(tmp_path / 'run', 'last') is None


def test_resuming_removes_what_a_kill_left_behind(tmp_path):
    cfg = toy.settings(train__epochs=1)
    _, _, folder = fit(tmp_path, cfg)
    kept = sorted(path.name for path in (folder / 'checkpoints').iterdir())
    for name in ('last-0000.params', 'last-0001.npz.tmp'):
        (folder / 'checkpoints' / name).write_bytes(b'x')
    fit(tmp_path, cfg)
    assert sorted(path.name for path in (folder / 'checkpoints').iterdir()) == kept


@pytest.mark.parametrize('phase, message', [
    (Phase('p', 2, 'clasifier.*'), r"phase 'p', trainable: 'clasifier\.\*' matches no parameter; did you mean"),
    (Phase('p', 2, '('), 'is not a regular expression'),
    (Phase('p', 2, 'bn.running.*'), 'only parameters that have no gradient'),
    (Phase('p', 2, lr_mult={'x': 2}), "lr_mult: 'x' matches no parameter"),
    (Phase('p', 2, batch_norm='off'), "batch_norm 'off'"),
    (Phase('p', 2, loss_weights={'nll': 2}), r"loss terms that do not exist: \['nll'\]"),
    (Phase('p', 3), 'train.epochs is 2, but the phases of the method last 3')])
def test_wrong_phases(tmp_path, phase, message):
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path, toy.settings(), toy.Toy(phases=[phase]))


def test_early_stopping_and_best(tmp_path):
    cfg = toy.settings(train__epochs=9, train__optimizer={'name': 'sgd', 'lr': 0.0, 'momentum': 0.0},
                       run__early_stop_patience=2)
    method = toy.Toy(batch_norm=False)
    _, progress, folder = fit(tmp_path, cfg, method)
    assert progress.epoch == 3 and progress.best['epoch'] == 0 and progress.best['split'] == 'val'
    assert checkpoint.read(folder, 'best')['chosen_by'] == progress.best
    _, again, _ = fit(tmp_path, cfg, toy.Toy(batch_norm=False))  # resuming a stopped run does nothing
    assert again == progress


def test_without_validation_the_last_epoch_is_the_best_and_says_so(tmp_path):
    _, progress, folder = fit(tmp_path, toy.settings(), val=False)
    assert progress.best == {'epoch': 1, 'split': None}
    assert checkpoint.read(folder, 'best')['parameters_sha256'] == checkpoint.read(folder, 'last')['parameters_sha256']


def test_loss_weight_zero_leaves_a_term_out(tmp_path):
    with_zero = one_step(tmp_path, 'a', method=toy.Toy(batch_norm=False, penalty=0.25, phases=[
        Phase('x', 1, loss_weights={'penalty': 0.0})]))
    without = one_step(tmp_path, 'b')
    for name in without:
        assert (with_zero[name] == without[name]).all()

"""Channels of attention: rankings and responses by hand, activation maximisation, and the page as a user makes it."""
import json

import mxnet as mx
import numpy as np
import pytest
from mxnet import nd
from mxnet.gluon import nn as layers

from gluon_fgvc import nn
from gluon_fgvc import runs as engine
from gluon_fgvc.commands import cli, visualize
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.explain import activation_maximization, channels
from gluon_fgvc.pages.channels import _used_bins, histogram_section
from tests import small_run


def small_net(scale=1.0):
    """Channel 0 of the first layer answers to red, channel 1 to the opposite."""
    net = layers.HybridSequential()
    net.add(layers.Conv2D(2, 1, in_channels=3, use_bias=False), layers.Conv2D(1, 1, in_channels=2))
    net.initialize()
    net[0].weight.set_data(scale * nd.array([[1, 0, 0], [-1, 0, 0]]).reshape((2, 3, 1, 1)))
    return net


def test_ranking_by_hand():
    net = nn.replace_convolutions(small_net())
    net[0].attention.set_data(nd.array([[1, 2, 3], [0, 0, -3]]).reshape((2, 3, 1, 1)))
    found = channels.ranking(net)
    np.testing.assert_allclose(found['0'], [2, -1])
    np.testing.assert_allclose(found['1'], [1])
    assert channels.default_layer(net) == '0'


def test_responses_are_means_of_activated_maps():
    images = [nd.array(np.full((2, 3, 4, 4), value)) for value in (-2, 3)]
    images[0][1] = 0
    np.testing.assert_allclose(channels.responses(small_net(), '0', images), [[0, 2], [0, 0], [3, 0], [3, 0]])


def test_what_batch_norm_turns_round_counts_the_other_way():
    net = layers.HybridSequential()
    net.add(*small_net()[:1], layers.BatchNorm(in_channels=2, epsilon=0), layers.Activation('relu'))
    net[1:].initialize()
    net[1].gamma.set_data(nd.array([-1, 2]))
    net[1].running_mean.set_data(nd.array([1, 0]))
    images = [nd.array(np.full((1, 3, 4, 4), value)) for value in (-2, 3)]
    activated = np.concatenate([net(x).mean(axis=(2, 3)).asnumpy() for x in images])
    np.testing.assert_allclose(activated, [[3, 4], [0, 0]], rtol=1e-5)
    np.testing.assert_allclose(channels.responses(net, '0', images), activated, rtol=1e-5)
    _, climbing = activation_maximization.maximise(net, '0', 0, steps=10, **SETTINGS)
    picture, _ = activation_maximization.maximise(net, '0', 0, steps=10, **SETTINGS)
    assert climbing[-1] > climbing[0] and picture[..., 0].mean() < 100  # away from red


def test_channels_that_nothing_moves_are_passed_over():
    scores, norms = np.array([4, 3, 2, 1]), np.array([[0, 1, 1e-9, 2], [0, 0, 0, 1.0]])
    assert channels.first_alive(scores, norms, 3) == [1, 3]
    assert channels.first_alive(scores, norms, 1) == [1]


def test_histograms_show_the_range_that_is_used():
    def record(*counts):
        return {'epoch': 0, 'phase': 'A', 'attention_range': [-1, 3], 'attention': {'x': {
            'counts': list(counts), 'sd': 0.5, 'least': 0.1, 'largest': 1.2}}}
    records = [record(0, 0, 0, 1, 8, 0, 0, 0), record(0, 0, 2, 5, 2, 0, 0, 0)]
    assert _used_bins(records) == slice(2, 6)
    section = histogram_section(records)
    assert 'attention from 0 at the left to 2 at the right' in section and section.count('<img') == 2
    assert '0.1 to 1.2, sd of a layer 0.5' in section


def test_an_unknown_layer_names_the_nearest():
    with pytest.raises(ConfigError, match="no layer '00'"):
        channels.responses(nn.replace_convolutions(small_net()), '00', [])


# --- maximisation ----------------------------------------------------------------------------

SETTINGS = dict(side=24, mean=(0.5,) * 3, std=(0.25,) * 3)


@pytest.mark.parametrize('blur', activation_maximization.BLURS)
def test_ascent_makes_a_red_picture_for_the_channel_of_red(blur):
    picture, activations = activation_maximization.maximise(small_net(), '0', 0, steps=20, blur=blur, **SETTINGS)
    assert picture.dtype == np.uint8 and picture.shape == (24, 24, 3)
    assert activations[-1] > activations[0] + 1 and (picture[..., 0] > 200).mean() > 0.9
    np.testing.assert_allclose(picture[..., 1:].mean(), 127.5, atol=15)  # nothing pulls at green and blue
    other, _ = activation_maximization.maximise(small_net(), '0', 1, steps=20, blur=blur, **SETTINGS)
    assert (other[..., 0] < 55).mean() > 0.9


def test_the_size_of_the_gradient_does_not_matter():
    once, again, larger = (activation_maximization.maximise(small_net(scale), '0', 0, steps=5, **SETTINGS)[0]
                           for scale in (1, 1, 1000))
    np.testing.assert_array_equal(once, again)
    assert np.abs(once.astype(int) - larger).max() <= 1
    other = activation_maximization.maximise(small_net(), '0', 0, steps=1, seed=1, blur='bilateral', **SETTINGS)[0]
    assert (other != once).any()


def test_the_gaussian_shrinks_with_the_steps():
    impulse = np.zeros((61, 61, 3), 'float32')
    impulse[30, 30] = 1
    x = np.arange(61) - 30
    for step, sigma in ((2, 5), (4, 3), (9, 1.5)):
        profile = activation_maximization.blurred(impulse, step, 'gaussian')[..., 0].sum(axis=0)
        assert np.sqrt((profile * x ** 2).sum()) == pytest.approx(sigma, rel=0.02)
    with pytest.raises(ValueError, match="blur 'median' is none of gaussian, bilateral"):
        activation_maximization.maximise(small_net(), '0', 0, blur='median', **SETTINGS)


# --- the page --------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = small_run.write(tmp_path_factory.mktemp('trained'))
    text = small_run.CONFIG.replace('root: images', f"root: '{folder / 'images'}'").replace(
        '{name: finetune, lr_mult: 1, dropout: 0.3}', '{name: attention_scaled, schedule: FAA}').replace(
        'epochs: 1', 'epochs: 3')
    (folder / 'cfg.yaml').write_text(text)
    (folder / 'plain.yaml').write_text(small_run.CONFIG.replace('root: images', f"root: '{folder / 'images'}'"))
    mx.random.seed(0)
    for name in ('cfg', 'plain'):
        engine.train(engine.load_config(folder / f'{name}.yaml'), folder / name, test=False)
    return folder


def test_the_page(trained, tmp_path, capsys):
    out = tmp_path / 'page.html'
    assert cli.run(visualize.main, [str(trained / 'cfg'), str(trained / 'images' / 'test'), '--out', str(out),
                                    '--channels', '2', '--which', 'last']) == 0
    page = out.read_text()
    assert 'epoch 2 (A)' in page and 'epoch 3 (A)' in page and 'epoch 1 (F)' not in page
    net = engine.open_run(trained / 'cfg', 'last').method.net
    scores, layer = channels.ranking(net), channels.default_layer(net)
    assert all(f'>{name}<' in page for name in scores)
    batches = [mx.nd.ones((1, 3, 32, 32)), -mx.nd.ones((1, 3, 32, 32))]
    best = channels.first_alive(scores[layer], channels.responses(net, layer, batches), 3)
    assert f'{layer}, channel {best[0]}<' in page and f'{layer}, channel {best[1]}<' in page
    assert f'{layer}, channel {best[2]}<' not in page
    for words in ('maximised from noise', 'images that activate it most', 'and least', 'bilateral'):
        assert page.count(f'>{words}<') == 2, words
    assert '<script' not in page


@pytest.mark.parametrize('run, words, says', [
    ('plain', ('--channels', '2'), 'has no attention weights; method attention_scaled has them'),
    ('cfg', ('--channels', '2', '--layer', 'body.stage4.9'), "no layer 'body.stage4.9'"),
    ('cfg', ('--channels', '2', '--layer', 'body.stage4'), "--layer 'body.stage4' is no convolution")])
def test_what_cannot_be_shown(trained, capsys, run, words, says):
    assert cli.run(visualize.main, [str(trained / run), str(trained / 'images' / 'test'), *words]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count('\n') == 1


def test_histograms_of_a_log_that_was_cut_off(tmp_path):
    record = {'kind': 'method', 'epoch': 1, 'phase': 'A', 'attention_range': [-1, 3], 'attention': {}}
    assert channels.histograms(tmp_path) == [] and histogram_section([]) is None
    (tmp_path / 'metrics.jsonl').write_text('{"kind": "epoch", "epoch": 0}\n' + json.dumps(record) + '\n{"kind": "me')
    assert channels.histograms(tmp_path) == [record]

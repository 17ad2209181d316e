"""Trilinear attention against independent numbers for all rows of Table 2, and the choice of maps by counting."""
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd

from gluon_fgvc.nn import DetailMap, StructureMap, TrilinearAttention
from gluon_fgvc.nn.trilinear import CHOICES, NORMALISATIONS

FILE = Path(__file__).parent / 'files' / 'trilinear_variants.npz'
each_way = pytest.mark.parametrize('hybridized', [False, True], ids=['imperative', 'hybridized'])
KEYS = ('X', 'XXtX', 'NX_Xt_X', 'NX_NXt_X', 'N_XXtX', 'N_XXt_X', 'N_NXXt_X')


@pytest.mark.parametrize('scale', [1, 2, 7])
@pytest.mark.parametrize('row, normalisation', enumerate(NORMALISATIONS[:7]))
@each_way
def test_table_2(row, normalisation, scale, hybridized):
    data = np.load(FILE)
    block = TrilinearAttention(normalisation, scale)
    block.hybridize(hybridized)
    found = block(mx.nd.array(data['features'])).asnumpy()
    np.testing.assert_allclose(found, data[f's{scale}_{row}_{KEYS[row]}'], rtol=1e-6, atol=1e-5)


def test_defaults_are_the_released_ones():
    data = np.load(FILE)
    np.testing.assert_allclose(TrilinearAttention()(mx.nd.array(data['features'])).asnumpy(), data['s7_6_N_NXXt_X'],
                               atol=1e-5)


def test_by_hand():
    """Two channels on a 1x2 map: X = [1 0; 0 2], Xᵀ and the softmax written out."""
    x = np.array([[1.0, 0], [0, 2]])
    e, e2 = np.e, np.e ** 2
    spatial = np.array([[e, 1], [1, e2]]) / np.array([[e + 1], [1 + e2]])
    alike = np.exp(np.array([[spatial[0, 0], 2 * spatial[0, 1]], [spatial[1, 0], 2 * spatial[1, 1]]]))
    expected = alike / alike.sum(axis=1, keepdims=True) @ x
    found = TrilinearAttention(scale=1)(mx.nd.array(x.reshape(1, 2, 1, 2))).asnumpy()
    np.testing.assert_allclose(found.reshape(2, 2), expected, atol=1e-6)


@each_way
def test_self_attention_has_a_map_for_each_place(hybridized):
    features = np.random.RandomState(0).uniform(0, 1, (2, 3, 2, 4)).astype('float32')
    block = TrilinearAttention('XTX')
    block.hybridize(hybridized)
    found = block(mx.nd.array(features)).asnumpy()
    assert found.shape == (2, 8, 2, 4)
    place = features[:, :, 1, 2]  # number 1·4 + 2
    np.testing.assert_allclose(found[:, 6], (features * place[:, :, None, None]).sum(axis=1), atol=1e-5)


@pytest.mark.parametrize('normalisation', NORMALISATIONS)
def test_no_gradient_flows_back(normalisation):
    features = mx.nd.random.uniform(shape=(2, 3, 4, 4))
    features.attach_grad()
    features.grad[:] = 1
    with autograd.record():
        total = (TrilinearAttention(normalisation)(features) ** 2).sum() + (features * 0).sum()
    total.backward()
    assert not features.grad.asnumpy().any()


@pytest.mark.parametrize('square', [False, True])
def test_structure_map(square):
    maps = mx.nd.array(np.random.RandomState(0).uniform(0, 1, (2, 5, 3, 4)))
    found, mean = StructureMap(square)(maps).asnumpy(), maps.asnumpy().mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, mean ** 2 if square else mean, rtol=1e-6)


def numbered(images, channels):
    """Return maps (N,C,2,3) whose values are their channel's number: the mean rises with it."""
    return mx.nd.broadcast_axis(mx.nd.arange(channels).reshape((1, -1, 1, 1)), axis=(0, 2, 3), size=(images, 2, 3))


def chosen(block, images, channels):
    maps = block(numbered(images, channels)).asnumpy()
    assert maps.shape == (images, 1, 2, 3) and (maps == maps[:, :, :1, :1]).all()
    return maps[:, 0, 0, 0].astype(int)


@each_way
@pytest.mark.parametrize('choice', CHOICES)
def test_a_detail_is_one_channel_and_each_has_its_share(choice, hybridized):
    """Ranked: the i-th lowest of C has the share i / (1 + … + C)."""
    images, channels = 6000, 5
    block = DetailMap(choice)
    block.hybridize(hybridized)
    mx.random.seed(1)
    counts = np.bincount(chosen(block, images, channels), minlength=channels)
    shares = np.full(channels, 1 / channels) if choice == 'random' else np.arange(1, channels + 1) / 15
    deviations = (counts - images * shares) / np.sqrt(images * shares * (1 - shares))
    assert np.abs(deviations).max() < 4


def test_ranks_follow_the_response_of_each_image():
    maps = mx.nd.concat(numbered(2000, 2), numbered(2000, 2).flip(axis=1), dim=0)
    mx.random.seed(1)
    higher = DetailMap('ranked')(maps).asnumpy()[:, 0, 0, 0]
    assert abs(higher[:2000].mean() - 2 / 3) < 0.05 and abs(higher[2000:].mean() - 2 / 3) < 0.05


@each_way
@pytest.mark.parametrize('choice', CHOICES)
def test_the_seed_decides(choice, hybridized):
    block = DetailMap(choice)
    block.hybridize(hybridized)
    runs = []
    for seed in (3, 3, 4):
        mx.random.seed(seed)
        runs.append([chosen(block, 20, 6) for _ in range(2)])
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0][0] != runs[0][1]).any() and (runs[0][0] != runs[2][0]).any()


@pytest.mark.parametrize('make, says', [(lambda: TrilinearAttention('XX'), "normalisation 'XX' is none of X, XXTX"),
                                        (lambda: DetailMap('best'), "choice 'best' is none of random, ranked")])
def test_unknown_names(make, says):
    with pytest.raises(ValueError, match=says):
        make()

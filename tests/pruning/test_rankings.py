"""Rankings by hand."""
import numpy as np
from mxnet import nd

from gluon_fgvc import nn
from gluon_fgvc.pruning import Channels, attention_scores, l1_scores, taylor_scores
from tests.pruning.nets import two


def test_l1_scores_by_hand():
    channels = Channels(two())
    groups = channels.groups('all')
    np.testing.assert_allclose(l1_scores(channels, groups)['conv'], np.array([3, 1, 3]) / (7 / 3), rtol=1e-6)


def test_attention_scores_by_hand():
    net = two()
    nn.replace_convolutions(net)
    net.conv.attention.set_data(nd.array([[1, 3], [0, -2], [0.5, 0.5]]).reshape((3, 2, 1, 1)))
    np.testing.assert_allclose(attention_scores(net)['conv'], [2, 1, 0.5])


def test_taylor_scores_are_the_derivative_with_respect_to_gates():
    net, rng = two(), np.random.RandomState(0)
    x, y = rng.normal(size=(4, 2, 3, 3)), np.array([0, 1, 1, 0])
    w, v = (layer.weight.data().asnumpy()[:, :, 0, 0] for layer in (net.conv, net.next))

    def losses(gates):
        maps = np.maximum(np.einsum('oc,nchw->nohw', w, x), 0) * gates[:, None, None]
        scores = np.einsum('ko,nohw->nkhw', v, maps).mean(axis=(2, 3))
        return np.log(np.exp(scores).sum(axis=1)) - scores[np.arange(4), y]

    expected = []
    for channel in range(3):
        step = 1e-5 * np.eye(3)[channel]
        expected.append(np.abs(losses(np.ones(3) + step) - losses(np.ones(3) - step)).sum() / 2e-5)
    channels = Channels(net)
    batches = [(nd.array(x[:3]), nd.array(y[:3])), (nd.array(x[3:]), nd.array(y[3:]))]
    scores = taylor_scores(channels, channels.groups('all'), batches)
    np.testing.assert_allclose(scores['conv'], np.array(expected) / np.linalg.norm(expected), rtol=1e-3)

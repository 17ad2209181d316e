"""Norms by term: against gradients computed by hand, on one and two devices, and that nothing else moves."""
import mxnet as mx
import numpy as np
import pytest
from mxnet import nd
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import backbones, methods
from gluon_fgvc.engine import phases
from gluon_fgvc.engine.fit import fit
from gluon_fgvc.engine.gradient_norms import gradient_norms, in_words
from gluon_fgvc.engine.log import Log
from gluon_fgvc.methods.base import Phase
from gluon_fgvc.nn.parameters import sha256_of, structural, to_numpy
from tests.engine import toy


class Linear(HybridBlock):
    """x → (w·x) v: the gradients of its terms are short to write down."""

    def __init__(self, contexts):
        super().__init__()
        self.body = nn.Dense(1, use_bias=False, in_units=2, weight_initializer=mx.init.Constant(nd.array([[1.0, 2.0]])))
        self.classifier = nn.Dense(1, use_bias=False, in_units=1, weight_initializer=mx.init.Constant(3.0))
        self.initialize(ctx=contexts)

    def hybrid_forward(self, F, x):
        return self.classifier(self.body(x))


IMAGES = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 1.0], [1.0, 1.0]])


@pytest.mark.parametrize('hybridized', [False, True])
@pytest.mark.parametrize('devices', [1, 2])
def test_against_gradients_by_hand(hybridized, devices):
    contexts = [mx.cpu(i) for i in range(devices)]
    net = Linear(contexts)
    phases.enter(Phase('all', 1), net, hybridized)
    shards = [nd.array(part, ctx=ctx) for part, ctx in zip(np.split(IMAGES, devices), contexts)]

    def forward():
        terms = []
        for x in shards:
            scores = net(x).reshape((-1,))
            penalty = (net.body.weight.data(x.context) ** 2).sum().reshape((1,))
            terms.append({'scores': scores, 'penalty': penalty, 'off': scores})
        return terms

    found = gradient_norms(net, forward, {'scores': 2.0, 'off': 0.0})
    assert list(found) == ['scores', 'penalty']
    # 2 · mean of v·x and of w·x; the penalty, 2·w, counts once on any number of devices.
    assert found['scores']['body'] == pytest.approx(np.linalg.norm(2 * 3 * IMAGES.mean(axis=0)), rel=1e-5)
    assert found['scores']['classifier'] == pytest.approx(2 * (IMAGES @ [1, 2]).mean(), rel=1e-5)
    assert found['penalty'] == pytest.approx({'body': 2 * np.sqrt(5), 'classifier': 0}, rel=1e-5)
    assert all(not g.asnumpy().any() for p in structural(net).values() for g in p.list_grad())


class Normed(HybridBlock):
    def __init__(self):
        super().__init__()
        self.body, self.bn = nn.Dense(3, in_units=2), nn.BatchNorm(in_channels=3)
        self.drop = nn.Dropout(0.5)
        self.initialize()

    def hybrid_forward(self, F, x):
        return self.drop(self.bn(self.body(x))).sum(axis=1)


@pytest.mark.parametrize('hybridized', [False, True])
def test_only_what_learns_counts_and_statistics_stay(hybridized):
    net = Normed()
    phases.enter(Phase('head', 1, r'bn\..*'), net, hybridized)
    net(nd.array(IMAGES))
    before = {name: p.data().asnumpy() for name, p in structural(net).items()}
    found = [gradient_norms(net, lambda: [{'a': (y := net(nd.array(IMAGES))), 'b': y ** 2}], {}, seed=3)
             for _ in range(2)]
    assert found[0] == found[1] and list(found[0]['a']) == ['bn'] and found[0]['a']['bn'] > 0
    nd.waitall()
    for name, value in before.items():
        np.testing.assert_array_equal(structural(net)[name].data().asnumpy(), value, err_msg=name)


@pytest.mark.parametrize('name', ['finetune', 'cra_cnn', 'pmg', 'attention_scaled'])
def test_a_training_that_is_looked_at_ends_with_the_same_bits(tmp_path, name):
    """Momentum, weight decay, dropout, statistics, partial updates and class weights: nothing may notice."""
    found = []
    for every in (0, 1):
        method = small(name)
        cfg = toy.settings(data__batch_size=4, data__train={'flip': True, 'random_resized_crop': 32}, train__mixup=0.2,
                           train__optimizer={'name': 'sgd', 'lr': 0.001, 'momentum': 0.9, 'wd': 1e-2},
                           train__class_weights='balanced', run__log_gradients=every)
        folder = tmp_path / str(every)
        folder.mkdir()
        loaders = toy.loaders(cfg, tmp_path / 'images', count=8)
        log = Log(folder)
        fit(method, toy.training_data(loaders[0], None), cfg, log)
        found.append(sha256_of(to_numpy(method.train_net)))
    assert found[0] == found[1]
    records = [record for record in log.records if record['kind'] == 'gradients']
    assert [record['step'] for record in records] == [0, 1, 2, 3]
    assert all(any(parts.values()) for term, parts in records[0]['norms'].items() if term != 'restriction')
    terms = {'finetune': ['cross_entropy'], 'pmg': ['pool3', 'conv5', 'joint'],
             'cra_cnn': ['classification', 'attention', 'restriction', 'contrastive'],
             'attention_scaled': ['cross_entropy', 'attention']}[name]
    assert list(records[-1]['norms']) == terms
    assert 'gradient before step 4 · ' in (folder / 'log.txt').read_text()


def small(name):
    mx.random.seed(0)
    np.random.seed(0)
    options = {'finetune': {'dropout': 0.5}, 'cra_cnn': {'size': 32}, 'pmg': {'stages': 2, 'features': 8, 'pieces': 1},
               'attention_scaled': {'schedule': 'BA', 'form': 'out'}}[name]
    return methods.create(name, backbones.get('cluttered_cnn'), 2, **options)


def test_the_line_tells_shares_of_the_first_term():
    norms = {'classification': {'body': 2.0, 'classifier': 0.5}, 'attention': {'body': 0.5, 'gamma': 3.0}}
    assert in_words(norms) == 'body: classification 2, attention 0.25× · classifier: classification 0.5 · gamma: ' \
                              'classification 0, attention 3'

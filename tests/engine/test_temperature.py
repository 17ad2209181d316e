"""The temperature of a network that is too sure, or not sure enough, is found again."""
import numpy as np
import pytest

from gluon_fgvc.engine import metrics, temperature


def sample(images=4000, classes=5, seed=0):
    """Return logits and labels that are drawn from their softmax: right as they are."""
    random = np.random.RandomState(seed)
    logits = 2 * random.randn(images, classes)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, np.array([random.choice(classes, p=row) for row in shares])


def nll(logits, labels):
    return metrics.predictions_of(logits, labels, np.arange(len(labels))).losses.mean()


@pytest.mark.parametrize('factor', [0.4, 1.0, 3.0])
def test_it_undoes_a_factor(factor):
    logits, labels = sample()
    assert temperature.fit(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_it_is_the_best_of_a_grid():
    logits, labels = sample(300, seed=1)
    found = temperature.fit(logits, labels)
    best = nll(logits / found, labels)
    assert all(best <= nll(logits / t, labels) + 1e-9 for t in np.geomspace(0.05, 20, 200))


def test_by_hand():
    """Logit differences of log 9 and three right of four: the best probability is 3/4, so T = log 9 / log 3 = 2."""
    scores = np.array([[np.log(9), 0]] * 4)
    assert temperature.fit(scores, np.array([0, 0, 0, 1])) == pytest.approx(2, rel=1e-5)


def test_ends():
    scores = np.array([[1.0, 0], [0, 1.0]])
    assert temperature.fit(scores, np.array([0, 1])) == pytest.approx(temperature.LOW, rel=1e-5)
    assert temperature.fit(scores, np.array([1, 0])) == pytest.approx(temperature.HIGH, rel=1e-5)
    assert np.isfinite(temperature.fit(1e4 * scores, np.array([0, 1])))


@pytest.mark.parametrize('batch', [1, 7, 100])
def test_of_a_large_split_every_third_image_counts(monkeypatch, batch):
    logits, labels = sample(100)
    monkeypatch.setattr(temperature, 'VALUES', 200)  # 100 images of 5 classes: every third
    scores = temperature.Scores(100, 5)
    for start in range(0, 100, batch):
        scores.add(logits[start:start + batch], labels[start:start + batch])
    assert scores.fit() == pytest.approx(temperature.fit(logits[::3].astype('float32'), labels[::3]), rel=1e-6)


def test_calibration_in_an_evaluation():
    logits, labels = sample()
    found = metrics.predictions_of(3 * logits, labels, np.arange(len(labels)), temperature=3.0)
    result = metrics.calibration(found, 3.0)
    assert result['ece'] > 0.08 and result['calibrated_ece'] < 0.03 and result['temperature'] == 3.0
    assert result['calibrated_loss'] == pytest.approx(nll(logits, labels)) and result['calibrated_loss'] < \
        found.losses.mean()
    assert set(metrics.calibration(metrics.predictions_of(logits, labels, np.arange(4000)))) == {'ece'}

"""Metrics against tables worked by hand and against a plain second implementation."""
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.engine import metrics, mixing, targets
from gluon_fgvc.errors import ConfigError

# Four images, three classes; the ranking of each is written beside it.
SCORES = np.array([[3.0, 2.0, 1.0],    # 0 1 2
                   [0.0, 2.0, 1.0],    # 1 2 0
                   [0.0, 1.0, 5.0],    # 2 1 0
                   [1.0, 1.0, 0.0]])   # 0 1 2, a tie: the lower index first
LABELS = np.array([0, 2, 0, 1])


def test_by_hand():
    found = metrics.predictions_of(SCORES, LABELS, np.arange(4))
    assert found.top.tolist() == [[0, 1, 2], [1, 2, 0], [2, 1, 0], [0, 1, 2]]
    assert metrics.top_k(found, 1) == 0.25 and metrics.top_k(found, 2) == 0.75 and metrics.top_k(found, 3) == 1.0
    assert metrics.confusion(found, 3).tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    rows = metrics.per_class(found, ('a', 'b', 'c', 'd'))
    assert [row['images'] for row in rows] == [2, 1, 1, 0]
    assert [row['accuracy'] for row in rows] == [0.5, 0.0, 0.0, None]
    assert metrics.per_group(rows, ('bird', 'plant', 'bird', 'moss')) == [
        {'name': 'bird', 'classes': 2, 'images': 3, 'correct': 1, 'accuracy': 1 / 3},
        {'name': 'moss', 'classes': 1, 'images': 0, 'correct': 0, 'accuracy': None},
        {'name': 'plant', 'classes': 1, 'images': 1, 'correct': 0, 'accuracy': 0.0}]
    assert found.losses[3] == pytest.approx(np.log(2 + np.exp(-1)))
    assert found.correct.tolist() == [True, False, False, False]


def test_by_how_sure_the_annotators_were():
    found = metrics.predictions_of(SCORES, LABELS, np.array([4, 2, 1, 0]))  # rows of the image set, in another order
    thirds = np.float32(1 / 3)
    targets = np.array([[0, 1, 0], [1, 0, 0], [0, thirds, 2 * thirds], [0, 0, 1], [2 * thirds, thirds, 0]], 'float32')
    assert metrics.per_certainty(found, targets, ('a', 'b', 'c')) == [
        {'name': 'a', 'certainty': 1.0, 'images': 1, 'correct': 0, 'accuracy': 0.0},
        {'name': 'a', 'certainty': 0.67, 'images': 1, 'correct': 1, 'accuracy': 1.0},
        {'name': 'b', 'certainty': 1.0, 'images': 1, 'correct': 0, 'accuracy': 0.0},
        {'name': 'c', 'certainty': 0.67, 'images': 1, 'correct': 0, 'accuracy': 0.0}]


def test_summary_leaves_out_what_is_trivially_one():
    found = metrics.predictions_of(SCORES, LABELS, np.arange(4))
    macro = {'mean_class_accuracy', 'macro_precision', 'macro_f1'}
    assert set(metrics.summary(found, 3)) == {'loss', 'top1', *macro}
    assert set(metrics.summary(found, 4)) == {'loss', 'top1', 'top3', *macro}
    assert set(metrics.summary(found, 6)) == {'loss', 'top1', 'top3', 'top5', *macro}


def test_precision_recall_and_f1_by_hand():
    """Class 0: 2 of 3 right and 1 taken for it wrongly; 1: 1 of 1, taken 3 times; 2: 0 of 2, never; 3: no image."""
    labels, taken = np.array([0, 0, 0, 1, 2, 2]), [0, 0, 1, 1, 1, 0]
    rows = metrics.per_class(metrics.predictions_of(np.eye(4)[taken], labels, np.arange(6)), 'abcd')
    assert [row['images'] for row in rows] == [3, 1, 2, 0]
    assert [row['precision'] for row in rows] == [2 / 3, 1 / 3, 0, None]
    assert [row['recall'] for row in rows] == [2 / 3, 1, 0, None] == [row['accuracy'] for row in rows]
    assert [row['f1'] for row in rows] == [2 / 3, 1 / 2, 0, None]
    means = metrics.macro(rows)
    assert means == pytest.approx({'mean_class_accuracy': 5 / 9, 'macro_precision': 1 / 3, 'macro_f1': 7 / 18})


@given(st.integers(1, 30), st.integers(2, 9), st.integers(0, 99), st.integers(1, 29))
def test_joined_batches_equal_one_and_a_plain_count(images, classes, seed, cut):
    random = np.random.RandomState(seed)
    scores, labels = random.randn(images, classes), random.randint(0, classes, images)
    whole = metrics.predictions_of(scores, labels, np.arange(images))
    parts = [metrics.predictions_of(scores[part], labels[part], np.arange(images)[part])
             for part in (slice(0, cut), slice(cut, None)) if len(labels[part])]
    joined = metrics.Predictions.join(parts)
    for name in metrics.Predictions.__dataclass_fields__:
        if getattr(whole, name) is not None:
            np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
    for k in range(1, min(classes, 5) + 1):
        plain = np.mean([label in sorted(range(classes), key=lambda c: -row[c])[:k]
                         for row, label in zip(scores, labels)])
        assert metrics.top_k(whole, k) == pytest.approx(plain)
    assert metrics.confusion(whole, classes).sum() == images


def test_large_scores_do_not_overflow():
    found = metrics.predictions_of(np.array([[1e4, -1e4]]), np.array([1]), np.array([0]))
    assert found.losses[0] == pytest.approx(2e4) and found.top_probabilities[0].tolist() == [1.0, 0.0]


def test_running_means_weigh_batches_by_their_size_over_devices():
    means = metrics.RunningMeans()
    means.add('loss', mx.nd.array([1.0, 2.0, 3.0], ctx=mx.cpu(0)))
    means.add('loss', mx.nd.array([10.0], ctx=mx.cpu(1)))
    assert means.read() == {'loss': 4.0} and means.read() == {}


def test_first_bad_names_the_earliest_step_and_term():
    bad = metrics.FirstBad()
    bad.watch('a', mx.nd.array([1.0, 2.0]), 3)
    assert bad.read() is None
    bad.watch('b', mx.nd.array([1.0, np.inf]), 5)
    bad.watch('a', mx.nd.array([np.nan]), 4)
    bad.watch('a', mx.nd.array([np.nan]), 9)
    assert bad.read() == (4, 'a')


def test_targets_by_hand():
    smooth = targets.probabilities(mx.nd.array([1, 0]), 2, 0.2).asnumpy()
    np.testing.assert_allclose(smooth, [[0.1, 0.9], [0.9, 0.1]], rtol=1e-6)
    kept = targets.probabilities(mx.nd.array([[0.25, 0.75]]), 2, 0.0).asnumpy()
    assert kept.tolist() == [[0.25, 0.75]]
    weights = mx.nd.array([1.0, 3.0])
    assert targets.image_weights(weights, mx.nd.array([1, 0, 1])).asnumpy().tolist() == [3, 1, 3]
    assert targets.image_weights(weights, mx.nd.array([[0.5, 0.5]])).asnumpy().tolist() == [2]


def test_mixup_is_the_same_convex_combination_of_images_and_targets():
    images = mx.nd.array(np.arange(4).reshape(4, 1, 1, 1))
    mixed, wanted = mixing.mixup(images, mx.nd.one_hot(mx.nd.arange(4), 4), 0.4, np.random.default_rng(5))
    again, _ = mixing.mixup(images, mx.nd.one_hot(mx.nd.arange(4), 4), 0.4, np.random.default_rng(5))
    assert (mixed == again).asnumpy().all()
    np.testing.assert_allclose(wanted.asnumpy().sum(axis=1), 1, rtol=1e-6)
    # An image's value is its index, so the mixed value must be the mean index under the mixed target.
    np.testing.assert_allclose(mixed.asnumpy().ravel(), wanted.asnumpy() @ np.arange(4), rtol=1e-5)
    assert (wanted.asnumpy().max(axis=1) < 1).any()


def test_class_weights():
    assert targets.class_weights('none', np.array([0]), 2) is None
    balanced = targets.class_weights('balanced', np.array([0, 0, 0, 1]), 2)
    np.testing.assert_allclose(balanced, [4 / 6, 2.0])
    for wrong in ('balance', (1.0,), (1.0, -1.0), (0.0, 0.0)):
        with pytest.raises(ConfigError, match='train.class_weights'):
            targets.class_weights(wrong, np.array([0, 1]), 2)

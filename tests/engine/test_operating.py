"""Selective prediction, ROC area and thresholds by hand, and against counting."""
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.engine import metrics, operating


def test_selective_by_hand():
    """Of ten images the two surest are right, the next two equally sure, one of them right, the rest wrong."""
    sureness, correct = [.9, .99, .8, .8, .7, .65, .6, .55, .5, .5], [1, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert operating.selective(sureness, correct, (0.1, 0.15, 0.3, 0.4, 1.0)) == [
        {'coverage': 0.1, 'images': 1, 'correct': 1, 'accuracy': 1.0, 'probability': 0.99},
        {'coverage': 0.2, 'images': 2, 'correct': 2, 'accuracy': 1.0, 'probability': 0.9},
        {'coverage': 0.4, 'images': 4, 'correct': 3, 'accuracy': 0.75, 'probability': 0.8},
        {'coverage': 1.0, 'images': 10, 'correct': 3, 'accuracy': 0.3, 'probability': 0.5}]


def test_area_and_thresholds_by_hand():
    """Positives 5, 3, 1 and negatives 4, 3, 0, 0: of twelve pairs 8 are in order and one is a tie."""
    scores, positive = [5, 3, 1, 4, 3, 0, 0], [True] * 3 + [False] * 4
    assert operating.roc_auc(scores, positive) == pytest.approx(8.5 / 12)
    assert operating.operating_points(scores, positive, (1 / 3, 0.5, 0.6, 1.0)) == [  # 0.6 takes what 0.5 takes
        {'threshold': 5.0, 'found': 1, 'recall': 1 / 3, 'mistaken': 0, 'false_positive_rate': 0.0, 'precision': 1.0},
        {'threshold': 3.0, 'found': 2, 'recall': 2 / 3, 'mistaken': 2, 'false_positive_rate': 0.5, 'precision': 0.5},
        {'threshold': 1.0, 'found': 3, 'recall': 1.0, 'mistaken': 2, 'false_positive_rate': 0.5, 'precision': 0.6}]


@given(st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({positive for _, positive in pairs}) == 2), st.floats(0.01, 1.0))
def test_area_and_thresholds_are_what_counting_says(pairs, recall):
    scores, positive = (np.array(column) for column in zip(*pairs))
    own, others = scores[positive], scores[~positive]
    assert operating.roc_auc(scores, positive) == pytest.approx(
        np.mean([(a > b) + 0.5 * (a == b) for a in own for b in others]))
    assert operating.roc_auc(scores, positive) == pytest.approx(1 - operating.roc_auc(scores, ~positive))
    point, = operating.operating_points(scores, positive, (recall,))
    assert point['recall'] == np.mean(own >= point['threshold']) >= recall - 1e-9
    assert point['false_positive_rate'] == np.mean(others >= point['threshold'])
    above = own[own > point['threshold']]  # no larger threshold finds enough
    assert len(above) / len(own) < recall - 1e-9 or not len(above)


def predictions(odds, labels, temperature=None):
    scores = np.stack([np.zeros(len(odds)), np.asarray(odds, 'float64')], 1)
    return metrics.predictions_of(scores, np.asarray(labels), np.arange(len(odds)), temperature)


@pytest.mark.parametrize('temperature', [None, 2.0])
def test_what_an_evaluation_keeps_of_two_classes(temperature):
    """The rarer class comes first; its thresholds are probabilities as `fgvc predict` says them."""
    found = operating.summary(predictions([-2, -1, 0, 1, 3, 800], [0, 0, 0, 1, 0, 1], temperature), ('whole', 'torn'),
                              temperature)
    assert found['roc_auc'] == pytest.approx(7 / 8) and len(found['selective']) == 5
    points = found['operating_points']
    assert [point['name'] for point in points] == ['torn', 'whole']  # all recalls need all images of these few
    assert points[0]['recall'] == 1.0 and points[0]['mistaken'] == 1
    assert points[0]['probability'] == pytest.approx(1 / (1 + math.exp(-1 / (temperature or 1))))
    assert points[1]['probability'] == pytest.approx(1 / (1 + math.exp(3 / (temperature or 1))))
    sure = found['selective'][-1]
    assert sure == {'coverage': 1.0, 'images': 6, 'correct': 5, 'accuracy': 5 / 6, 'probability': 0.5}
    assert found['selective'][1]['probability'] == pytest.approx(1 / (1 + math.exp(-3 / (temperature or 1))))


def test_a_mean_of_networks_is_not_divided_by_the_temperature_of_one():
    mean = predictions([-2, -1, 0, 1, 3], [0, 0, 1, 0, 1])
    assert mean.calibrated is None
    assert operating.summary(mean, 'ab', 2.0) == operating.summary(mean, 'ab')


def test_more_classes_or_one_have_no_thresholds():
    scores, labels = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 1])
    assert set(operating.summary(metrics.predictions_of(scores, labels, np.arange(4)), 'abc')) == {'selective'}
    assert set(operating.summary(predictions([1, -1], [1, 1]), 'ab')) == {'selective'}

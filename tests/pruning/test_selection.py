"""Which channels stay, by hand."""
import numpy as np
import pytest

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.pruning import Group, select


def groups_and_scores():
    return ([Group(4, ['a', 'b'], ['c'])],
            {'a': np.array([1.0, 2, 3, 4]), 'b': np.array([5.0, 0, 1, 6])})  # means 3, 1, 2, 5


@pytest.mark.parametrize('rule, expected', [
    ({'fraction': 0.5}, [0, 3]), ({'fraction': 0}, [0, 1, 2, 3]), ({'fraction': 0.99}, [3]),
    ({'threshold': 2}, [0, 2, 3]), ({'threshold': 4.9}, [3]), ({'fraction': 0.75, 'multiple': 3}, [0, 2, 3]),
    ({'fraction': 0.5, 'multiple': 8}, [0, 1, 2, 3])])
def test_selection_by_hand(rule, expected):
    groups, scores = groups_and_scores()
    assert select(groups, scores, **rule)['a'].tolist() == expected


@pytest.mark.parametrize('rule, message', [
    ({'threshold': 5.5}, "threshold 5.5 removes all 4 channels of 'a', whose scores are 1 to 5"), ({}, 'not both'),
    ({'fraction': 0.1, 'threshold': 1}, 'not both'), ({'fraction': 1.0}, 'at least 0 and below 1'),
    ({'fraction': -0.1}, 'at least')])
def test_wrong_selections(rule, message):
    with pytest.raises(ConfigError, match=message):
        select(*groups_and_scores(), **rule)

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.data import stratified_split


@given(st.lists(st.integers(0, 4), max_size=60), st.floats(0, 1), st.integers(0, 2 ** 32 - 1))
def test_parts_are_disjoint_complete_sorted_and_of_the_right_size(strata, share, seed):
    rest, taken = stratified_split(strata, share, seed)
    assert sorted([*rest, *taken]) == list(range(len(strata)))
    assert list(rest) == sorted(rest) and list(taken) == sorted(taken)
    for stratum in set(strata):
        members = [i for i, s in enumerate(strata) if s == stratum]
        assert len(set(members) & set(taken)) == int(round(len(members) * share))


def test_halves_round_to_even():
    assert [len(stratified_split([0] * n, 0.5, 0)[1]) for n in (1, 3, 5, 7)] == [0, 2, 2, 4]


def test_one_generator_runs_over_the_strata_in_sorted_order():
    strata = ['b', 'a', 'b', 'a', 'b', 'a', 'b', 'a']
    generator = np.random.RandomState(5)
    expected = sorted([*generator.permutation([1, 3, 5, 7])[:1], *generator.permutation([0, 2, 4, 6])[:1]])
    assert stratified_split(strata, 0.25, 5)[1].tolist() == expected


def test_the_seed_matters_and_repeats():
    draws = [tuple(stratified_split([0] * 40, 0.5, seed)[1]) for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]

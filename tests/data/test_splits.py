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


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=60), st.floats(0, 1), st.integers(0, 99))
def test_no_unit_is_torn_apart(items, share, seed):
    strata, units = [s for s, _ in items], [u for _, u in items]
    rest, taken = stratified_split(strata, share, seed, units)
    assert sorted([*rest, *taken]) == list(range(len(items)))
    assert list(rest) == sorted(rest) and list(taken) == sorted(taken)
    assert not {units[i] for i in rest} & {units[i] for i in taken}


def test_a_unit_counts_for_its_rarest_stratum():
    # Units 0..3 show rice; 0 and 1 also soup, which is rarer. Half of the two of each kind are taken.
    strata = ['rice'] * 4 + ['soup'] * 2
    units = [0, 1, 2, 3, 0, 1]
    for seed in range(10):
        _, taken = stratified_split(strata, 0.5, seed, units)
        assert sum(strata[i] == 'soup' for i in taken) == 1 and sum(strata[i] == 'rice' for i in taken) == 2


@given(st.lists(st.integers(0, 4), max_size=40), st.floats(0, 1), st.integers(0, 99))
def test_units_of_one_item_change_nothing(strata, share, seed):
    alone = stratified_split(strata, share, seed, np.arange(len(strata)))
    for part, expected in zip(alone, stratified_split(strata, share, seed)):
        np.testing.assert_array_equal(part, expected)

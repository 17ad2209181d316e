import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.data import ImageSet, Source, split_record, stratified_split


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


def source(root, train, val=(), test=('ant/9.png',)):
    sets = {name: ImageSet(name, [str(root / path) for path in paths], np.zeros(len(paths), np.int64))
            for name, paths in (('train', train), ('val', val), ('test', test)) if paths}
    return Source(('ant',), sets['train'], sets['test'], sets.get('val'))


def test_the_record_of_a_split_names_the_validation_images(tmp_path):
    record = split_record(source(tmp_path / 'a', ['ant/1.png', 'ant/2.png'], ['bee/3.png']))
    assert record['val'] == ['bee/3.png']
    assert {name: part['images'] for name, part in record['splits'].items()} == {'train': 2, 'val': 1, 'test': 1}
    assert record['splits']['val']['sha256'] == hashlib.sha256(b'bee/3.png\t0\n').hexdigest()
    assert split_record(source(tmp_path / 'elsewhere', ['ant/1.png', 'ant/2.png'], ['bee/3.png'])) == record
    other = split_record(source(tmp_path / 'a', ['ant/1.png', 'bee/3.png'], ['ant/2.png']))
    assert [name for name in record['splits'] if record['splits'][name] != other['splits'][name]] == ['train', 'val']


def test_the_record_of_images_that_are_no_files():
    train, test = (ImageSet(name, [f'{name}.bin#{k}' for k in range(3)], np.arange(3)) for name in ('train', 'test'))
    record = split_record(Source(('a', 'b', 'c'), train, test))
    assert record['val'] == [] and set(record['splits']) == {'train', 'test'}
    swapped = ImageSet('train', train.paths, np.array([0, 2, 1]))
    assert split_record(Source(('a', 'b', 'c'), swapped, test))['splits']['train'] != record['splits']['train']

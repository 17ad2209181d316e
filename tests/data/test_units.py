"""Images that belong together by a list: who is meant, what is refused, and that no split tears them apart."""
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc.data import units
from gluon_fgvc.data.base import ImageSet, Source
from gluon_fgvc.data.folds import with_fold
from gluon_fgvc.data.splits import torn_units
from gluon_fgvc.errors import DataError


def source(train, test, **kwargs):
    sets = (ImageSet(name, paths, np.arange(len(paths)) % 2, **kwargs)
            for name, paths in (('train', train), ('test', test)))
    return Source(('a', 'b'), *sets)


def write(folder, text):
    (folder / 'units.csv').write_text(text, 'utf-8')
    return str(folder / 'units.csv')


BIRDS = source(['/d/train/a/1.jpg', '/d/train/b/1.jpg', '/d/train/a/2.jpg'], ['/d/test/a/1.jpg', '/d/test/b/9.jpg'])


def test_named_images_are_one_unit_and_others_each_their_own(tmp_path):
    path = write(tmp_path, '\ufeffpath,seen,unit\ntrain/a/1.jpg,yes,7\n9.jpg,no,7\n/d/train/a/2.jpg,,8\n')
    found = units.with_units(BIRDS, path)
    assert found.train.units.tolist() == ['7', 'image /d/train/b/1.jpg', '8']
    assert found.test.units.tolist() == ['image /d/test/a/1.jpg', '7']
    assert torn_units(found) == [('7', ['train', 'test'])]
    assert BIRDS.train.units is None


@pytest.mark.parametrize('text, message', [
    ('path,unit\na/1.jpg,1\n', r"line 2: 'a/1.jpg' may be '/d/train/a/1.jpg' or '/d/test/a/1.jpg'; write more of"),
    ('path,unit\n2.jpg,1\nb/8.jpg,1\n', r"line 3: no image is called 'b/8.jpg'; did you mean"),
    ('path,unit\nrain/a/1.jpg,1\n', "no image is called 'rain/a/1.jpg'"),  # whole parts of a path only
    ('path,unit\n2.jpg,1\na/2.jpg,3\n', r"line 3: 'a/2.jpg' is in unit '3' here, '1' before \(.*line 2\)"),
    ('path,unit\n2.jpg,\n', 'line 2: path and unit must not be empty'),
    ('path,unit\n2.jpg\n', 'line 2: path and unit must not be empty'),
    ('file,unit\n2.jpg,1\n', r'has the columns file, unit; a list of units has path and unit'),
    ('', r'has the columns \(none\)'),
])
def test_lists_that_do_not_fit(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        units.with_units(BIRDS, write(tmp_path, text))


def test_a_list_that_is_not_there_or_not_needed(tmp_path):
    with pytest.raises(DataError, match="cannot read data.units '.*none.csv': No such file"):
        units.with_units(BIRDS, str(tmp_path / 'none.csv'))
    with pytest.raises(DataError, match='has units of its own'):
        units.with_units(source(['1.jpg'], ['2.jpg'], units=np.array(['x'])), write(tmp_path, 'path,unit\n'))


def test_an_error_does_not_list_all_images(tmp_path):
    many = source([f'/d/{i}.png' for i in range(3000)], ['/e/1.jpg', '/e/2.jpg'])
    with pytest.raises(DataError, match=r"line 2: no image is called '9999.png'; did you mean '\d+.png'\?$"):
        units.with_units(many, write(tmp_path, 'path,unit\n9999.png,1\n'))


def test_paths_begin_below_the_common_folder_of_all_images():
    rows = units.of_groups([['/d/train/a/1.jpg', '/d/train/a/2.jpg'], ['/d/train/b/1.jpg', '/d/test/b/9.jpg']], BIRDS)
    assert rows == [('train/a/1.jpg', 1), ('train/a/2.jpg', 1), ('train/b/1.jpg', 2), ('test/b/9.jpg', 2)]
    flat = source(['/d/1.jpg', '/d/2.jpg'], ['/d/3.jpg', '/d/4.jpg'])
    assert units.of_groups([['/d/1.jpg', '/d/3.jpg']], flat) == [('1.jpg', 1), ('3.jpg', 1)]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=12, max_size=40), st.integers(2, 4), st.data())
def test_what_is_written_is_read_and_no_fold_tears_it_apart(tmp_path_factory, numbers, folds, draw):
    folder = tmp_path_factory.mktemp('units')
    paths = [f'/data/{i % 3}/{i}.png' for i in range(len(numbers))]
    cut = draw.draw(st.integers(4, len(paths) - 4))
    images = source(paths[:cut], paths[cut:])
    groups = [[path for path, number in zip(paths, numbers) if number == unit] for unit in range(5)]
    rows = units.of_groups([group for group in groups if group], images)
    text = '\n'.join(['path,unit', *(f'{path},{unit}' for path, unit in rows)]) + '\n'
    found = units.with_units(images, write(folder, text))
    try:
        dealt = with_fold(found, folds, 0, 0)
    except DataError:  # a class of one unit, or fewer units than folds
        return
    names = SimpleNamespace(**{part: set(getattr(dealt, part).paths) for part in ('train', 'test')})
    assert names.train | names.test == set(paths) and not names.train & names.test
    for group in groups:
        assert set(group) <= names.train or set(group) <= names.test

import pickle
from dataclasses import replace

import numpy as np
import pytest

from gluon_fgvc.config import EvalView
from gluon_fgvc.data import EvalTransform, ImageSet, Loader, Source, read_image
from gluon_fgvc.data.readers import Arrays, Crops, numbered
from gluon_fgvc.errors import DataError

LABELS = np.arange(5) % 2


def of_arrays(count=5):
    pixels = np.random.default_rng(0).integers(0, 256, (count, 4, 6, 3), dtype=np.uint8)
    return pixels, ImageSet('train', numbered('batch', count), LABELS[:count], reader=Arrays(pixels))


class Drawn:
    """Image = f(row): what a generated data set is."""

    def __call__(self, row):
        return np.full((2, 2, 3), row, np.uint8)


def test_rows_of_an_array_survive_subsets_of_subsets():
    pixels, images = of_arrays()
    assert images.paths == ['batch#0', 'batch#1', 'batch#2', 'batch#3', 'batch#4']
    twice = images.subset(np.array([4, 2, 0])).subset([2, 0], 'val')
    assert twice.paths == ['batch#0', 'batch#4'] and twice.name == 'val'
    for index, row in enumerate((0, 4)):
        np.testing.assert_array_equal(twice.read(index), pixels[row])


def test_every_field_follows_its_image(image_set):
    images = image_set(4, targets=np.eye(4, dtype=np.float32), strata=np.array(list('abcd')), units=np.arange(4) * 10,
                       boxes=np.arange(16.0).reshape(4, 4))
    part = images.subset([3, 1])
    assert part.strata.tolist() == ['d', 'b'] and part.units.tolist() == [30, 10]
    assert part.boxes.tolist() == [[12, 13, 14, 15], [4, 5, 6, 7]] and part.targets[:, 3].tolist() == [1, 0]
    assert part.rows is None
    np.testing.assert_array_equal(part.read(0), read_image(images.paths[3]))


def test_a_set_of_any_kind_can_be_pickled(image_set):
    for images in (of_arrays()[1], image_set(3), ImageSet('x', ['a'], LABELS[:1], reader=Drawn())):
        again = pickle.loads(pickle.dumps(images))
        np.testing.assert_array_equal(again.read(0), images.read(0))


@pytest.mark.parametrize('workers', [0, 2])
def test_the_loader_reads_what_the_set_reads(workers):
    images = ImageSet('train', numbered('drawn', 200), np.arange(200) % 2, reader=Drawn()).subset([7, 150, 9])
    with Loader(images, EvalTransform(EvalView()), 2, workers=workers) as loader:
        batches = [batch.images.asnumpy() for batch in loader.epoch(0)]
    assert [batch[:, 0, 0, 0].tolist() for batch in batches] == [[7, 150], [9]]


@pytest.mark.parametrize('shape, dtype', [((2, 4, 4), np.uint8), ((2, 4, 4, 4), np.uint8), ((2, 4, 4, 3), np.float32)])
def test_arrays_of_another_form_are_refused(shape, dtype):
    with pytest.raises(ValueError, match=r'not \(N,H,W,3\) uint8'):
        Arrays(np.zeros(shape, dtype))


# A picture of 10 x 8 (width x height): x, y, width, height → what is cut out.
BOXES = {
    'inside': ((2, 1, 3, 4), np.s_[1:5, 2:5]),
    'the whole': ((0, 0, 10, 8), np.s_[:, :]),
    'edges rounded': ((1.6, 0.4, 3.0, 2.8), np.s_[0:3, 2:5]),
    'beyond the edge': ((-5, 6, 8, 100), np.s_[6:8, 0:3]),
}


@pytest.mark.parametrize('case', BOXES)
def test_crops(tmp_path, write_image, case):
    box, expected = BOXES[case]
    path = write_image(tmp_path / 'a.png', 8, 10)
    np.testing.assert_array_equal(Crops([path], [box])(0), read_image(path)[expected])


@pytest.mark.parametrize('box', [(10, 0, 5, 5), (0, -9, 5, 5), (3, 3, 0.4, 5), (3, 3, -1, 5)])
def test_a_box_without_a_pixel_is_one_clear_error(tmp_path, write_image, box):
    path = write_image(tmp_path / 'a.png', 8, 10)
    with pytest.raises(DataError, match=r"cannot crop image '.*a.png': its box \(x .* has no pixel of its 10 x 8"):
        Crops([path], [box])(0)


def test_crops_of_one_file_have_names_of_their_own():
    assert Crops(['a.jpg', 'a.jpg'], np.array([(1, 2, 3, 4), (1.5, 2, 3, 4)])).names == [
        'a.jpg#xywh=1,2,3,4', 'a.jpg#xywh=1.5,2,3,4']


def test_the_splits_of_a_source_and_an_image_by_its_name():
    drawn = {name: ImageSet(name, paths, np.zeros(2, np.int64), reader=Drawn(), rows=np.array(rows))
             for name, paths, rows in (('train', ['a', 'b'], [1, 2]), ('val', ['c', 'd'], [3, 4]),
                                       ('test', ['e', 'a'], [5, 6]))}
    source = Source(('x',), drawn['train'], drawn['test'])
    assert source.splits() == [drawn['train'], drawn['test']] and source.find('b') == (drawn['train'], 1)
    assert source.find('a') == (drawn['test'], 1)  # the later split
    with pytest.raises(DataError, match="no split has an image 'c'"):
        source.find('c')
    assert source.read('c') is None and source.read('a')[0, 0, 0] == 6
    source = replace(source, val=drawn['val'])
    assert [images.name for images in source.splits()] == ['train', 'val', 'test'] and source.read('c')[0, 0, 0] == 3

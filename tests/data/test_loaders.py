import os
import signal
import subprocess
import sys
import textwrap
import time

import mxnet as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc.config import EvalView, TrainView
from gluon_fgvc.data import EvalTransform, ImageSet, Loader, TrainTransform, read_image, samplers
from gluon_fgvc.errors import DataError

PLAIN = EvalTransform(EvalView())
AUGMENT = TrainTransform(TrainView(crop=8, flip=True, flip_vertical=True, transpose=True, rotation=20,
                                   color_jitter=0.3))


@pytest.fixture
def loader():
    """Loader(...), closed after the test."""
    made = []

    def make(*arguments, **options):
        made.append(Loader(*arguments, **options))
        return made[-1]
    yield make
    for each in made:
        each.close()


def collect(batches):
    return [(b.images.asnumpy(), b.labels.asnumpy(), b.indices) for b in batches]


def assert_same(left, right):
    assert len(left) == len(right)
    for one, other in zip(left, right):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as stream:
            return stream.read().rsplit(')', 1)[1].split()[0] != 'Z'
    except FileNotFoundError:
        return False


def pids(loader):
    return [process.pid for process in loader._workers._processes]


def test_evaluation_keeps_order_pixels_labels_and_the_last_batch(image_set, loader):
    images = image_set(7)
    batches = list(loader(images, PLAIN, 3).epoch(0))
    assert [b.indices.tolist() for b in batches] == [[0, 1, 2], [3, 4, 5], [6]]
    assert batches[0].images.dtype == np.uint8 and batches[0].labels.dtype == np.float32
    assert batches[0].indices.dtype == np.int64 and batches[0].images.context == mx.cpu()
    assert batches[2].labels.asnumpy().tolist() == [0] and batches[1].labels.asnumpy().tolist() == [0, 1, 2]
    np.testing.assert_array_equal(batches[1].images[2].asnumpy(), read_image(images.paths[5]))


def test_the_same_bits_with_any_number_of_workers(image_set, loader):
    images = image_set(23)
    loaders = [loader(images, AUGMENT, 4, train=True, seed=3, workers=n) for n in (0, 1, 2)]
    for epoch in (0, 1, 5):
        expected = collect(loaders[0].epoch(epoch))
        for other in loaders[1:]:
            assert_same(expected, collect(other.epoch(epoch)))


@pytest.mark.parametrize('options', [
    {'workers': 2, 'threads': True}, {'cache': 1}, {'workers': 2, 'cache': 1},
    {'workers': 2, 'threads': True, 'cache': 1}])
@pytest.mark.parametrize('train', [True, False])
def test_the_same_bits_from_threads_and_from_memory(image_set, loader, options, train):
    images, transform = image_set(23, 30, 20), TrainTransform(TrainView(resize=12, crop=8, flip=True))
    plain, other = (loader(images, transform if train else EvalTransform(EvalView(resize=12, crop=8)), 4, train=train,
                           **more) for more in ({}, options))
    for epoch in range(3):
        assert_same(collect(plain.epoch(epoch)), collect(other.epoch(epoch)))


@pytest.mark.parametrize('workers, threads', [(0, False), (2, False), (2, True)])
def test_files_are_read_once_where_the_cache_holds_them(image_set, loader, workers, threads):
    images = image_set(12)
    cached = loader(images, PLAIN, 4, workers=workers, threads=threads, cache=1)
    first = collect(cached.epoch(0))
    for path in images.paths:
        os.remove(path)
    assert_same(first, collect(cached.epoch(1)))


def test_an_epoch_depends_on_seed_and_number_only(image_set, loader):
    images = image_set(12)
    make = lambda seed: loader(images, AUGMENT, 12, train=True, seed=seed)  # noqa: E731
    walked, fresh, other = make(1), make(1), make(2)
    epochs = [collect(walked.epoch(e)) for e in range(3)]
    assert_same(epochs[2], collect(fresh.epoch(2)))
    assert epochs[0][0][2].tolist() != epochs[1][0][2].tolist() != collect(other.epoch(1))[0][2].tolist()
    by_index = [dict(zip(indices.tolist(), pixels)) for ((pixels, _, indices),) in epochs]
    changed = [(by_index[0][i] != by_index[1][i]).any() for i in range(12)]
    assert sum(changed) == 12  # every image is augmented anew each epoch


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 99), st.integers(0, 99))
def test_shuffled_batches_visit_every_index_once(length, size, seed, epoch):
    order = samplers.Shuffled(length, seed)(epoch)
    kept, discarded = (samplers.batches(order, size, last) for last in ('keep', 'discard'))
    assert sorted(np.concatenate(kept).tolist()) == list(range(length))
    assert len(discarded) == length // size and all(len(batch) == size for batch in discarded)


def test_shuffling_and_augmentation_draw_from_different_streams():
    draws = {tuple(samplers.generator(*key).integers(1 << 30, size=2)) for key in (
        (samplers.SHUFFLE, 0, 0), (samplers.AUGMENT, 0, 0, 0), (samplers.AUGMENT, 0, 0, 1), (samplers.AUGMENT, 0, 1, 0),
        (samplers.AUGMENT, 1, 0, 0), (samplers.SHUFFLE, 1, 0), (samplers.SHUFFLE, 0, 1))}
    assert len(draws) == 7


@pytest.mark.parametrize('last, sizes', [('keep', [4, 4, 2]), ('discard', [4, 4])])
def test_last_batch_and_length(image_set, loader, last, sizes):
    made = loader(image_set(10), PLAIN, 4, train=True, last=last)
    assert [len(b.indices) for b in made.epoch(0)] == sizes and len(made) == len(sizes)


def test_a_set_smaller_than_a_batch_never_gives_zero_batches(image_set):
    with pytest.raises(DataError, match="'train' has 3 images, not one batch of 4; set data.batch_size to at most 3"):
        Loader(image_set(3), PLAIN, 4, last='discard')
    with pytest.raises(DataError, match="split 'val' has no images"):
        Loader(ImageSet('val', [], np.empty(0, np.int64)), PLAIN, 4)


def test_targets_are_for_training_only(image_set, loader):
    targets = np.random.default_rng(0).random((5, 3)).astype(np.float32)
    images = image_set(5, targets=targets)
    train = next(iter(loader(images, PLAIN, 5, train=True).epoch(0)))
    np.testing.assert_array_equal(train.labels.asnumpy(), targets[train.indices])
    test = next(iter(loader(images, PLAIN, 5).epoch(0)))
    assert test.labels.asnumpy().tolist() == [0, 1, 2, 0, 1]


def test_own_sampler(image_set, loader):
    class Backwards:
        def __len__(self):
            return 4

        def __call__(self, epoch):
            return np.array([3, 2, 1, epoch])
    made = loader(image_set(5), PLAIN, 3, train=True, sampler=Backwards())
    assert [b.indices.tolist() for b in made.epoch(4)] == [[3, 2, 1], [4]] and len(made) == 2


def spoil(images, *indices):
    for index in indices:
        open(images.paths[index], 'wb').close()


@pytest.mark.parametrize('workers', [0, 2])
def test_a_broken_image_fails_by_name(image_set, loader, workers):
    images = image_set(6)
    spoil(images, 4)
    made = loader(images, PLAIN, 2, workers=workers)
    with pytest.raises(DataError, match=r"cannot read image '.*4.png': it has 0 bytes \(data.bad_image: skip"):
        list(made.epoch(0))
    assert next(made.epoch(0)).indices.tolist() == [0, 1]  # the workers have survived it


@pytest.mark.parametrize('workers', [0, 2])
def test_broken_images_are_skipped_and_counted(image_set, loader, workers):
    images = image_set(6)
    spoil(images, 1, 2, 3)
    made = loader(images, PLAIN, 2, workers=workers, bad_image='skip')
    for epoch in range(2):
        batches = list(made.epoch(epoch))
        assert [b.indices.tolist() for b in batches] == [[0], [4, 5]]
        assert [b.labels.asnumpy().tolist() for b in batches] == [[0], [1, 2]]
        assert sorted(made.bad) == [images.paths[i] for i in (1, 2, 3)]
    assert 'it has 0 bytes' in made.bad[images.paths[1]]


def test_nothing_but_broken_images_is_an_error_even_when_skipping(image_set, loader):
    images = image_set(3)
    spoil(images, 0, 1, 2)
    with pytest.raises(DataError, match="none of the images of split 'train' could be read; the first: .*0.png"):
        list(loader(images, PLAIN, 2, bad_image='skip').epoch(0))


@pytest.mark.parametrize('workers', [0, 1])
def test_different_sizes_in_a_batch(image_set, loader, write_image, tmp_path, workers):
    images = image_set(4)
    write_image(tmp_path / 'images' / '3.png', 12, 13)
    made = loader(images, PLAIN, 2, workers=workers, bad_image='skip')
    with pytest.raises(DataError, match=r"2.png' and '.*3.png' .* \(12 x 12 and 12 x 13.*\[height, width\]"):
        list(made.epoch(0))
    assert len(list(loader(images, EvalTransform(EvalView(crop=12)), 2, workers=workers).epoch(0))) == 2


@pytest.mark.parametrize('workers', [0, 2])
def test_images_of_one_kind_share_a_batch(image_set, loader, workers):
    images = image_set(8)
    kinds = [('wide', 'high')[index % 3 == 1] for index in range(8)]
    own = loader(images, EvalTransform(EvalView(resize=8, crop=8)), 2, workers=workers, kinds=kinds)
    order = own.order(0)
    batches = list(own.epoch(0))
    assert len(batches) == len(own) == len(order)
    for batch, indices in zip(batches, order):
        np.testing.assert_array_equal(batch.indices, indices)
        assert len({kinds[index] for index in indices}) == 1
    assert [indices.tolist() for indices in order] == [[0, 2], [3, 5], [6], [1, 4], [7]]


@pytest.mark.parametrize('workers', [0, 1])
def test_an_image_smaller_than_the_crop_ends_the_run_even_when_skipping(image_set, loader, workers):
    made = loader(image_set(2), EvalTransform(EvalView(crop=13)), 2, workers=workers, bad_image='skip')
    with pytest.raises(DataError, match=r"image '.*0.png': the image is 12 x 12 .* data.eval.crop 13"):
        list(made.epoch(0))


class Faulty:
    def __call__(self, image, rng):
        raise ZeroDivisionError('a defect of ours')


@pytest.mark.parametrize('workers', [0, 1])
def test_a_defect_keeps_its_traceback(image_set, loader, workers):
    with pytest.raises((RuntimeError, ZeroDivisionError), match='a defect of ours') as caught:
        list(loader(image_set(2), Faulty(), 2, workers=workers).epoch(0))
    assert workers == 0 or 'test_loaders.py' in str(caught.value)


@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_may_be_left_early(image_set, loader, workers):
    images = image_set(20)
    made, fresh = (loader(images, AUGMENT, 2, train=True, workers=n) for n in (workers, 0))
    left = made.epoch(0)
    next(left)
    assert_same(collect(made.epoch(1)), collect(fresh.epoch(1)))
    with pytest.raises(RuntimeError, match='epoch 0 cannot go on'):
        next(left)
    assert_same(collect(made.epoch(0)), collect(fresh.epoch(0)))


def test_workers_stay_between_epochs_and_end_with_close(image_set, loader):
    made = loader(image_set(6), PLAIN, 2, workers=2)
    before = pids(made)
    for epoch in range(3):
        list(made.epoch(epoch))
    assert pids(made) == before and all(alive(pid) for pid in before)
    made.close()
    assert not any(alive(pid) for pid in before)
    with pytest.raises(ValueError, match='closed'):
        next(made.epoch(0))
    made.close()


@pytest.mark.parametrize('busy', [False, True])
def test_a_killed_worker_is_noticed_at_once(image_set, loader, busy):
    made = loader(image_set(60), AUGMENT, 2, train=True, workers=2)
    batches = made.epoch(0)
    if busy:
        next(batches)
    os.kill(pids(made)[1], signal.SIGKILL)
    start = time.monotonic()
    with pytest.raises(DataError, match=r'loader process \d+ died \(exit code -9'):
        list(batches)
    made.close()
    assert time.monotonic() - start < 10


@pytest.mark.timeout(120)
def test_thirty_epochs_beside_operators_in_the_main_process(image_set, loader):
    train = loader(image_set(12), AUGMENT, 4, train=True, workers=2)
    test = loader(image_set(12), PLAIN, 4, workers=1)
    weight, total = mx.nd.ones((12 * 12 * 3, 64)), 0
    for epoch in range(30):
        for made in (train, test):
            for batch in made.epoch(epoch):
                flat = batch.images.astype('float32').reshape((len(batch.indices), -1))
                total += len(mx.nd.dot(flat, weight[:flat.shape[1]]))
    mx.nd.waitall()
    assert total == 30 * 24


SCRIPT = '''
import sys
import numpy as np
from gluon_fgvc.config import EvalView
from gluon_fgvc.data import ImageSet, Loader, EvalTransform
images = ImageSet('train', sys.argv[2:], np.zeros(len(sys.argv) - 2, np.int64))
loaders = [Loader(images, EvalTransform(EvalView()), 2, workers=2) for _ in range(2)]
epochs = [loader.epoch(0) for loader in loaders]
for epoch in epochs:
    next(epoch)
print(*[process.pid for loader in loaders for process in loader._workers._processes], flush=True)
if sys.argv[1] == 'raise':
    raise KeyError('mid-epoch')
while True:
    for loader in loaders:
        for batch in loader.epoch(0):
            batch.images.asnumpy()
'''


@pytest.mark.timeout(120)
@pytest.mark.parametrize('ending', ['raise', signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_main_process(image_set, ending):
    process = subprocess.Popen([sys.executable, '-c', textwrap.dedent(SCRIPT), str(ending), *image_set(9).paths],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env={**os.environ, 'PYTHONPATH': os.pathsep.join(sys.path)})
    workers = [int(word) for word in process.stdout.readline().split()]
    assert len(workers) == 4
    if ending != 'raise':
        time.sleep(0.3)
        process.send_signal(ending)
    while ending == signal.SIGINT and process.poll() is None:  # as a person does: Python loses one in a destructor
        time.sleep(0.5)
        process.send_signal(ending)
    assert process.wait(100) != 0
    process.stdout.close()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(alive(pid) for pid in workers)


def test_wrong_settings(image_set):
    for options in ({'last': 'rollover'}, {'bad_image': 'ignore'}):
        with pytest.raises(ValueError, match='is none of'):
            Loader(image_set(2), PLAIN, 1, **options)

"""CIFAR-10: 32 x 32 images of ten classes (Krizhevsky 2009), 50,000 to train on, 10,000 to test."""
from dataclasses import dataclass

from gluon_fgvc.config import option
from gluon_fgvc.data.base import Source
from gluon_fgvc.data.formats import annotations, archives, cifar

ARCHIVES = {'cifar-10-python.tar.gz': 'c58f30108f718f92721af3b95e74349a',  # MD5, www.cs.toronto.edu/~kriz/cifar.html
            'cifar-10-binary.tar.gz': 'c32a1d4ab5d03f1284b67883e8d87530'}
TRAIN, TEST = [f'data_batch_{k}' for k in range(1, 6)], ['test_batch']


@dataclass(frozen=True)
class Options:
    """Where the batches are."""

    root: str = option('data/cifar10', 'cifar-10-python.tar.gz or cifar-10-binary.tar.gz, or a folder with what was '
                                       'in it')
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source` of the official split, all images in memory (185 MB).

    :raises DataError: if a file is missing, damaged, or not what the data set consists of.
    """
    root = archives.opened(options.root)
    if archives.find(root, 'data_batch_1.bin'):
        root = archives.find(root, 'data_batch_1.bin')
        classes = annotations.read_names(f'{root}/batches.meta.txt')
        train, test = (cifar.read_binary(split, [f'{root}/{name}.bin' for name in names], ('labels',))
                       for split, names in (('train', TRAIN), ('test', TEST)))
    else:
        root = archives.base_of(root, 'data_batch_1', 'the contents of cifar-10-python.tar.gz or -binary.tar.gz')
        classes = cifar.read_names(f'{root}/batches.meta', 'label_names')
        train, test = (cifar.read_pickles(split, [f'{root}/{name}' for name in names], ('labels',))
                       for split, names in (('train', TRAIN), ('test', TEST)))
    cifar.check(root, options.complete, classes, 10, train, test)
    return Source(classes, cifar.image_set(train, 'labels'), cifar.image_set(test, 'labels'))

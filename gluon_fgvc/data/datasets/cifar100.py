"""CIFAR-100: 32 x 32 images of 100 classes in 20 super-classes (Krizhevsky 2009).

50,000 to train on, 10,000 to test.
"""
from dataclasses import dataclass

from gluon_fgvc.config import option
from gluon_fgvc.data.base import Source
from gluon_fgvc.data.formats import annotations, archives, cifar

ARCHIVES = {'cifar-100-python.tar.gz': 'eb9058c3a382ffc7106e4002c42a8d85',  # MD5, www.cs.toronto.edu/~kriz/cifar.html
            'cifar-100-binary.tar.gz': '03b5dce01913d631647c71ecec9e9cb8'}
LABELS = ('coarse_labels', 'fine_labels')  # in the order of the binary rows


@dataclass(frozen=True)
class Options:
    """Where the files are, and which of the labels are learned."""

    root: str = option('data/cifar100', 'cifar-100-python.tar.gz or cifar-100-binary.tar.gz, or a folder with what '
                                        'was in it')
    labels: str = option('fine', "'fine': the 100 classes; 'coarse': the 20 super-classes", choices=('fine', 'coarse'))
    complete: bool = annotations.complete_option()


def read(options):
    """Return the :class:`Source` of the official split, all images in memory (185 MB).

    The super-classes are the groups of the fine labels.

    :raises DataError: if a file is missing, damaged, or not what the data set consists of.
    """
    root = archives.opened(options.root)
    if archives.find(root, 'train.bin'):
        root = archives.find(root, 'train.bin')
        names = {kind: annotations.read_names(f'{root}/{kind}_label_names.txt') for kind in ('fine', 'coarse')}
        train, test = (cifar.read_binary(split, [f'{root}/{split}.bin'], LABELS) for split in ('train', 'test'))
    else:
        root = archives.base_of(root, 'meta', 'the contents of cifar-100-python.tar.gz or -binary.tar.gz')
        names = {kind: cifar.read_names(f'{root}/meta', f'{kind}_label_names') for kind in ('fine', 'coarse')}
        train, test = (cifar.read_pickles(split, [f'{root}/{split}'], LABELS) for split in ('train', 'test'))
    cifar.check(root, options.complete, names['fine'], 100, train, test)
    groups = cifar.groups(root, train, names['fine'], names['coarse']) if options.labels == 'fine' else None
    key = f'{options.labels}_labels'
    return Source(names[options.labels], cifar.image_set(train, key), cifar.image_set(test, key), groups=groups)

"""Writes small copies of the published data sets in their official layouts, images and annotations.

``python -m tests.data.official FOLDER`` writes all of them, to look at.
"""
import io
import json
import pickle
import struct
import sys
import tarfile
from pathlib import Path

import cv2
import numpy as np
from scipy.io import loadmat, savemat

SIZE = (10, 8)  # width, height of every image


def image(path, seed=0, size=SIZE):
    """Write noise to ``path``, PNG content whatever its name, and return what a reader must see."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.png', pixels[:, :, ::-1])[1].tobytes())
    return pixels


def lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{row}\n' for row in rows), encoding='utf-8')


def cub(folder):
    """Three species; images 1 to 6, of which 1, 2 and 4 train. ``root/CUB_200_2011``."""
    root = folder / 'CUB_200_2011'
    classes = ('001.Black_footed_Albatross', '002.Laysan_Albatross', '003.Sooty_Albatross')
    owners, train = (1, 1, 2, 2, 3, 3), (1, 1, 0, 1, 0, 1)
    paths = [f'{classes[owner - 1]}/{classes[owner - 1][4:]}_{i:04d}.jpg' for i, owner in enumerate(owners, 1)]
    for i, path in enumerate(paths, 1):
        image(root / 'images' / path, i)
    lines(root / 'images.txt', *(f'{i} {path}' for i, path in enumerate(paths, 1)))
    lines(root / 'classes.txt', *(f'{i} {name}' for i, name in enumerate(classes, 1)))
    lines(root / 'image_class_labels.txt', *(f'{i} {owner}' for i, owner in enumerate(owners, 1)))
    lines(root / 'train_test_split.txt', *(f'{i} {flag}' for i, flag in enumerate(train, 1)))
    lines(root / 'bounding_boxes.txt', *(f'{i} {i}.0 2.0 3.0 4.0' for i in range(1, 7)))
    lines(folder / 'attributes.txt', '1 has_bill_shape::curved')
    return root


CARS = ('AM General Hummer SUV 2000', 'Acura RL Sedan 2012', 'Bentley Mulsanne Sedan 2011')


def _structures(rows, path_field):
    """A MATLAB structure array (1,N): corners x1 y1 x2 y2, class or None, name, and perhaps test."""
    fields = ['bbox_x1', 'bbox_y1', 'bbox_x2', 'bbox_y2', 'class', path_field, 'test']
    fields = [f for f, cell in zip(fields, rows[0]) if cell is not None]
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in fields])
    for i, row in enumerate(rows):
        array[0, i] = tuple(cell for cell in row if cell is not None)
    return array


def _cells(texts):
    array = np.empty((1, len(texts)), dtype=object)
    array[0, :] = texts
    return array


def loaded(path):
    """Return the variables of a MATLAB file as :func:`scipy.io.savemat` takes them back."""
    return {name: value for name, value in loadmat(path).items() if not name.startswith('__')}


def cars(folder, layout='beside'):
    """Three models, four training and three test images.

    :param layout: where cars_test_annos_withlabels.mat is: 'beside' devkit or 'inside' it; 'single' is the older
        cars_annos.mat over ``car_ims``; 'wrapped' has each folder in another of its name, as re-uploads do.
    """
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (1, 2, 3, 1), (2, 3, 1)
    corners = [(1, 2, 5, 7), (2, 1, 10, 8), (3, 3, 3, 3), (1, 1, 10, 8)]
    if layout == 'single':
        rows = [(*corners[i % 4], owner, f'car_ims/{i:06d}.jpg', int(i > len(train)))
                for i, owner in enumerate(train + test, 1)]
        for i in range(1, len(rows) + 1):
            image(folder / f'car_ims/{i:06d}.jpg', i)
        savemat(folder / 'cars_annos.mat', {'annotations': _structures(rows, 'relative_im_path'),
                                            'class_names': _cells(CARS)})
        return folder
    devkit = folder / 'devkit'
    devkit.mkdir()
    savemat(devkit / 'cars_meta.mat', {'class_names': _cells(CARS)})
    for split, owners, name in (('train', train, 'devkit/cars_train_annos.mat'),
                                ('test', test, f"{'devkit/' * (layout == 'inside')}cars_test_annos_withlabels.mat")):
        images = folder / f'cars_{split}' / f"{f'cars_{split}' if layout == 'wrapped' else ''}"
        rows = [(*corners[i % 4], owner, f'{i:05d}.jpg', None) for i, owner in enumerate(owners, 1)]
        for i in range(1, len(rows) + 1):
            image(images / f'{i:05d}.jpg', i + 100 * (split == 'test'))
        savemat(folder / name, {'annotations': _structures(rows, 'fname')})
    unlabelled = [(*corners[0], None, '00001.jpg', None)]
    savemat(devkit / 'cars_test_annos.mat', {'annotations': _structures(unlabelled, 'fname')})
    return folder


def dogs(folder):
    """Two breeds, three training and two test images; the second dog of an annotation is the larger one."""
    owners = {'train': (1, 2, 2), 'test': (1, 2)}
    breeds = ('n02085620-Chihuahua', 'n02099601-golden_retriever')
    for split, labels in owners.items():
        files = [f'{breeds[k - 1]}/{breeds[k - 1].split("-")[0]}_{split}{i}.jpg' for i, k in enumerate(labels)]
        cells, notes = np.empty((len(files), 1), object), np.empty((len(files), 1), object)
        for i, file in enumerate(files):
            image(folder / 'Images' / file, 10 * len(split) + i)
            cells[i, 0], notes[i, 0] = file, file[:-4]
            lines(folder / 'Annotation' / file[:-4], '<annotation><object><name>dog</name><bndbox><xmin>0</xmin>'
                  '<ymin>0</ymin><xmax>1</xmax><ymax>1</ymax></bndbox></object><object><bndbox><xmin>2</xmin>'
                  '<ymin>1</ymin><xmax>9</xmax><ymax>5</ymax></bndbox></object></annotation>')
        savemat(folder / f'{split}_list.mat', {'file_list': cells, 'annotation_list': notes,
                                               'labels': np.array(labels, float)[:, None]})
    return folder


def uec(folder):
    """Three dishes in eight photographs, 1 and 2 with two of them, 3 with rice twice; ``root/UECFOOD100``."""
    root = folder / 'UECFOOD100'
    boxes = {1: ['1 0 0 4 4', '2 1 1 5 5', '3 0 0 5 8', '3 5 0 10 8', '4 0 0 10 8', '4 0 0 10 8'],
             2: ['1 5 4 10 8', '5 0 0 6 6', '6 0 0 6 6'], 3: ['2 6 0 10 3', '7 1 1 9 7', '8 2 2 8 8']}
    for kind, rows in boxes.items():
        lines(root / str(kind) / 'bb_info.txt', 'img x1 y1 x2 y2', *rows)
        for row in rows:
            number = row.split()[0]
            image(root / str(kind) / f'{number}.jpg', int(number))
    lines(root / 'category.txt', 'id\tname', '1\trice', '2\teels on rice', '3\tmiso soup')
    return root


ADIENCE_HEADER = ('user_id\toriginal_image\tface_id\tage\tgender\tx\ty\tdx\tdy\ttilt_ang\tfiducial_yaw_angle\t'
                  'fiducial_score')


def adience(folder, kinds=('coarse', 'aligned')):
    """Two persons a fold with two faces each, and one face a fold whose labels are odd."""
    ages = ('(0, 2)', '(4, 6)', '(8, 12)', '(15, 20)', '(25, 32)', '(38, 43)', '(48, 53)', '(60, 100)')
    odd = (('(38, 42)', 'u'), ('35', ''), ('None', 'f'), ('(8, 23)', 'm'), ('29', 'f'))
    for fold in range(5):
        rows = []
        for person in (2 * fold, 2 * fold + 1):
            for shot in range(2):
                rows.append((f'{person}@N01', f'{shot}_o.jpg', 10 + person, ages[person % 8], 'fm'[person % 2]))
        rows.append((f'{2 * fold}@N01', '9_o.jpg', 99, *odd[fold]))
        for user, name, face, _, _ in rows:
            for kind in kinds:
                where, prefix = {'coarse': ('faces', 'coarse_tilt_aligned_face'),
                                 'aligned': ('aligned', 'landmark_aligned_face')}[kind]
                image(folder / where / user / f'{prefix}.{face}.{name}', face)
        text = ['\t'.join(map(str, (*row, 1, 2, 3, 4, -10, 0, 50))) for row in rows]
        lines(folder / f'fold_{fold}_data.txt', ADIENCE_HEADER, *text)
        lines(folder / f'fold_frontal_{fold}_data.txt', ADIENCE_HEADER, *text[::2])
    return folder


def inaturalist(folder, year=2018, hidden=True):
    """Four classes: two birds and a frog with 20 training and 2 validation images each, a toad with 10 and 2."""
    names = ('Cyanistes caeruleus', 'Parus major', 'Rana temporaria', 'Bufo bufo')
    groups = ('Aves', 'Aves', 'Amphibia', 'Amphibia')
    categories = [{'id': k, 'name': name, 'supercategory': groups[k]} for k, name in enumerate(names)]
    top = 'train_val2018' if year == 2018 else 'train_val_images'
    number = 0
    for split, counts in (('train', (20, 20, 20, 10)), ('val', (2, 2, 2, 2))):
        images, notes = [], []
        for k, count in enumerate(counts):
            for _ in range(count):
                number += 1
                name = f'{top}/{groups[k]}/{k if year == 2018 else names[k]}/{number:04d}.jpg'
                image(folder / name, number)
                images.append({'id': 1000 + number, 'file_name': name, 'width': 10, 'height': 8, 'license': 0,
                               'rights_holder': 'somebody'})
                notes.append({'id': number, 'image_id': 1000 + number, 'category_id': k})
        shown = [{**c, 'name': str(c['id'])} for c in categories] if hidden else categories
        (folder / f'{split}{year}.json').write_text(json.dumps(
            {'info': {'year': year}, 'images': images, 'categories': shown, 'annotations': notes[::-1],
             'licenses': []}))
    if hidden:
        (folder / 'categories.json').write_text(json.dumps(categories))
    return folder


# --- CIFAR -----------------------------------------------------------------------------------

class Python2Pickler(pickle._Pickler):
    """Writes protocol 2 as Python 2 did, in which texts and bytes are one kind, byte strings."""

    def save_text(self, text):
        data = text if isinstance(text, bytes) else text.encode('latin-1')
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data if len(data) < 256 else
                   pickle.BINSTRING + struct.pack('<i', len(data)) + data)
        self.memoize(text)

    dispatch = {**pickle._Pickler.dispatch, str: save_text, bytes: save_text}


def python2_pickle(path, content):
    stream = io.BytesIO()
    Python2Pickler(stream, 2).dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(stream.getvalue())


CIFAR10 = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def cifar_rows(count, seed, first=0):
    """Return pixels (count,3072) and labels: first, first + 1, …"""
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, list(range(first, first + count))


def cifar10(folder, kind='python'):
    """Five batches of two images and a test batch of three."""
    root = folder / {'python': 'cifar-10-batches-py', 'binary': 'cifar-10-batches-bin'}[kind]
    root.mkdir(parents=True, exist_ok=True)
    for k, name in enumerate([*(f'data_batch_{i}' for i in range(1, 6)), 'test_batch']):
        data, labels = cifar_rows(3, k) if name == 'test_batch' else cifar_rows(2, k, 2 * k)
        if kind == 'python':
            python2_pickle(root / name, {'batch_label': f'batch {k}', 'labels': labels, 'data': data,
                                         'filenames': [f'x_{i}.png' for i in labels]})
        else:
            (root / f'{name}.bin').write_bytes(np.insert(data, 0, labels, axis=1).tobytes())
    if kind == 'python':
        python2_pickle(root / 'batches.meta', {'num_cases_per_batch': 2, 'label_names': list(CIFAR10), 'num_vis': 3072})
    else:
        lines(root / 'batches.meta.txt', *CIFAR10, '')
    return root


def cifar100(folder, kind='python'):
    """Six fine classes in two super-classes, even and odd; six training and three test images."""
    root = folder / {'python': 'cifar-100-python', 'binary': 'cifar-100-binary'}[kind]
    root.mkdir(parents=True, exist_ok=True)
    fine, coarse = ['apple', 'aquarium_fish', 'pear', 'trout', 'orange', 'ray'], ['fruit', 'fish']
    for split, count in (('train', 6), ('test', 3)):
        data, labels = cifar_rows(count, count)
        parity = [label % 2 for label in labels]
        if kind == 'python':
            python2_pickle(root / split, {'filenames': ['a'] * count, 'batch_label': split, 'fine_labels': labels,
                                          'coarse_labels': parity, 'data': data})
        else:
            (root / f'{split}.bin').write_bytes(np.hstack([np.array([parity, labels], np.uint8).T, data]).tobytes())
    if kind == 'python':
        python2_pickle(root / 'meta', {'fine_label_names': fine, 'coarse_label_names': coarse})
    else:
        lines(root / 'fine_label_names.txt', *fine, '')
        lines(root / 'coarse_label_names.txt', *coarse, '')
    return root


def pack(folder, archive, *names):
    """Put ``names`` of ``folder`` into a tar archive and return its path."""
    with tarfile.open(archive, 'w:gz') as bundle:
        for name in names:
            bundle.add(folder / name, name)
    return archive


if __name__ == '__main__':
    target = Path(sys.argv[1])
    for write in (cub, cars, dogs, uec, adience, inaturalist, cifar10, cifar100):
        print(write(target / write.__name__))

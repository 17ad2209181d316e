"""Archives and annotations that are damaged or mean harm: one clear error, nothing written outside."""
import io
import json
import os
import random
import shutil
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.io import savemat

from gluon_fgvc import data
from gluon_fgvc.data.datasets import cub200
from gluon_fgvc.data.formats import archives, matlab
from gluon_fgvc.errors import DataError
from tests.data import official
from tests.data.test_published import config_of

QUIET = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)


# --- archives --------------------------------------------------------------------------------

def make_tar(path, *members, mode='w:gz'):
    """Write members: TarInfo or name, with content."""
    with tarfile.open(path, mode) as bundle:
        for member, content in members:
            if not isinstance(member, tarfile.TarInfo):
                member = tarfile.TarInfo(member)
            member.size = len(content)
            bundle.addfile(member, io.BytesIO(content))
    return path


def special(kind, name='x', target='/etc/passwd'):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


@pytest.mark.parametrize('mode, name', [('w', 'a.tar'), ('w:gz', 'a.tgz'), ('w:bz2', 'a.tar.bz2'),
                                        ('w:xz', 'a.tar.xz')])
def test_tar_of_each_kind(tmp_path, mode, name):
    archive = make_tar(tmp_path / name, ('a/b.txt', b'hello'), ('c/ünïcödé 🐦.txt', b''), mode=mode)
    assert archives.opened(str(archive)) == str(tmp_path / 'a')
    assert (tmp_path / 'a' / 'a' / 'b.txt').read_bytes() == b'hello'
    assert (tmp_path / 'a' / 'c' / 'ünïcödé 🐦.txt').exists()
    assert sorted(os.listdir(tmp_path)) == ['a', name]


@pytest.mark.parametrize('member', [
    '../x', 'a/../../x', '/x', 'a\\..\\..\\x', 'C:/x', special(tarfile.SYMTYPE), special(tarfile.LNKTYPE),
    special(tarfile.CHRTYPE), special(tarfile.FIFOTYPE), special(tarfile.GNUTYPE_SPARSE)],
    ids=['up', 'deep up', 'absolute', 'backslash', 'drive', 'link', 'hard link', 'device', 'pipe', 'sparse'])
def test_what_could_lead_out_of_a_tar_is_refused_and_nothing_stays(tmp_path, member):
    (tmp_path / 'in').mkdir()
    archive = make_tar(tmp_path / 'in' / 'a.tar', ('good.txt', b'x'), (member, b''), mode='w')
    with pytest.raises(DataError, match="a.tar' (is refused|cannot be unpacked)"):
        archives.extract(archive, tmp_path / 'in' / 'out')
    assert os.listdir(tmp_path / 'in') == ['a.tar'] and os.listdir(tmp_path) == ['in']


def test_a_link_and_then_a_file_through_it(tmp_path):
    (tmp_path / 'victim').mkdir()
    archive = make_tar(tmp_path / 'a.tgz', (special(tarfile.SYMTYPE, 'd', '../victim'), b''), ('d/x', b'harm'))
    with pytest.raises(DataError, match="'d' is neither file nor folder"):
        archives.extract(archive, tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == ['a.tgz', 'victim'] and not os.listdir(tmp_path / 'victim')


@pytest.mark.parametrize('make', ['tar', 'zip'])
def test_a_file_that_comes_twice(tmp_path, make):
    if make == 'tar':
        archive = make_tar(tmp_path / 'a.tgz', ('x', b'1'), ('x', b'2'))
    else:
        archive = tmp_path / 'a.zip'
        with zipfile.ZipFile(archive, 'w') as bundle, pytest.warns(UserWarning):
            bundle.writestr('x', '1')
            bundle.writestr('x', '2')
    with pytest.raises(DataError, match="x' comes twice"):
        archives.extract(archive, tmp_path / 'out')
    assert os.listdir(tmp_path) == [archive.name]


def test_bombs_of_bytes_and_of_files(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'MAX_BYTES', 10 ** 6)
    monkeypatch.setattr(archives, 'MAX_FILES', 50)
    bomb = make_tar(tmp_path / 'bytes.tgz', ('x', bytes(10 ** 5)), *((f'{i}', bytes(10 ** 6)) for i in range(3)))
    with pytest.raises(DataError, match='more than 50 or 1,000,000 are refused'):
        archives.extract(bomb, tmp_path / 'out')
    bomb = make_tar(tmp_path / 'files.tgz', *((f'{i}', b'') for i in range(51)))
    with pytest.raises(DataError, match='at least 51 files'):
        archives.extract(bomb, tmp_path / 'out')
    assert sorted(os.listdir(tmp_path)) == ['bytes.tgz', 'files.tgz']


def test_a_header_as_a_bomb(tmp_path):
    member = special(tarfile.XHDTYPE)
    archive = make_tar(tmp_path / 'a.tgz', (member, b'9' * (2 * 10 ** 6)))
    with pytest.raises(DataError, match='cannot be unpacked: a header of 2,000,000 bytes'):
        archives.extract(archive, tmp_path / 'out')


def test_large_archives_of_photographs_may_be_large(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, 'MAX_BYTES', 10)
    archive = make_tar(tmp_path / 'a.tar', ('x', bytes(10 ** 5)), mode='w')
    archives.extract(archive, tmp_path / 'out')
    assert (tmp_path / 'out' / 'x').stat().st_size == 10 ** 5


@pytest.fixture(scope='module')
def small_tar(tmp_path_factory):
    folder = tmp_path_factory.mktemp('tar')
    noise = random.Random(0).randbytes(3000)
    return make_tar(folder / 'a.tgz', ('a/b', noise), ('c', b'x' * 500)).read_bytes()


@given(st.integers(0, 10 ** 6), st.integers(0, 255), st.booleans())
@QUIET
def test_damaged_tars_unpack_or_leave_nothing(tmp_path, small_tar, position, value, cut):
    content = bytearray(small_tar)
    position %= len(content)
    content[position:position + 1] = b'' if cut else bytes([value])
    (tmp_path / 'a.tgz').write_bytes(content[:position] if cut else content)
    try:
        archives.extract(tmp_path / 'a.tgz', tmp_path / 'out')
        shutil.rmtree(tmp_path / 'out')
    except DataError as error:
        assert '\n' not in str(error)
    assert os.listdir(tmp_path) == ['a.tgz']


def test_roots_that_are_nothing(tmp_path):
    with pytest.raises(DataError, match="data.root '.*none' does not exist"):
        archives.opened(str(tmp_path / 'none'))
    (tmp_path / 'a.pdf').write_text('x')
    with pytest.raises(DataError, match='is neither a folder nor an archive'):
        archives.opened(str(tmp_path / 'a.pdf'))
    with pytest.raises(DataError, match="has no 'images.txt', nor do folders up to 2 below it; expected the contents"):
        cub200.read(cub200.Options(root=str(tmp_path)))


# --- text tables -----------------------------------------------------------------------------

def change(path, old, new):
    text = path.read_text(encoding='utf-8')
    assert old in text
    path.write_text(text.replace(old, new), encoding='utf-8')


CUB = {
    'wrong columns': ('images.txt', '2 001', '2001', 'images.txt, line 2: .* has 1 columns, expected 2: id path'),
    'no number': ('images.txt', '2 001', 'x 001', "images.txt, line 2: id 'x' is not a whole number"),
    'other digits': ('classes.txt', '2 002', '２ 002', 'classes.txt, line 2: id .* is not a whole number'),
    'id twice': ('images.txt', '2 001', '1 001', "images.txt, line 2: '1' is given twice"),
    'ids with a gap': ('classes.txt', '3 003', '5 003', 'its ids are not 1 to 3'),
    'id missing': ('train_test_split.txt', '2 1\n', '', r'do not have the same ids; only in one of them: 2'),
    'class out of range': ('image_class_labels.txt', '3 2', '3 9', r'images.txt, id 3: class 9 is not in 1..3'),
    'class 0': ('image_class_labels.txt', '3 2', '3 0', r'id 3: class 0 is not in 1..3'),
    'NaN': ('bounding_boxes.txt', '1 1.0', '1 nan', "bounding_boxes.txt, line 1: x 'nan' is not a finite number"),
    'infinite': ('bounding_boxes.txt', '1 1.0', '1 1e999', "x '1e999' is not a finite number"),
    'path up': ('images.txt', '1 001.Black_footed_Albatross', '1 ../../..', 'id 1: path .* leads out of'),
    'absolute path': ('images.txt', '1 001.Black_footed_Albatross', '1 /etc', 'id 1: path .* leads out of'),
    'no such image': ('images.txt', '_0002.jpg', '_0022.jpg', r"1 of 6 images are missing, the first: '.*_0022.jpg'"),
    'no text': ('classes.txt', '1', '\0', 'is not a text file in UTF-8'),
    'empty': ('images.txt', None, None, 'classes|ids|images'),
}


@pytest.mark.parametrize('case', CUB)
def test_tables_of_cub(tmp_path, case):
    root = official.cub(tmp_path)
    name, old, new, message = CUB[case]
    if old is None:
        (root / name).write_text('')
    else:
        change(root / name, old, new)
    with pytest.raises(DataError, match=message) as raised:
        cub200.read(cub200.Options(root=str(root), complete=False))
    assert '\n' not in str(raised.value)


def test_unicode_names_are_names(tmp_path):
    root = official.cub(tmp_path)
    os.rename(root / 'images' / '002.Laysan_Albatross', root / 'images' / '002.Läysan_信天翁 🐦')
    for name in ('images.txt', 'classes.txt'):
        change(root / name, '002.Laysan_Albatross', '002.Läysan_信天翁 🐦')
    source = cub200.read(cub200.Options(root=str(root), complete=False))
    assert source.classes[1] == 'Läysan 信天翁 🐦' and source.test.read(0).shape == (8, 10, 3)


@given(name=st.sampled_from(['images.txt', 'classes.txt', 'image_class_labels.txt', 'train_test_split.txt',
                             'bounding_boxes.txt']),
       junk=st.one_of(st.binary(max_size=60), st.text('0123456789 .-\n\t/naiextj', max_size=60).map(str.encode)))
@QUIET
def test_any_bytes_for_a_table_of_cub(tmp_path, name, junk):
    root = tmp_path / 'CUB_200_2011'
    if not root.exists():
        official.cub(tmp_path)
    before = (root / name).read_bytes()
    (root / name).write_bytes(junk)
    try:
        cub200.read(cub200.Options(root=str(root), complete=False))
    except DataError as error:
        assert '\n' not in str(error)
    finally:
        (root / name).write_bytes(before)


def reads(name, root, message, **options):
    with pytest.raises(DataError, match=message) as raised:
        data.build(config_of(name, root=str(root), **options))
    assert '\n' not in str(raised.value)


@pytest.mark.parametrize('file, old, new, message', [
    ('1/bb_info.txt', '3 5 0 10 8', '3 5 0 10', '1/bb_info.txt, line 5: .* has 4 columns, expected 5'),
    ('1/bb_info.txt', '3 5 0', '3 NaN 0', "x1 'NaN' is not a finite number"),
    ('1/bb_info.txt', '3 5 0', '../../3 5 0', 'leads out of'),
    ('2/bb_info.txt', '6 0 0', '60 0 0', "the first: '.*/2/60.jpg'"),
    ('category.txt', '3\tmiso', '2\tmiso', "category.txt, line 4: '2' is given twice")])
def test_tables_of_uec(tmp_path, file, old, new, message):
    root = official.uec(tmp_path)
    change(root / file, old, new)
    reads('uec_food100', root, message, complete=False)


@pytest.mark.parametrize('old, new, message', [
    ('user_id\t', 'user\t', "fold_1_data.txt, line 1: no column 'user_id'"),
    ('2@N01\t0_o.jpg\t', '2@N01\t', 'fold_1_data.txt, line 2: 11 columns, expected 12'),
    ('2@N01\t0_o.jpg', '2@N01\t', 'line 2: original_image is empty'),
    ('2@N01\t0_o.jpg', '2@N01\t/../../0_o.jpg', 'leads out of'),
    ('2@N01\t0_o.jpg', '0@N01\t0_o.jpg', "line 2: person '0@N01' is in fold 0 too"),
    ('2@N01\t0_o.jpg', '2@N01\t1_o.jpg', 'line 3: .* is listed before'),
    ('2@N01\t0_o.jpg', '2@N01\t7_o.jpg', r'1 of \d+ images are missing')])
def test_tables_of_adience(tmp_path, old, new, message):
    root = official.adience(tmp_path / 'a', kinds=('coarse',))
    change(root / 'fold_1_data.txt', old, new)
    reads('adience', root, message)


def test_a_missing_fold(tmp_path):
    root = official.adience(tmp_path / 'a', kinds=('coarse',))
    (root / 'fold_3_data.txt').unlink()
    reads('adience', root, "has no 'fold_3_data.txt'")


# --- JSON ------------------------------------------------------------------------------------

def edit(key, index, **values):
    return lambda loaded: loaded[key][index].update(values)


INATURALIST = {
    'no JSON': ('{', 'train2018.json. is not JSON'),
    'NaN': (edit('images', 0, width=float('nan')), 'NaN is not a number of JSON'),
    'a list': ('[]', "has no list 'images'|'categories'"),
    'deep': ('[' * 100000, 'is not JSON'),
    'no file name': (edit('images', 1, file_name=None), "image 2: 'file_name' is None, not a text"),
    'path up': (edit('images', 1, file_name='../../x.jpg'), 'image 2: path .* leads out of'),
    'image twice': (edit('images', 1, id=1001), 'image 2: id 1001 is given twice'),
    'annotated twice': (edit('annotations', 1, image_id=1070), 'annotation 2: image 1070 has an annotation already'),
    'no such image': (edit('annotations', 1, image_id=7), 'annotation 2: there is no image 7'),
    'no such category': (edit('annotations', 1, category_id=7), 'annotation 2: there is no category 7'),
    'a boolean': (edit('annotations', 1, category_id=True), "'category_id' is True, not a whole number"),
    'missing photograph': (edit('images', 1, file_name='train_val2018/Aves/0/9.jpg'), '1 of 70 images are missing'),
    'category twice': (edit('categories', 1, id=0), 'category 2: id 0 is given twice'),
    'long': (edit('images', 1, file_name=['x' * 10000]), "'file_name' is .{,70}, not a text"),
}


@pytest.mark.parametrize('case', INATURALIST)
def test_json_of_inaturalist(tmp_path, case):
    root = official.inaturalist(tmp_path / 'i', hidden=False)
    change_it, message = INATURALIST[case]
    if callable(change_it):
        loaded = json.loads((root / 'train2018.json').read_text())
        change_it(loaded)
        change_it = json.dumps(loaded)
    (root / 'train2018.json').write_text(change_it)
    reads('inaturalist', root, message, year=2018, complete=False)


# --- MATLAB ----------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def cars_root(tmp_path_factory):
    return official.cars(tmp_path_factory.mktemp('cars') / 'cars')


@pytest.fixture
def meta(cars_root):
    """devkit/cars_meta.mat, put back after the test."""
    path = cars_root / 'devkit' / 'cars_meta.mat'
    before = path.read_bytes()
    yield path
    path.write_bytes(before)


def test_matlab_files_of_another_kind(cars_root, meta):
    for content in (b'', b'hello, I am a web page', bytes(200), meta.read_bytes()[:-3], meta.read_bytes()[:128]):
        meta.write_bytes(content)
        reads('stanford_cars', cars_root, r"cars_meta.mat' (is not a MATLAB file of version 5 to 7, or damaged: \w)",
              complete=False)
    savemat(meta, {'other': 1})
    reads('stanford_cars', cars_root, "has no variable 'class_names'", complete=False)
    savemat(meta, {'class_names': np.array([1.5, 2])})
    reads('stanford_cars', cars_root, "element 1: '1.5' is not a text", complete=False)
    meta.unlink()
    reads('stanford_cars', cars_root, "has no 'cars_meta.mat'", complete=False)


def test_matlab_bombs(tmp_path, monkeypatch):
    path = tmp_path / 'a.mat'
    savemat(path, {'x': np.zeros(10 ** 6, np.uint8)}, do_compression=True)
    monkeypatch.setattr(matlab, 'MAX_UNPACKED', 10 ** 5)
    with pytest.raises(DataError, match='unpacks to more than 100,000 bytes'):
        matlab.load(path, 'x')
    monkeypatch.undo()
    # A cell array of 2^31 - 1 elements in a few bytes.
    flags, shape = struct.pack('<IIII', 6, 8, 1, 0), struct.pack('<IIii', 5, 8, 1, 2 ** 31 - 1)
    body = flags + shape + struct.pack('<II', 1, 1) + b'x' + bytes(7)
    element = struct.pack('<II', 14, len(body)) + body
    packed = zlib.compress(element)
    header = b'MATLAB 5.0 MAT-file'.ljust(124) + struct.pack('<H2s', 0x100, b'IM')
    for content in (header + element, header + struct.pack('<II', 15, len(packed)) + packed):
        path.write_bytes(content)
        with pytest.raises(DataError, match="a.mat' is not a MATLAB file .*another number of elements than it says"):
            matlab.load(path, 'x')


@given(st.integers(0, 10 ** 6), st.integers(1, 255))
@QUIET
def test_damaged_matlab_files(cars_root, meta, position, flip):
    content = bytearray(meta.read_bytes())
    content[128 + position % (len(content) - 128)] ^= flip
    (cars_root / 'damaged.mat').write_bytes(content)
    try:
        matlab.column('x', *matlab.load(cars_root / 'damaged.mat', 'class_names'), 'text')
    except DataError as error:
        assert '\n' not in str(error)


@pytest.mark.parametrize('field, value, message', [
    ('fname', '../../../etc/passwd', 'annotation 2: path .* leads out of'),
    ('fname', '00001.jpg', 'annotation 2: .* is listed before'),
    ('fname', 'none.jpg', '1 of 4 images are missing'),
    ('fname', 7, "element 2: '7' is not a text"),
    ('class', 4, 'annotation 2: class 4 is not in 1..3'),
    ('class', float('nan'), "element 2: 'nan' is not a whole number"),
    ('bbox_x1', float('inf'), "element 2: 'inf' is not a whole number")])
def test_annotations_of_cars(tmp_path, field, value, message):
    root = official.cars(tmp_path / 'cars')
    path = root / 'devkit' / 'cars_train_annos.mat'
    annotations = official.loaded(path)['annotations']
    annotations[field][0, 1] = value
    savemat(path, {'annotations': annotations})
    reads('stanford_cars', root, message, complete=False)


@pytest.mark.parametrize('xml, message', [
    ('', 'is not an annotation'), ('<annotation></annotation>', 'is not an annotation'),
    ('<!DOCTYPE a [<!ENTITY b "c">]><annotation>&b;</annotation>', 'has declarations'),
    ('<annotation><bndbox><xmin>nan</xmin></bndbox></annotation>', 'is not a finite number'),
    (None, 'cannot read annotation')])
def test_annotations_of_dogs(tmp_path, xml, message):
    root = official.dogs(tmp_path / 'dogs')
    path = sorted((root / 'Annotation').glob('*/*_train1'))[0]
    path.unlink()
    if xml is not None:
        path.write_text(xml)
    reads('stanford_dogs', root, message, complete=False, crop=True)

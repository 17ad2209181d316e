import os
import string
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gluon_fgvc import config, data
from gluon_fgvc.data import doctor
from gluon_fgvc.data.datasets import list_file
from gluon_fgvc.errors import DataError


@pytest.fixture
def read(tmp_path):
    """read(train_text, test_text, val=…, classes=…, suffix='.txt') → Source of these lists."""
    def make(train, test='t.jpg a\n', val=None, classes=None, suffix='.txt', **options):
        for name, text in (('train', train), ('test', test), ('val', val), ('classes', classes)):
            if text is not None:
                (tmp_path / (name + suffix)).write_bytes(text if isinstance(text, bytes) else text.encode())
                options['class_list' if name == 'classes' else f'{name}_list'] = str(tmp_path / (name + suffix))
        return list_file.read(list_file.Options(**options))
    return make


def names(images, folder):
    return [os.path.relpath(path, folder) for path in images.paths]


def test_words(read, tmp_path):
    source = read('x/1.jpg b\n\nmy photo.jpg   a\r\n', 't.jpg b')
    assert source.classes == ('a', 'b') and source.val is None
    assert names(source.train, tmp_path) == ['x/1.jpg', 'my photo.jpg'] and source.train.labels.tolist() == [1, 0]
    assert source.test.labels.tolist() == [1]


def test_comma_separated_with_quotes(read, tmp_path):
    source = read('"a, b.jpg",big dog\nc.jpg,cat\n', 't.jpg,cat', suffix='.csv')
    assert names(source.train, tmp_path) == ['a, b.jpg', 'c.jpg'] and source.classes == ('big dog', 'cat')


def test_tabs(read, tmp_path):
    source = read('a b.jpg\tbig dog\n', 't.jpg\tbig dog')
    assert names(source.train, tmp_path) == ['a b.jpg'] and source.classes == ('big dog',)


def test_header_orders_the_columns(read, tmp_path):
    source = read('\ufeffid,Label,Filename\n7,b,1.jpg\n8,a,2.jpg\n', 'path,label\n3.jpg,a\n', suffix='.csv')
    assert names(source.train, tmp_path) == ['1.jpg', '2.jpg'] and source.train.labels.tolist() == [1, 0]
    assert names(source.test, tmp_path) == ['3.jpg']


def test_whole_numbers_are_indices(read):
    source = read('1.jpg 0\n2.jpg 2\n3.jpg 1\n4.jpg 02\n', 't.jpg 2\n')
    assert source.classes == ('0', '1', '2') and source.train.labels.tolist() == [0, 2, 1, 2]


def test_one_name_makes_all_labels_names(read):
    assert read('1.jpg 0\n2.jpg 10\n3.jpg x\n4.jpg 9', 't.jpg 10').classes == ('0', '10', '9', 'x')


def test_class_list_names_indices_or_orders_names(read):
    source = read('1.jpg 1\n2.jpg 0', 't.jpg 1', classes='zebra\nant\n')
    assert source.classes == ('zebra', 'ant') and source.train.labels.tolist() == [1, 0]
    source = read('1.jpg ant\n2.jpg zebra', 't.jpg ant', classes='zebra\nant\n\n')
    assert source.classes == ('zebra', 'ant') and source.train.labels.tolist() == [1, 0]


def test_root_and_absolute_paths(read):
    source = read('1.jpg a\n/abs/2.jpg a', root='/photos')
    assert source.train.paths == ['/photos/1.jpg', '/abs/2.jpg']


def test_validation_list(read):
    assert read('1.jpg a\n', val='2.jpg a\n').val.name == 'val'


@pytest.mark.parametrize('train, options, message', [
    ('1.jpg a\n2.jpg\n', {}, r"train.txt, line 2: '2.jpg' has 1 columns, expected 2"),
    ('1.jpg,a,b\n', {'suffix': '.csv'}, 'train.csv, line 1: .* 3 columns, expected 2'),
    ('path,label,x\n1.jpg,a\n', {'suffix': '.csv'}, 'line 2: .* 2 columns, expected 3'),
    ('1.jpg,\n', {'suffix': '.csv'}, 'line 1: .* lacks a path or a label'),
    ('1.jpg a\n', {'test': '\n2.jpg b\n'}, "test.txt, line 2: label 'b' is none of the 1 classes"),
    ('1.jpg 0\n', {'test': '2.jpg 1\n'}, r"test.txt, line 1: label '1' is not in 0..0"),
    ('1.jpg 2\n', {'test': '2.jpg 0\n', 'classes': 'x\ny\n'}, r"train.txt, line 1: label '2' is not in 0..1"),
    ('1.jpg a\n./1.jpg b\n', {}, r"line 2: .* has label 'b' here, 'a' before \(.*train.txt, line 1\)"),
    ('1.jpg a\n', {'test': '1.jpg a\n'}, r"test.txt, line 1: .* is in split 'train' too \(.*train.txt, line 1\)"),
    ('', {}, 'names no images'),
    ('path label\n', {}, 'names no images'),
    (b'\xff\xfea', {}, 'not a text file in UTF-8'),
    (b'a\0.jpg b', {}, 'not a text file in UTF-8'),
    ('1.jpg a', {'classes': 'a\na\n'}, "classes.txt, line 2: class name 'a' is given twice"),
    ('1.jpg a', {'classes': 'a\n\nb\n'}, 'classes.txt, line 2: class name .* is empty'),
    ('1.jpg a', {'classes': '\n'}, 'is empty'),
])
def test_errors_name_file_and_line(read, train, options, message):
    with pytest.raises(DataError, match=message):
        read(train, **options)


def test_missing_list(tmp_path):
    with pytest.raises(DataError, match=r"cannot read '.*none.csv': No such file"):
        list_file.read(list_file.Options(train_list=str(tmp_path / 'none.csv'), test_list='x'))


NAME = st.text(string.ascii_letters + string.digits + ' _-"äß', min_size=1).map(str.strip).filter(bool)
TABLE = st.dictionaries(NAME.map(lambda name: name + '.jpg'), NAME.map(lambda name: 'c' + name), min_size=1)


@given(table=TABLE, style=st.sampled_from(['.csv', '.tsv']))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_written_is_read(read, tmp_path, table, style):
    def quoted(cell):
        return '"' + cell.replace('"', '""') + '"' if style == '.csv' else cell
    text = ''.join(f"{quoted(path)}{',' if style == '.csv' else chr(9)}{quoted(label)}\n"
                   for path, label in table.items())
    test = quoted('held out/t.jpg') + (',' if style == '.csv' else '\t') + quoted(min(table.values()))
    source = read(text, test, suffix=style)
    assert dict(zip(names(source.train, tmp_path), [source.classes[i] for i in source.train.labels])) == table


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_give_a_source_or_one_clear_error(read, junk):
    for suffix in ('.txt', '.csv'):
        try:
            read(junk, junk, suffix=suffix)
        except DataError as error:
            assert '\n' not in str(error)


@pytest.mark.parametrize('suffix, train, paths, labels', [
    ('.csv', 'image_id,label\na.jpg,0\nb.jpg,1\n', ['a.jpg', 'b.jpg'], [0, 1]),                   # Kaggle
    ('.csv', 'id,breed\n00c1,pug\n0b2a,beagle\n', ['00c1', '0b2a'], [1, 0]),
    ('.csv', 'a.jpg, 0\nb.jpg, 1\n', ['a.jpg', 'b.jpg'], [0, 1]),                                 # a blank behind
    ('.csv', 'a.jpg, "big, dog"\nb.jpg, "cat"\n', ['a.jpg', 'b.jpg'], [0, 1]),                    # quotes behind it
    ('.csv', 'path;label\na.jpg;0\nb.jpg;1\n', ['a.jpg', 'b.jpg'], [0, 1]),                      # Excel in Europe
    ('.csv', 'a.jpg,0,\nb.jpg,1,\n', ['a.jpg', 'b.jpg'], [0, 1]),                                 # commas at the end
    ('.csv', 'path,label,\na.jpg,0,\nb.jpg,1,\n', ['a.jpg', 'b.jpg'], [0, 1]),
    ('.csv', '0,a.jpg\n1,b.jpg\n', ['a.jpg', 'b.jpg'], [0, 1]),                                   # the label first
    ('.txt', '# path label\na.jpg 0\n# these later\nb.jpg 1\n', ['a.jpg', 'b.jpg'], [0, 1]),
    ('.txt', 'path,label\na.jpg,0\nb.jpg,1\n', ['a.jpg', 'b.jpg'], [0, 1]),
    ('.txt', '"my a.jpg" 0\n"my b.jpg" 1\n', ['my a.jpg', 'my b.jpg'], [0, 1]),
    ('.lst', '0\t0.000000\ta.jpg\n1\t1.000000\tb.jpg\n', ['a.jpg', 'b.jpg'], [0, 1]),           # im2rec --list
    ('.csv', 'a.jpg,0\nb.jpg,1.0\n', ['a.jpg', 'b.jpg'], [0, 1]),                                 # pandas
])
def test_lists_as_people_write_them(read, tmp_path, suffix, train, paths, labels):
    test = 'path,label\nt.jpg,' if suffix == '.csv' else 't.jpg '
    label = 'pug' if 'pug' in train else 'cat' if 'cat' in train else '0'
    source = read(train, test + label, suffix=suffix)
    assert names(source.train, tmp_path) == paths and source.train.labels.tolist() == labels


@pytest.mark.parametrize('train, options, message', [
    ('photo,kind\na.jpg,0\n', {'suffix': '.csv'}, "line 1: 'photo,kind' seems to name columns.* set data.path_column"),
    ('photo,label\n1,0\n', {'suffix': '.csv'}, "line 1: 'photo,label' seems to name columns"),
    ('a.jpg,0,1\nb.jpg,1,1\n', {'suffix': '.csv'}, 'line 1: .* 3 columns, expected 2 .* path,label,coarse'),
    ('a.jpg, 0, 1\nb.jpg, 1, 1\n', {}, 'line 1: .* 3 columns, expected 2'),
    ('a.jpg 0 1\n', {}, 'line 1: .* 3 columns, expected 2'),
    ('a.jpg 0\nb.jpg -1\n', {}, "line 2: label '-1' is no class index"),
    ('a.jpg 0\nb.jpg 1.5\n', {}, "line 2: label '1.5' is no class index"),
    ('a.jpg 0\nb.jpg nan\n', {}, "line 2: label 'nan' is no class index"),
    ('a.jpg 0\nb.jpg 523119000\n', {'test': 't.jpg 0'}, "line 2: label '523119000' as an index would make 523,119,001"),
    ('a.jpg 1\nb.jpg 2\n', {'test': 't.jpg 1'}, 'labels run from 1 to 2.*data.first_label: 1'),
    ('a;b.jpg,c;d\n', {'suffix': '.csv'}, "line 1: .* can be divided by ',' and by ';'"),
    ('a.jpg,x\n', {'suffix': '.csv', 'path_column': 'photo'}, "data.path_column 'photo' is none of the columns"),
    ('path,label,coarse\na.jpg,x,1\nb.jpg,x,2\n', {'suffix': '.csv', 'test': 'path,label,coarse\nt.jpg,x,1\n'},
     "line 3: class 'x' is in super-category '2' here, '1' before"),
])
def test_what_can_be_understood_in_several_ways_is_refused(read, train, options, message):
    with pytest.raises(DataError, match=message):
        read(train, **{'test': 'path,label\nt.jpg,a\n' if options.get('suffix') else 't.jpg 0\n', **options})


def test_keys_that_settle_it(read, tmp_path):
    text = 'photo,kind\na.jpg,1\nb.jpg,2\n'
    source = read(text, text.replace('a.', 'c.').replace('b.', 'd.'), suffix='.csv', path_column='Photo',
                  label_column='kind', first_label=1)
    assert names(source.train, tmp_path) == ['a.jpg', 'b.jpg'] and source.classes == ('1', '2')
    assert source.train.labels.tolist() == source.test.labels.tolist() == [0, 1]


def test_coarse_labels_become_super_categories(read):
    text = 'path,fine,coarse\na.jpg,pug,dog\nb.jpg,manx,cat\n'
    assert read(text, text.replace('a.', 'c.').replace('b.', 'd.'), suffix='.csv').groups == ('cat', 'dog')


def test_units_are_read_and_stay_together(read, monkeypatch):
    head, lines = 'image,species,bird\n', [f'{i}.jpg,{"ab"[i % 2]},ring{i // 4}\n' for i in range(24)]
    source = read(head + ''.join(lines[:16]), head + ''.join(lines[16:]), suffix='.csv', unit_column='Bird')
    assert source.train.units.tolist() == [f'ring{i // 4}' for i in range(16)]
    monkeypatch.setattr(data, '_dataset', lambda name: types.SimpleNamespace(read=lambda _: source))
    splits = [data.build(config.DataConfig('list_file', folds=3, fold=fold, val_fraction=0.25)) for fold in range(3)]
    for split in splits:
        parts = [set(images.units) for images in split.splits()]
        assert [len(part) for part in parts] == [3, 1, 2] and not parts[0] & parts[1] and not parts[0] & parts[2]
    assert len({path for split in splits for path in split.test.paths}) == 24


def test_lists_that_tear_units_apart_are_told(read, monkeypatch):
    head = 'image,species,bird\n'
    source = read(head + 'a.jpg,a,ring1\nb.jpg,b,ring2\nc.jpg,a,ring3\n',
                  head + 'd.jpg,a,ring3\ne.jpg,b,ring2\nf.jpg,b,ring4\n', suffix='.csv', unit_column='bird')
    monkeypatch.setattr(data, '_dataset', lambda name: types.SimpleNamespace(read=lambda _: source))
    note, = data.build(config.DataConfig('list_file', val_fraction=0)).notes
    assert note.startswith("2 units have images in several splits, such as 'ring2' in train and test: ")
    torn = [finding for finding in doctor.examine(source).findings if finding.kind == 'torn_unit']
    assert [[os.path.basename(file) for file in finding.files] for finding in torn] == [['b.jpg', 'e.jpg'],
                                                                                        ['c.jpg', 'd.jpg']]
    assert torn[1].detail == "unit 'ring3' has images in train and test"
    folded = data.build(config.DataConfig('list_file', folds=2, fold=0, val_fraction=0))
    assert not any('several splits' in note for note in folded.notes)


@pytest.mark.parametrize('train, message', [
    ('a.jpg,a\n', "line 1: data.unit_column 'bird' needs a first line that names the columns"),
    ('path,label\na.jpg,a\n', "data.unit_column 'bird' is none of the columns: path, label"),
    ('path,label,bird\na.jpg,a,\n', 'line 2: .* lacks what the image belongs to')])
def test_units_that_are_not_there(read, train, message):
    with pytest.raises(DataError, match=message):
        read(train, train, suffix='.csv', unit_column='bird')


def test_where_a_relative_list_is_looked_for_is_said():
    with pytest.raises(DataError, match=r"cannot read 'none.csv': .* from the folder you are in, '.*data.root"):
        list_file.read(list_file.Options(train_list='none.csv', test_list='none.csv'))


BOXES = 'path,label,x,y,width,height\na.png,0,2,1,3,4\na.png,1,5,1,3.5,4\n'


def test_boxes_come_along_and_can_be_cut_out(read, tmp_path, write_image, picture):
    write_image(tmp_path / 'a.png', 8, 10)
    test = BOXES.splitlines()[0] + '\nb.png,0,0,0,2,2\n'
    source = read(BOXES.replace('1,5', '0,5'), test, suffix='.csv')
    assert source.train.boxes.tolist() == [[2, 1, 3, 4], [5, 1, 3.5, 4]]
    source = read(BOXES, test, suffix='.csv', crop=True)  # two objects of one photograph may be of two classes
    assert source.train.labels.tolist() == [0, 1] and source.train.boxes is None
    assert (source.train.read(0) == picture(8, 10)[1:5, 2:5]).all()


@pytest.mark.parametrize('train, options, message', [
    (BOXES, {}, "line 3: .* has label '1' here, '0' before"),
    (BOXES + 'a.png,0,2,1,nan,4\n', {'crop': True}, "train.csv, line 4: width 'nan' is not a finite number"),
    (BOXES + 'a.png,1,2,1,3,4\n', {'crop': True}, "line 4: .* has label '1' here, '0' before"),
    (BOXES + 't.png,0,2,1,3,4\n', {'crop': True}, "line 2: .* is in split 'train' too"),
    ('path,label\na.png,0\n', {'crop': True}, 'line 2: data.crop needs columns x, y, width, height')])
def test_boxes_that_do_not_fit(read, train, options, message):
    with pytest.raises(DataError, match=message):
        read(train, 'path,label,x,y,width,height\nt.png,0,0,0,2,2\n', suffix='.csv', **options)

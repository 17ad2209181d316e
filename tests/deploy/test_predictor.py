import json
import os
import subprocess
import sys
import textwrap

import cv2
import mxnet as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gluon_fgvc import deploy
from gluon_fgvc.config import EvalView
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.deploy.predictor import ImageClassifier
from gluon_fgvc.deploy.symbol import check_graph
from gluon_fgvc.errors import CheckpointError, DataError
from tests.deploy.small import CLASSES, MEAN, STD, build_net, edit, export_net, write_pictures


@pytest.fixture(scope='module')
def net():
    return build_net()


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / 'pictures')


def expected(net, pixels):
    """Probabilities of (N,H,W,3), with normalisation and softmax in numpy, in double precision."""
    x = (pixels / 255 - np.array(MEAN)) / np.array(STD)
    scores = net(mx.nd.array(x.transpose(0, 3, 1, 2))).asnumpy().astype('float64')
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.mark.parametrize('bake_preprocessing', [False, True])
@pytest.mark.parametrize('bake_softmax', [False, True])
def test_probabilities_of_files(net, tmp_path, pictures, bake_preprocessing, bake_softmax):
    export_net(net, tmp_path / 'export', bake_preprocessing=bake_preprocessing, bake_softmax=bake_softmax)
    predictor = deploy.Predictor(tmp_path / 'export', batch_size=2)
    found = predictor.predict(pictures)
    pixels = np.stack([predictor.transform(cv2.imread(path)[:, :, ::-1], None) for path in pictures])
    assert pixels.shape == (5, 24, 20, 3)
    assert predictor.classes == CLASSES
    assert found.shape == (5, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found, expected(net, pixels), atol=1e-6)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_order_is_that_of_the_input_whatever_the_shapes(net, tmp_path):
    export_net(net, tmp_path / 'export', eval_view=EvalView(resize=24))
    predictor = deploy.Predictor(tmp_path / 'export', batch_size=2)
    rng = np.random.RandomState(0)
    images = [rng.randint(0, 256, (24, 24 + 4 * (i % 3), 3)).astype('uint8') for i in range(8)]
    together = predictor.predict(images)
    for image, row in zip(images, together):
        np.testing.assert_allclose(row, expected(net, image[np.newaxis])[0], atol=1e-6)
    assert np.ptp(together[:, 0]) > 1e-4  # the rows can be told apart


def test_nothing_in_nothing_out(net, tmp_path):
    export_net(net, tmp_path / 'export')
    assert deploy.Predictor(tmp_path / 'export').predict([]).shape == (0, 3)


@given(st.lists(st.integers(1, 6), max_size=40), st.integers(1, 5))
@settings(deadline=None, max_examples=60)
def test_batches_have_one_shape_and_memory_is_bounded(widths, batch_size):
    batches, drawn = [], 0

    class Counting(ImageClassifier):
        def predict_batch(self, images):
            batches.append(images.shape)
            return images[:, 0, 0, :2].astype('float32')

    def items():
        nonlocal drawn
        for i, width in enumerate(widths):
            drawn += 1
            assert drawn - sum(shape[0] for shape in batches) <= 4 * batch_size
            yield i, np.full((1, width, 3), i, 'uint8')

    found = dict(Counting('ab', None, None, batch_size=batch_size).stream(items()))
    assert found.keys() == set(range(len(widths)))
    assert all(row.tolist() == [i, i] for i, row in found.items())
    assert all(shape[0] <= batch_size for shape in batches)


def test_unusable_image_is_named(net, tmp_path):
    export_net(net, tmp_path / 'export', eval_view=EvalView(crop=20))
    predictor = deploy.Predictor(tmp_path / 'export')
    (tmp_path / 'empty.jpg').write_bytes(b'')
    cv2.imwrite(str(tmp_path / 'small.png'), np.zeros((10, 10, 3), 'uint8'))
    for name in ('empty.jpg', 'small.png', 'absent.png'):
        with pytest.raises(DataError, match=name):
            predictor.predict([tmp_path / name])


@pytest.mark.parametrize('image, why', [
    (np.zeros((24, 20, 3), 'float32'), r"cannot use image '\(array\)': an array of pixels is uint8 RGB \(H,W,3\), 0 to "
                                       r'255, not float32 \(24, 20, 3\)'),
    (np.zeros((24, 20), 'uint8'), r'not uint8 \(24, 20\)'),
    (np.zeros((24, 20, 4), 'uint8'), r'not uint8 \(24, 20, 4\)'),
    (np.zeros((3, 24, 20), 'uint8'), r'not uint8 \(3, 24, 20\)'),
    (np.zeros((0, 20, 3), 'uint8'), r'not uint8 \(0, 20, 3\)'),
    ([[0, 0, 0]], 'binary stream or an array uint8 RGB .* not of type list'),
    (None, 'not of type NoneType'),
])
def test_what_is_no_image_is_told_and_not_guessed_at(net, tmp_path, image, why):
    """Floats from 0 to 1 used to be taken for pixels, all of them nearly black."""
    export_net(net, tmp_path / 'export')
    predictor = deploy.Predictor(tmp_path / 'export')
    with pytest.raises(DataError, match=why):
        predictor.predict([image])
    if isinstance(image, np.ndarray):
        with pytest.raises(DataError, match=r'uint8 RGB \(N,H,W,3\)'):
            predictor.predict_batch(image[None])


def test_one_image_is_no_list_of_images(net, tmp_path, pictures):
    """A path used to be taken for the list of its letters, and an array for that of its rows."""
    export_net(net, tmp_path / 'export')
    predictor = deploy.Predictor(tmp_path / 'export')
    with open(pictures[0], 'rb') as stream:
        for one in (str(pictures[0]), os.fsencode(pictures[0]), stream, np.zeros((24, 20, 3), 'uint8')):
            for ask in (predictor.predict, predictor.top):
                with pytest.raises(DataError, match=r'give a list of images, be it of one: \[image\]'):
                    ask(one)
    with pytest.raises(DataError, match='not of type list'):
        predictor.predict_batch([np.zeros((24, 20, 3), 'uint8')])
    assert predictor.predict(np.zeros((2, 24, 20, 3), 'uint8')).shape == (2, 3)


def test_bytes_of_any_kind(net, tmp_path, pictures):
    export_net(net, tmp_path / 'export')
    predictor = deploy.Predictor(tmp_path / 'export')
    with open(pictures[0], 'rb') as stream:
        data = stream.read()
        stream.seek(0)
        rows = predictor.predict([pictures[0], data, bytearray(data), memoryview(data), stream])
    assert (rows == rows[0]).all()


def test_predicts_without_gluoncv(net, tmp_path, pictures):
    export_net(net, tmp_path / 'export')
    here = deploy.Predictor(tmp_path / 'export').predict(pictures)
    program = textwrap.dedent('''
        import sys
        for name in ('gluoncv', 'torch'):
            sys.modules[name] = None
        import json
        from gluon_fgvc.deploy import Predictor
        print(json.dumps(Predictor(sys.argv[1]).predict(sys.argv[2:]).tolist()))
        loaded = [name for name in sys.modules if name.startswith(('gluon_fgvc.methods', 'gluon_fgvc.backbones',
                                                                   'gluon_fgvc.engine', 'matplotlib'))]
        assert not loaded, loaded
    ''')
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', program, str(tmp_path / 'export'), *pictures],
                          capture_output=True, text=True, env={**os.environ, 'PYTHONPATH': os.getcwd()})
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), here, atol=1e-6)


# --- files that are not what they should be --------------------------------------------------

@pytest.fixture
def folder(net, tmp_path):
    export_net(net, tmp_path / 'export')
    return tmp_path / 'export'


@pytest.mark.parametrize('name', ['model-symbol.json', 'model-0000.params'])
@pytest.mark.parametrize('spoil', [
    lambda data: data[:len(data) // 2], lambda data: b'', lambda data: data + b' ',
    lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:]])
def test_altered_file(folder, name, spoil):
    (folder / name).write_bytes(spoil((folder / name).read_bytes()))
    with pytest.raises(CheckpointError, match=f'{name}.*sha256'):
        deploy.Predictor(folder)


@pytest.mark.parametrize('name', ['model-symbol.json', 'model-0000.params', 'model.json'])
def test_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        deploy.Predictor(folder)


def test_missing_folder(tmp_path):
    with pytest.raises(CheckpointError, match='absent.*not an exported model'):
        deploy.Predictor(tmp_path / 'absent')


@pytest.mark.parametrize('text, message', [
    ('', 'not JSON'), ('{"format": 1', 'not JSON'), ('\xff', 'not JSON'), ('[]', "'format' is missing"),
    ('{}', "'format' is missing"), ('{"format": 2}', 'format 2, this version reads 1'),
    ('{"format": 1}', 'incomplete'), ('{"format": 1, "classes": 3}', 'incomplete')])
def test_metadata_that_cannot_be_used(folder, text, message):
    (folder / 'model.json').write_bytes(text.encode('latin-1'))
    with pytest.raises(CheckpointError, match=message):
        deploy.Predictor(folder)


@pytest.mark.parametrize('change', [
    lambda m: m.pop('mean'), lambda m: m.update(std=[1, 1]), lambda m: m['input'].update(layout='HWCN'),
    lambda m: m.update(output='loss'), lambda m: m['files'].pop('model-symbol.json'), lambda m: m.update(resize={}),
    lambda m: m.update(resize={'resize': 'large', 'crop': None}), lambda m: m.update(mean=['a', 'b', 'c'])])
def test_metadata_of_the_wrong_kind(folder, change):
    edit(folder, change)
    with pytest.raises(CheckpointError, match='incomplete or altered'):
        deploy.Predictor(folder)


def test_a_model_of_an_earlier_version_is_read(folder, pictures):
    """Its output was called scores, and it said no more than it had to."""
    expected = deploy.Predictor(folder, engine='mxnet').predict(pictures)
    edit(folder, lambda m: m.update(output='scores'))
    edit(folder, lambda m: (m.pop('source'), m.pop('versions'), m.pop('proof')))
    path = folder / 'model.json'
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != 'sha256'}))
    with pytest.warns(UserWarning, match='carries no sha256 of itself'):
        model = deploy.Predictor(folder, engine='mxnet')
    assert model.metadata.output == 'logits'
    np.testing.assert_array_equal(model.predict(pictures), expected)


def test_what_was_written_is_read_back(folder):
    written = json.loads((folder / 'model.json').read_text())
    written.pop('sha256')
    assert json.loads(json.dumps(Metadata.read(folder).tree())) == written


@pytest.mark.parametrize('before, after', [
    ('0.485', '0.486'), ('0.229', '0.219'), ('hot dog', 'hot cat'), ('"crop": null', '"crop": 20'),
    ('logits', 'probabilities'), ('RGB, (', 'BGR, (')])
def test_a_changed_character_of_the_description_is_refused(folder, before, after):
    path = folder / 'model.json'
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))
    with pytest.raises(CheckpointError, match=r'model.json.* was altered: its sha256'):
        deploy.Predictor(folder)


def test_the_layout_of_the_description_does_not_count(folder, pictures):
    expected, path = deploy.Predictor(folder, engine='mxnet').predict(pictures), folder / 'model.json'
    path.write_text(json.dumps(json.loads(path.read_text()), indent=None, sort_keys=True))
    np.testing.assert_array_equal(deploy.Predictor(folder, engine='mxnet').predict(pictures), expected)


def test_number_of_classes_is_held_to_the_graph(folder):
    edit(folder, lambda m: m['classes'].append('a fourth'))
    with pytest.raises(CheckpointError, match=r'4 classes.*\(1, 3\)'):
        deploy.Predictor(folder)


# --- graphs ----------------------------------------------------------------------------------

def graph_of(net):
    symbol = net(mx.sym.var('data'))
    return json.loads(mx.sym.split(symbol, num_outputs=3, axis=1)[1].tojson())


def test_sound_graphs_pass(net):
    check_graph(json.dumps(graph_of(net)), 'here')
    data = mx.sym.var('data')
    scanned, _ = mx.sym.contrib.foreach(lambda x, s: (x + s, x + s), data, mx.sym.zeros((2,)))
    check_graph(mx.sym.Group([scanned, mx.sym.BatchNorm(data, output_mean_var=True)[2]]).tojson(), 'here')


@pytest.mark.parametrize('change', [
    lambda g: g['heads'][0].__setitem__(1, 3),            # split has outputs 0 to 2
    lambda g: g['heads'][0].__setitem__(1, 70000),
    lambda g: g['heads'][0].__setitem__(1, -1),
    lambda g: g['heads'][0].__setitem__(0, 1000),
    lambda g: g['heads'].clear(),
    lambda g: g['nodes'][-1]['inputs'][0].__setitem__(1, 1),
    lambda g: g['nodes'][-1]['inputs'][0].__setitem__(0, len(g['nodes']) - 1),  # a loop
    lambda g: g['nodes'][-1]['inputs'][0].__setitem__(0, True),
    lambda g: g['nodes'][-1]['inputs'].__setitem__(0, [0]),
    lambda g: g['nodes'][-1].update(op='null'),
    lambda g: g['nodes'][-1].update(op='NoSuchOperator'),
    lambda g: g['nodes'][-1]['attrs'].update(num_outputs='many'),
    lambda g: g['nodes'][-1].pop('name'),
    lambda g: g['nodes'].pop(0),
    lambda g: g['arg_nodes'].pop(),
    lambda g: g['arg_nodes'].append(10 ** 6),
    lambda g: g.pop('heads'),
    lambda g: g.update(nodes='none'),
    lambda g: g.update(nodes=[1, 2]),
])
def test_unsound_graphs_are_refused_before_mxnet_reads_them(net, change):
    graph = graph_of(net)
    change(graph)
    with pytest.raises(CheckpointError, match="'here' is not a valid MXNet graph"):
        check_graph(json.dumps(graph), 'here')


@pytest.mark.parametrize('text', ['', '{', '[]', 'null', '{"nodes": []}', '[' * 100000])
def test_text_that_is_no_graph(text):
    with pytest.raises(CheckpointError, match='not a valid MXNet graph'):
        check_graph(text, 'here')

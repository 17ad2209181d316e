"""A short training among clutter: the windows of a spatial transformer follow the glyphs, in x and in y."""
import argparse
import struct

import mxnet as mx
import numpy as np
import pytest
from mxnet import autograd, gluon, nd

from benchmarks import told_places, windows
from gluon_fgvc import runs
from gluon_fgvc.backbones import cluttered_cnn
from gluon_fgvc.data.datasets import cluttered_mnist
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.nn import SpatialTransformer
from gluon_fgvc.nn.attend_rectify import HE
from gluon_fgvc.runs.build import load_config

CONFIG = '''\
data: {{name: cluttered_mnist, root: {root}, images: [9600, 400, 10], distractors: 4, batch_size: 64, workers: 0}}
backbone: {{name: cluttered_cnn, weights: none}}
method: {{name: stn, mode: affine, zoom: 0.7, lr_mult: 1, transformer_lr_mult: 3}}
train: {{epochs: 1, optimizer: {{name: sgd, lr: 0.03, momentum: 0.9}}, schedule: {{name: constant, warmup: 0.2}}}}
run: {{contexts: [cpu0], log_every: 50}}
'''


def write_glyphs(folder):
    """Write IDX files of ten glyphs, strokes at random places, each in 40 slightly different versions."""
    rng = np.random.RandomState(0)
    folder.mkdir()
    glyphs = np.zeros((10, 28, 28))
    for glyph in glyphs:
        for _ in range(4):
            start, end = rng.uniform(5, 23, (2, 2))
            for share in np.linspace(0, 1, 40):
                row, column = (start + share * (end - start)).astype(int)
                glyph[row:row + 3, column:column + 3] = 230
    for name, count in (('train', 400), ('t10k', 100)):
        labels = np.arange(count) % 10
        images = (glyphs[labels] + rng.uniform(0, 25, (count, 28, 28)) * (glyphs[labels] > 0)).astype(np.uint8)
        (folder / f'{name}-images-idx3-ubyte').write_bytes(
            bytes((0, 0, 8, 3)) + struct.pack('>3I', count, 28, 28) + images.tobytes())
        (folder / f'{name}-labels-idx1-ubyte').write_bytes(
            bytes((0, 0, 8, 1)) + struct.pack('>I', count) + labels.astype(np.uint8).tobytes())


def options_of(*words):
    parser = argparse.ArgumentParser()
    windows.add_options(parser)
    return parser.parse_args(words)


@pytest.mark.slow
def test_windows_follow_the_glyphs(tmp_path, monkeypatch):
    monkeypatch.setattr(cluttered_cnn, 'CHANNELS', (16, 16, 32, 32, 32))
    monkeypatch.setattr(cluttered_cnn, 'HIDDEN', 64)
    write_glyphs(tmp_path / 'glyphs')
    (tmp_path / 'cfg.yaml').write_text(CONFIG.format(root=tmp_path / 'glyphs'))
    runs.train(load_config(tmp_path / 'cfg.yaml'), tmp_path / 'run', test=False)
    found = windows.measure(options_of('--run', str(tmp_path / 'run'), '--images', '400'))
    assert len(found.objects) == len(found.windows) == 400
    assert min(found.correlations()) > 0.5, found.table()
    assert np.abs(found.windows).max() <= 1 and 0.1 < found.scale <= 0.7
    assert found.seen.shape == (400, 64) and min(found.readable()) > 0.5


@pytest.mark.slow
def test_the_localisation_net_can_see_where_things_are(tmp_path):
    """Trained on the places themselves it is right: where windows follow worse, the classifier asks for no more."""
    write_glyphs(tmp_path / 'glyphs')
    train = cluttered_mnist.read(cluttered_mnist.Options(root=str(tmp_path / 'glyphs'), images=(8000, 400, 1),
                                                         distractors=8))
    def arrays(split, count):
        images = np.stack([split.read(i)[None, :, :, 0] for i in range(count)]).astype('float32') / 255
        return images, 2 * (split.boxes[np.arange(count)][:, :2] + 13.5) / 39 - 1
    mx.random.seed(0)
    net = SpatialTransformer('location', None, 0.5, in_channels=1)
    net.initialize(HE)
    net.hybridize()
    trainer = gluon.Trainer(net.collect_params(), 'sgd', {'learning_rate': 0.3, 'momentum': 0.9})
    images, places = arrays(train.train, 8000)
    for start in range(0, 8000, 64):
        with autograd.record():
            centres = net(nd.array(images[start:start + 64]))[1][:, :, 2]
            loss = ((centres - nd.array(places[start:start + 64])) ** 2).sum(axis=1)
        loss.backward()
        trainer.step(len(loss))
    images, places = arrays(train.val, 400)
    centres = net(nd.array(images))[1][:, :, 2].asnumpy()
    assert min(np.corrcoef(centres[:, axis], places[:, axis])[0, 1] for axis in (0, 1)) > 0.85


def test_what_the_benchmark_says():
    objects = np.random.RandomState(0).uniform(-0.3, 0.3, (50, 2))
    following = windows.Windows({}, 0.5 * objects + 0.1, objects, 0.7, objects @ [[1, 2, 0], [0, 1, 1]])
    assert following.kept() and following.correlations() == pytest.approx([1, 1])
    assert following.readable() == pytest.approx([1, 1], abs=1e-3)
    still = windows.Windows({}, objects * [1, 0], objects, 0.7, objects * [1, 0])
    assert still.correlations() == pytest.approx([1, 0]) and not still.kept() and 'missed' in still.table()[-1]
    assert still.record()['correlation'] == {'x': pytest.approx(1), 'y': 0}
    assert still.record()['readable']['x'] == pytest.approx(1) and abs(still.record()['readable']['y']) < 0.5


def test_runs_of_other_methods_have_no_window(monkeypatch):
    class Run:
        class cfg:
            class method:
                name = 'warn'
    monkeypatch.setattr(windows, 'open_run', lambda folder: Run)
    with pytest.raises(ConfigError, match="is a run of 'warn'; a window have those of stn and cra_cnn"):
        windows.measure(options_of('--run', 'there'))


def test_what_a_network_gains_that_is_told_places(tmp_path):
    write_glyphs(tmp_path / 'glyphs')
    parser = argparse.ArgumentParser()
    told_places.add_options(parser)
    found = told_places.measure(parser.parse_args(
        f"--root {tmp_path / 'glyphs'} --images 1280 200 --weights 0 0.3 --seeds 0 --epochs 2".split()))
    plain, told = found.rows[0], found.rows[0.3]
    assert plain[0]['correlation'] == 0 and told[0]['correlation'] > 0.2
    assert plain[0]['top1'] > 0.15 and plain != told  # a tenth is chance


def test_the_table_of_told_places_by_hand():
    def runs(*values):
        return [{'top1': value, 'correlation': 0.5} for value in values]
    table = told_places.Told({}, {0.0: runs(0.9, 0.91, 0.92), 1.0: runs(0.91, 0.93, 0.92)}).table()
    assert table[2] == '| 0 | 91.00 ± 1.00 |  |  | +0.50 |'
    # Differences 1, 2, 0: sd 1, and t(0.975, 2) = 4.303 times 1 / sqrt(3).
    assert table[3] == '| 1 | 92.00 ± 1.00 | +1.00 ± 1.00 | -1.48 to +3.48 | +0.50 |'
    assert told_places.Told({}, {0.0: runs(0.9), 1.0: runs(0.91)}).table()[3] == '| 1 | 91.00 | +1.00 |  | +0.50 |'

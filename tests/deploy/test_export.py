import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import HybridBlock, nn

from gluon_fgvc import deploy
from gluon_fgvc.config import EvalView
from gluon_fgvc.deploy.metadata import signature_of
from gluon_fgvc.errors import CheckFailed, CheckpointError
from tests.deploy.small import CLASSES, MEAN, STD, build_net, export_net

ROOT = Path(__file__).parents[2]


@pytest.fixture
def net():
    return build_net()


def normalised(pixels):
    """The normalisation written out once more, channel by channel."""
    pixels = pixels.astype('float64') / 255
    return mx.nd.array(np.stack([(pixels[..., c] - MEAN[c]) / STD[c] for c in range(3)], axis=1))


def probabilities_of(net, pixels):
    scores = net(normalised(pixels)).asnumpy().astype('float64')
    return np.exp(scores) / np.exp(scores).sum(1, keepdims=True)


@pytest.fixture
def pixels():
    return np.random.RandomState(0).randint(0, 256, (3, 24, 20, 3)).astype('uint8')


@pytest.mark.parametrize('hybridized', [False, True])
def test_exported_graph_is_bitwise_the_network(net, tmp_path, pixels, hybridized):
    if hybridized:
        net.hybridize(static_alloc=True, static_shape=True)
    report = export_net(net, tmp_path / 'export', images=pixels)
    assert report.difference == report.random_difference == report.image_difference == 0
    assert report.images == 3
    block = mx.gluon.SymbolBlock.imports(str(tmp_path / 'export/model-symbol.json'), ['data'],
                                         str(tmp_path / 'export/model-0000.params'))
    x = normalised(pixels)
    np.testing.assert_array_equal(block(x).asnumpy(), net(x).asnumpy())
    assert sorted(os.listdir(tmp_path / 'export')) == ['model-0000.params', 'model-symbol.json', 'model.json',
                                                       'predictor.py']
    assert os.listdir(tmp_path) == ['export']


@pytest.mark.parametrize('dtype', ['uint8', 'float32'])
@pytest.mark.parametrize('softmax', [False, True])
def test_baked_graph_takes_pixels(net, tmp_path, pixels, dtype, softmax):
    export_net(net, tmp_path / 'export', bake_preprocessing=True, bake_softmax=softmax)
    metadata, block = deploy.load_exported(tmp_path / 'export')
    output = block(mx.nd.array(pixels, dtype=dtype))
    if not softmax:
        output = mx.nd.softmax(output)
    assert metadata.output == ('probabilities' if softmax else 'logits')
    assert metadata.takes_pixels and metadata.tree()['input']['shape'] == [None, None, None, 3]
    np.testing.assert_allclose(output.asnumpy(), probabilities_of(net, pixels), atol=1e-6)


def test_module_api_reads_the_files(net, tmp_path, pixels):
    export_net(net, tmp_path / 'export')
    symbol, arguments, auxiliary = mx.model.load_checkpoint(str(tmp_path / 'export' / 'model'), 0)
    module = mx.mod.Module(symbol, data_names=['data'], label_names=None)
    module.bind([('data', (3, 3, 24, 20))], for_training=False)
    module.set_params(arguments, auxiliary)
    x = normalised(pixels)
    module.forward(mx.io.DataBatch([x]))
    # Module fuses convolution and BatchNorm, which rounds differently.
    np.testing.assert_allclose(module.get_outputs()[0].asnumpy(), net(x).asnumpy(), atol=1e-5)


def test_metadata(net, tmp_path):
    report = export_net(net, tmp_path / 'export')
    metadata = json.loads((tmp_path / 'export/model.json').read_text())
    assert metadata.pop('sha256') == signature_of(metadata)
    assert 'area averaging' in metadata['resize'].pop('rule')
    versions = metadata.pop('versions')
    assert versions['mxnet'] == mx.__version__ and set(versions) == {'gluon_fgvc', 'mxnet', 'numpy'}
    pixels = np.random.RandomState(0).randint(0, 256, (2, 24, 20, 3))
    np.testing.assert_allclose(metadata.pop('proof'), net(normalised(pixels)).asnumpy(), rtol=1e-5)
    files = metadata.pop('files')
    assert files == report.files
    for name, entry in files.items():
        assert entry['bytes'] == os.path.getsize(tmp_path / 'export' / name)
    assert metadata == {
        'format': 1, 'classes': list(CLASSES), 'mean': list(MEAN), 'std': list(STD),
        'input': {'name': 'data', 'layout': 'NCHW', 'shape': [None, 3, None, None], 'exported_at': [1, 3, 24, 20],
                  'flexible': True, 'dtype': ['float32'], 'values': 'RGB, (pixel / 255 - mean) / std'},
        'resize': {'resize': [24, 20], 'crop': None}, 'output': 'logits', 'calibration': None, 'method': 'finetune',
        'source': {'run': '20240102-030405', 'epoch': 7}}


def test_parameters_carry_structural_names(net, tmp_path):
    export_net(net, tmp_path / 'export', bake_preprocessing=True)
    saved = mx.nd.load(str(tmp_path / 'export/model-0000.params'))
    assert sorted(saved) == [
        'arg:body.0.bias', 'arg:body.0.weight', 'arg:body.1.beta', 'arg:body.1.gamma', 'arg:classifier.bias',
        'arg:classifier.weight', 'arg:normalize.scale', 'arg:normalize.shift', 'aux:body.1.running_mean',
        'aux:body.1.running_var']
    np.testing.assert_array_equal(saved['arg:classifier.weight'].asnumpy(), net.classifier.weight.data().asnumpy())


def test_same_network_same_bytes(net, tmp_path):
    first = export_net(net, tmp_path / 'first', bake_preprocessing=True, bake_softmax=True)
    second = export_net(net, tmp_path / 'second', bake_preprocessing=True, bake_softmax=True)
    assert first.files == second.files


def test_fixed_size_is_found_out(tmp_path):
    net = build_net(pool=nn.AvgPool2D(4))
    export_net(net, tmp_path / 'export')
    metadata, _ = deploy.load_exported(tmp_path / 'export')
    assert metadata.flexible is False
    assert metadata.tree()['input']['shape'] == [None, 3, 24, 20]


class OtherWhenTraced(HybridBlock):
    """Computes something else as a graph than as called: a defect that an export has to notice."""

    def __init__(self, net, offset):
        super().__init__()
        self.net, self.offset = net, offset

    def hybrid_forward(self, F, images):
        scores = self.net(images)
        return scores if F is mx.nd else scores + self.offset


@pytest.mark.parametrize('offset, measure', [(3e-3, '0.003'), (float('nan'), 'inf')])
def test_failed_parity_names_the_measure_and_keeps_what_was_there(net, tmp_path, pixels, offset, measure):
    export_net(net, tmp_path / 'export')
    before = {f.name: f.read_bytes() for f in (tmp_path / 'export').iterdir()}
    with pytest.raises(CheckFailed, match=f'by {measure}.*allowed is 1e-05') as caught:
        export_net(OtherWhenTraced(net, offset), tmp_path / 'export', images=pixels, overwrite=True)
    assert caught.value.exit_code == 3
    assert {f.name: f.read_bytes() for f in (tmp_path / 'export').iterdir()} == before
    assert os.listdir(tmp_path) == ['export']


def test_constant_offset_is_no_difference_in_probabilities(net, tmp_path):
    report = export_net(OtherWhenTraced(net, 3e-3), tmp_path / 'export', bake_softmax=True)
    assert report.difference < 1e-6


def test_existing_export_is_kept_unless_asked(net, tmp_path):
    export_net(net, tmp_path / 'export')
    (tmp_path / 'export' / 'notes.txt').write_text('mine')
    with pytest.raises(CheckpointError, match='--overwrite'):
        export_net(net, tmp_path / 'export', bake_softmax=True)
    assert deploy.load_exported(tmp_path / 'export')[0].output == 'logits'
    export_net(net, tmp_path / 'export', bake_softmax=True, overwrite=True)
    assert deploy.load_exported(tmp_path / 'export')[0].output == 'probabilities'
    assert (tmp_path / 'export' / 'notes.txt').read_text() == 'mine'


def test_full_disk(net, tmp_path, monkeypatch):
    save = mx.nd.save

    def save_half(path, values):  # what MXNet 1.9.1 does on a full disk, without an error
        save(path, values)
        os.truncate(path, os.path.getsize(path) // 2)

    monkeypatch.setattr(mx.nd, 'save', save_half)
    with pytest.raises(CheckpointError, match='does not read back .* MiB free'):
        export_net(net, tmp_path / 'export')
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize('limit', [100, 2_000])  # bytes of a file
def test_writing_that_the_machine_refuses(tmp_path, limit):
    """In a process of its own, which may write no larger files, as on a full disk: one line and nothing left."""
    export_net(build_net(), tmp_path / 'export')
    before = {path.name: path.read_bytes() for path in (tmp_path / 'export').iterdir()}
    code = textwrap.dedent(f'''
        import resource, sys
        from gluon_fgvc.commands import cli
        from tests.deploy.small import build_net, export_net
        net = build_net()
        def main(argv):
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))
            export_net(net, {str(tmp_path / 'export')!r}, bake_softmax=True, overwrite=True)
        sys.exit(cli.run(main))
    ''')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=ROOT,
                          env={**os.environ, 'PYTHONPATH': str(ROOT)})
    assert done.returncode == 1 and 'Traceback' not in done.stderr
    assert re.fullmatch(r"error: cannot export to '.*export': it cannot be written or .*MiB free.*\n", done.stderr)
    assert os.listdir(tmp_path) == ['export']
    assert {path.name: path.read_bytes() for path in (tmp_path / 'export').iterdir()} == before


class Ending(HybridBlock):
    def __init__(self, net, end):
        super().__init__()
        self.net, self.end = net, end

    def hybrid_forward(self, F, images):
        return self.end(F, self.net(images))


@pytest.mark.parametrize('end, named', [
    (lambda F, scores: F.Dropout(scores, p=0.5, mode='always'), 'Dropout'),
    (lambda F, scores: scores + F.random.normal_like(scores), '_random_normal_like'),
    (lambda F, scores: F.shuffle(scores), '_shuffle'),
    (lambda F, scores: F.Custom(scores, op_type='test_export_identity'), 'Custom'),
])
def test_random_and_python_operators_are_refused(net, tmp_path, end, named):
    with pytest.raises(CheckFailed, match=f'operator {named} '):
        export_net(Ending(net, end), tmp_path / 'export')
    assert os.listdir(tmp_path) == []


@mx.operator.register('test_export_identity')
class _IdentityProp(mx.operator.CustomOpProp):
    def __init__(self):
        super().__init__(need_top_grad=True)

    def create_operator(self, ctx, shapes, dtypes):
        class Identity(mx.operator.CustomOp):
            def forward(self, is_train, req, in_data, out_data, aux):
                self.assign(out_data[0], req[0], in_data[0])
        return Identity()


def test_wrong_number_of_classes(net, tmp_path):
    with pytest.raises(CheckFailed, match=r'returns \(1, 3\).*expected \(1, 2\)'):
        export_net(net, tmp_path / 'export', classes=('a', 'b'))


def test_view_without_crop_survives(net, tmp_path):
    export_net(net, tmp_path / 'export', eval_view=EvalView(resize=30, crop=None))
    images = [np.full((60, 90, 3), 200, 'uint8'), np.full((90, 60, 3), 100, 'uint8')]
    predictor = deploy.Predictor(tmp_path / 'export')
    assert [predictor.transform(image).shape for image in images] == [(30, 45, 3), (45, 30, 3)]

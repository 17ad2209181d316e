"""Torch weights in and out, as a user types it; their values are checked in tests/backbones/test_torch_parity.py."""
import numpy as np
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.backbones import loading
from gluon_fgvc.commands import cli, import_weights
from gluon_fgvc.weights import dump_safetensors, load
from tests.backbones.test_torch_parity import draw
from tests.weights.test_torch_state import Call, Global, legacy

NAME = 'mobilenetv2_0.25'


@pytest.fixture(scope='module')
def arrays():
    """What torchvision's MobileNetV2 of a quarter width would have, with ten classes."""
    backbone = backbones.get(NAME)
    arrays = draw(backbone, next(naming for naming in backbone.namings if naming.kind == 'torchvision'))
    return {**arrays, 'features.0.1.num_batches_tracked': np.array(7)}


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Call the tool in a folder of its own; return (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        code = cli.run(import_weights.main, [str(word) for word in words])
        return (code, *capsys.readouterr())
    return call


def write(path, arrays):
    path.write_bytes(dump_safetensors(arrays))


def parameters(backbone):
    return {name: parameter.data().asnumpy() for name, parameter in backbone.naming().parameters.items()}


def test_in_and_out_again(call, tmp_path, arrays):
    write(tmp_path / 'torch.safetensors', arrays)
    code, out, err = call('torch.safetensors', '--backbone', NAME, '--out', 'gluon.params')
    assert (code, err) == (0, '')
    # 52 convolutions, 52 BatchNorms of four, weight and bias of the classifier
    assert out.splitlines()[:5] == [f'torch.safetensors for {NAME}, names of torchvision:', '   262 matched',
                                    '     0 missing', '     0 unexpected',
                                    '     1 unused by design: num_batches_tracked']
    assert 'wrote gluon.params' in out
    backbone, direct = (backbones.get(NAME, weights=file) for file in ('gluon.params', 'torch.safetensors'))
    for name, value in parameters(backbone).items():
        np.testing.assert_array_equal(value, parameters(direct)[name])
    np.testing.assert_array_equal(backbone.source_classifier[0], arrays['classifier.1.weight'])
    np.testing.assert_array_equal(backbone.source_classifier[1], arrays['classifier.1.bias'])

    code, out, err = call('gluon.params', '--backbone', NAME, '--to', 'safetensors', '--out', 'back.safetensors')
    assert (code, err) == (0, '') and 'names of an imported file' in out and 'names of torchvision\n' in out
    back = load('back.safetensors')
    assert back.keys() == arrays.keys() - {'features.0.1.num_batches_tracked'}
    for name, array in back.items():
        np.testing.assert_array_equal(array, arrays[name])


def test_the_names_that_are_written_can_be_chosen(call, tmp_path, arrays):
    write(tmp_path / 'torch.safetensors', arrays)
    command = ('torch.safetensors', '--backbone', NAME, '--to', 'safetensors', '--naming', 'timm', '--out', 'timm')
    assert call(*command)[0] == 0
    np.testing.assert_array_equal(load('timm')['blocks.0.0.conv_dw.weight'], arrays['features.1.conv.0.0.weight'])


def test_a_thousand_classes_are_imagenets(call, tmp_path, arrays):
    write(tmp_path / 'torch.safetensors', {**arrays, 'classifier.1.weight': np.ones((1000, 1280), 'float32'),
                                           'classifier.1.bias': np.zeros(1000, 'float32')})
    assert call('torch.safetensors', '--backbone', NAME, '--out', 'gluon.params')[0] == 0
    assert backbones.get(NAME, weights='gluon.params').source_classifier[2][934] == 'hotdog'


LAST = 'features.18.0.weight'


def test_a_partial_file_needs_permission(call, tmp_path, arrays):
    partial = {name: array for name, array in arrays.items() if name != LAST}
    partial['features.18.1.weight'] = np.ones(7, 'float32')
    partial['extra.weight'] = np.ones((2, 3), 'float32')
    write(tmp_path / 'partial.safetensors', partial)
    command = ('partial.safetensors', '--backbone', NAME, '--out', 'gluon.params')
    code, out, err = call(*command)
    assert code == 1 and err.count('\n') == 1 and '1 missing' in err and not (tmp_path / 'gluon.params').exists()
    for line in (f'- {LAST} (1280, 80, 1, 1)', '- features.18.1.weight (1280,)', '+ features.18.1.weight (7,)',
                 '+ extra.weight (2, 3)', '   260 matched', '     1 other shape'):
        assert line in out.splitlines()

    code, out, err = call(*command, '--allow-partial')
    assert (code, err) == (0, '')
    first = parameters(backbones.get(NAME, weights='gluon.params'))
    np.testing.assert_array_equal(first['stem.0.weight'], arrays['features.0.0.weight'])
    assert call(*command, '--allow-partial', '--overwrite')[0] == 0  # the random rest is the same again
    for name, value in parameters(backbones.get(NAME, weights='gluon.params')).items():
        np.testing.assert_array_equal(value, first[name])


def test_nothing_in_common_is_not_partial(call, tmp_path):
    write(tmp_path / 'x.safetensors', {'a': np.ones(1, 'float32')})
    code, _, err = call('x.safetensors', '--backbone', NAME, '--out', 'x.params', '--allow-partial')
    assert code == 1 and '0 parameters matched' in err


def test_what_vgg_does_not_use_is_named(call, tmp_path):
    backbone = backbones.get('vgg11')
    arrays = draw(backbone, next(naming for naming in backbone.namings if naming.kind == 'torchvision'))
    for layer in (0, 3, 6):
        arrays[f'classifier.{layer}.weight'] = np.ones((4, 4), 'float32')
    write(tmp_path / 'vgg.safetensors', arrays)
    code, out, _ = call('vgg.safetensors', '--backbone', 'vgg11', '--out', 'vgg.params')
    assert code == 0 and '     3 unused by design: classifier.*' in out.splitlines()


def test_what_exists_is_not_replaced(call, tmp_path, arrays):
    write(tmp_path / 'torch.safetensors', arrays)
    (tmp_path / 'mine').write_text('precious')
    command = ('torch.safetensors', '--backbone', NAME, '--out', 'mine')
    code, out, err = call(*command)
    assert (code, out) == (2, '') and "'mine' exists; name another, or add --overwrite" in err
    assert (tmp_path / 'mine').read_text() == 'precious'
    assert call(*command, '--overwrite')[0] == 0 and load('mine')


@pytest.mark.parametrize('words, says', [
    (('x', '--out', 'y'), '--backbone is missing'),
    (('x', '--backbone', 'resnet5', '--out', 'y'), "unknown backbone 'resnet5'"),
    (('x', '--backbone', 'resnet50_v2', '--naming', 'timm', '--out', 'y'),
     "'resnet50_v2' has no names of timm (it has: none of torch)"),
    (('x', '--backbone', 'efficientnet_lite0', '--naming', 'torchvision', '--out', 'y'),
     '(it has: timm, efficientnet_lite_pytorch)'),
    (('x', '--backbone', NAME, '--naming', 'keras', '--out', 'y'), 'keras'),
])
def test_wrong_use(call, words, says):
    code, _, err = call(*words)
    assert code == 2 and says in err and err.count('\n') == 1


def test_a_network_that_torch_does_not_have(call, tmp_path):
    backbones.get('squeezenet1.1').save_parameters(str(tmp_path / 'x.params'))
    code, _, err = call('x.params', '--backbone', 'squeezenet1.1', '--to', 'safetensors', '--out', 'y')
    assert code == 2 and "neither torchvision nor timm has a network like backbone 'squeezenet1.1'" in err


def test_a_hostile_file_is_refused_by_name(call, tmp_path):
    (tmp_path / 'x.pth').write_bytes(legacy({'a': Call(Global('os', 'system'), 'touch executed')}))
    code, _, err = call('x.pth', '--backbone', NAME, '--out', 'y')
    assert code == 1 and "'os.system'" in err and err.count('\n') == 1
    assert {path.name for path in tmp_path.iterdir()} == {'x.pth'}


@pytest.mark.parametrize('dotted', [False, True])
def test_names_of_densenets_before_and_after(dotted):
    backbone = backbones.get('densenet121')
    kind = "torchvision's published DenseNets" if dotted else 'torchvision and timm'
    naming = next(naming for naming in backbone.namings if naming.kind == kind)
    name = f'features.denseblock1.denselayer1.norm{"." if dotted else ""}1.weight'
    assert name in naming.parameters and 'features.norm0.weight' in naming.parameters
    assert len(naming.parameters) == 604  # 606 of torchvision's names without the classifier's two
    arrays = {name: np.ones(parameter.shape, 'float32') for name, parameter in naming.parameters.items()}
    assert max(backbone.namings, key=lambda naming: loading._explained(naming, arrays.keys())) is naming

"""Networks imported from torchvision and timm compute what torch computes.

``files/torch_parity.npz`` was computed by ``files/make_torch_parity.py`` (torch 2.13, torchvision 0.28, timm 1.0.31)
with weights drawn from the names of the parameters; here they are drawn again and go through the importer's own path.
"""
import os
import subprocess

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import backbones
from gluon_fgvc.backbones import loading
from gluon_fgvc.commands import import_weights
from tests.backbones.files import make_torch_parity as torch_side

FILES = os.path.dirname(torch_side.__file__)
QUICK = ('resnet18_v1b', 'resnet50_v1d', 'vgg11_bn', 'mobilenetv2_1.0', 'mobilenetv2_1.0 timm', 'densenet121',
         'inceptionv3', 'efficientnet_lite0', 'efficientnet_lite1')
NETS = [pytest.param(net, marks=() if net in QUICK else pytest.mark.slow) for net in torch_side.NETS]


def draw(backbone, naming):
    """Return the weights of the torch net: dict of torch's name → numpy array."""
    shapes = {name: parameter.shape for name, parameter in naming.parameters.items()}
    if naming.classifier[0]:
        shapes.update(zip(naming.classifier, ((torch_side.CLASSES, backbone.pool_units), (torch_side.CLASSES,))))
    return {name: torch_side.draw(name, shape) for name, shape in shapes.items()}


def outputs(backbone, net):
    """Return what ``files/make_torch_parity.py`` computes: dict of 'map' and, if there is a classifier, 'logits'."""
    last = backbone(mx.nd.array(torch_side.images(torch_side.NETS[net][2])))
    results = {'map': last.asnumpy()}
    if backbone.source_classifier:
        weight, bias, classes = backbone.source_classifier
        assert classes is None  # ten classes are not ImageNet's
        results['logits'] = backbone.pool(last).asnumpy() @ weight.T + bias
    return results


def check_equal(found, expected):
    assert np.isfinite(found).all() and found.std() > 0
    assert np.abs(found - expected).max() <= 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize('net', NETS)
def test_drawn_weights_give_what_torch_computed(net):
    golden = np.load(os.path.join(FILES, 'torch_parity.npz'))
    backbone = backbones.get(net.split()[0])
    library = torch_side.NETS[net][0]
    naming = next(naming for naming in backbone.namings if library in naming.kind)
    arrays = draw(backbone, naming)
    fit = loading.compare(arrays, naming, backbone)
    assert fit.whole and len(fit.matched) == len(arrays)
    loading.put(backbone, arrays, fit, 'drawn')
    found = outputs(backbone, net)
    check_equal(found['map'].ravel()[::7][:2048], golden[f'{net} map'])
    if not net.startswith('vgg'):
        check_equal(found['logits'], golden[f'{net} logits'])


# --- with torch itself -------------------------------------------------------------------------

@pytest.mark.slow
@pytest.mark.parametrize('net', torch_side.NETS)
def test_files_go_from_torch_to_gluon_and_back(net, tmp_path, capsys):
    python = os.environ.get('GLUON_FGVC_TORCH_PYTHON')
    if not python:
        pytest.skip('GLUON_FGVC_TORCH_PYTHON names no Python with torch, torchvision and timm')
    name, library = net.split()[0], torch_side.NETS[net][0]

    def torch(*arguments):
        subprocess.run([python, torch_side.__file__, *arguments], check=True)

    torch(net, str(tmp_path))
    expected = np.load(tmp_path / 'outputs.npz')
    values = []
    for suffix in ('pth', 'safetensors'):
        out = str(tmp_path / f'{suffix}.params')
        import_weights.main([str(tmp_path / f'weights.{suffix}'), '--backbone', name, '--out', out])
        assert '   0 missing' in capsys.readouterr().out
        backbone = backbones.get(name, weights=out)
        found = outputs(backbone, net)
        assert ('logits' in found) == ('logits' in expected)
        for key, value in found.items():
            check_equal(value, expected[key])
        values.append({key: parameter.data().asnumpy() for key, parameter in backbone.naming().parameters.items()})
    for key, value in values[0].items():
        np.testing.assert_array_equal(value, values[1][key])

    back = str(tmp_path / 'back.safetensors')
    import_weights.main([out, '--backbone', name, '--to', 'safetensors', '--naming', library, '--out', back])
    torch('--check', net, back, str(tmp_path / 'outputs.npz'))

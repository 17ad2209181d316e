"""Plain networks leave for torch: the printed lines load what fgvc import-weights --to safetensors wrote."""
import os
import subprocess

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import methods, runs
from gluon_fgvc.backbones import convert, get
from gluon_fgvc.commands import cli, import_weights, train
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.weights import load
from tests import small_run

TORCH = 'GLUON_FGVC_TORCH_PYTHON'  # names a Python with torch, torchvision, timm and safetensors


def trained(folder, backbone, method):
    """Train a small run ``run`` in ``folder`` and return it.

    In tiny steps: three larger ones from scratch leave a network that makes a twentieth of its scores of rounding.
    """
    small_run.write(folder)
    text = small_run.CONFIG.replace('mobilenetv2_0.25', backbone)
    text = text.replace('{name: finetune, lr_mult: 1, dropout: 0.3}', method)
    (folder / 'cfg.yaml').write_text(text)
    assert cli.run(train.main, ['--cfg', 'cfg.yaml', '--work-dir', 'run', 'train.optimizer.lr=1e-6']) == 0
    return runs.open_run('run')


def convert_run(capsys, *words):
    code = cli.run(import_weights.main, ['run', '--to', 'safetensors', '--out', 'net.safetensors', *words])
    return code, capsys.readouterr()


def logits_in_torch(lines, images, folder):
    """Return what the printed lines make of ``images`` in torch, or skip."""
    python = os.environ.get(TORCH)
    if not python:
        pytest.skip(f'{TORCH} names no Python with torch, torchvision, timm and safetensors')
    np.save(folder / 'images.npy', images)
    program = ('\n'.join(lines) + '\nimport numpy, torch\nwith torch.no_grad():\n'
               "    numpy.save('logits.npy', net(torch.from_numpy(numpy.load('images.npy'))).numpy())\n")
    done = subprocess.run([python, '-c', program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.load(folder / 'logits.npy')


METHODS = [('mobilenetv2_1.0', '{name: finetune, lr_mult: 1}', 'auto', 'torchvision.models.mobilenet_v2(num_classes=2'),
           ('mobilenetv2_1.0', '{name: finetune, lr_mult: 1}', 'timm', "timm.create_model('mobilenetv2_100', "),
           ('resnet50_v1d', '{name: finetune, lr_mult: 1}', 'auto', "timm.create_model('resnet50d', num_classes=2)"),
           ('densenet121', '{name: finetune, lr_mult: 1}', 'auto', 'torchvision.models.densenet121(num_classes=2)'),
           ('resnet18_v1b', '{name: attention_scaled}', 'auto', 'torchvision.models.resnet18(num_classes=2)'),
           ('efficientnet_lite0', '{name: cra_cnn, size: 32, rhythm_start: 1, rhythm: 1}', 'auto',
            "timm.create_model('tf_efficientnet_lite0', num_classes=2)")]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize('backbone, method, naming, builder', METHODS)
def test_a_run_in_torch_gives_its_logits(tmp_path, monkeypatch, capsys, backbone, method, naming, builder):
    monkeypatch.chdir(tmp_path)
    opened = trained(tmp_path, backbone, method)
    capsys.readouterr()
    code, printed = convert_run(capsys, '--naming', naming)
    assert code == 0, printed.err
    lines = printed.out.splitlines()[-3:]
    assert builder in lines[1] and lines[2] == "net.load_state_dict(safetensors.torch.load_file('net.safetensors'))"
    images = np.random.RandomState(0).normal(size=(2, 3, 64, 64)).astype('float32')
    expected = opened.method.net(mx.nd.array(images)).asnumpy()
    assert expected.std() > 1e-3
    found = logits_in_torch(lines, images, tmp_path)
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    print(f'{backbone} {method}: logits differ by {difference:.2g} of the largest')
    assert difference <= 1e-4


@pytest.mark.parametrize('name', ['finetune', 'cra_cnn', 'attention_scaled'])
def test_what_is_deployed_is_what_leaves(tmp_path, name):
    """Read back, the file gives the logits of the method's network, attention multiplied into the filters."""
    mx.random.seed(0)
    method = methods.create(name, get('resnet18_v1b'), 3, **({'size': 16} if name == 'cra_cnn' else {}))
    images = mx.nd.random.normal(shape=(2, 3, 64, 64))
    method.net(images)
    for path, parameter in method.net._collect_params_with_prefix().items():
        if path.endswith('attention'):
            parameter.set_data(mx.nd.random.uniform(0.5, 1.5, parameter.shape))
    content, kind = convert.to_safetensors(convert.plain_backbone(method.deployed(), 'it'))
    assert kind == 'torchvision and timm'
    path = tmp_path / 'net.safetensors'
    path.write_bytes(content)
    assert not any('attention' in key or key.startswith('body') for key in load(path))
    back = get('resnet18_v1b', weights=str(path))
    weight, bias, _ = back.source_classifier
    found = back.pool(back(images)).asnumpy() @ weight.T + bias
    np.testing.assert_allclose(found, method.net(images).asnumpy(), rtol=1e-5, atol=1e-5 * np.abs(found).max())


def test_the_command_on_a_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    opened = trained(tmp_path, 'mobilenetv2_1.0', '{name: finetune, lr_mult: 1}')
    code, printed = convert_run(capsys)
    assert code == 0
    assert "run 'run' of method 'finetune' on mobilenetv2_1.0, 2 classes; images are RGB, " in printed.out
    assert printed.out.endswith("""
import safetensors.torch, torchvision
net = torchvision.models.mobilenet_v2(num_classes=2).eval()
net.load_state_dict(safetensors.torch.load_file('net.safetensors'))
""")
    np.testing.assert_array_equal(load('net.safetensors')['classifier.1.weight'],
                                  opened.method.net.classifier.weight.data().asnumpy())


@pytest.mark.parametrize('method, backbone, options, says', [
    ('warn', 'mobilenetv2_0.25', {}, 'has layers besides backbone and classifier'),
    ('finetune', 'mobilenetv2_0.25', {'global_pool': 'isqrt_cov_128'}, 'has backbone.global_pool isqrt_cov_128'),
    ('finetune', 'resnet18_v1b', {'output_stride': 16}, 'has backbone.output_stride 16'),
    ('finetune', 'vgg11', {}, 'neither torchvision nor timm builds vgg11'),
    ('finetune', 'mobilenetv2_0.5', {}, 'neither torchvision nor timm builds mobilenetv2_0.5')])
def test_what_torch_has_not_is_refused(method, backbone, options, says):
    net = methods.create(method, get(backbone, **options), 3).deployed()
    with pytest.raises(ConfigError, match=says) as caught:
        convert.plain_backbone(net, 'it')
    assert 'fgvc export --format onnx' in str(caught.value)

"""Engines compute the same or are not used; the choice is measured, kept, and said; one file does all of it alone."""
import io
import json
import os
import subprocess
import sys

import mxnet as mx
import numpy as np
import pytest
from mxnet.gluon import nn

from gluon_fgvc import backbones, deploy, methods
from gluon_fgvc.deploy import choice, single_file
from gluon_fgvc.deploy.activation import NoActivation
from gluon_fgvc.deploy.engines import normalized, proof_images
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import hash_of_file
from gluon_fgvc.nn import Normalize, class_activation
from tests.deploy.small import CLASSES, MEAN, STD, build_net, edit, export_net, write_pictures


@pytest.fixture(scope='module')
def net():
    return build_net()


@pytest.fixture
def folder(net, tmp_path):
    export_net(net, tmp_path / 'export')
    return tmp_path / 'export'


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(choice, 'WORTH_KEEPING', 0)
    return tmp_path / 'cache/gluon_fgvc/engines'


@pytest.fixture
def pictures(tmp_path):
    return write_pictures(tmp_path / 'pictures')


def write_onnx(folder, net, wrong=0.0, maps=False):
    """Write the small network as model.onnx, node by node, and name it in model.json."""
    onnx = pytest.importorskip('onnx')
    pytest.importorskip('onnxruntime')
    from onnx import TensorProto, helper, numpy_helper
    weights = {name: p.data().asnumpy() for name, p in net._collect_params_with_prefix().items()}
    names = ('body.0.weight', 'body.0.bias', 'body.1.gamma', 'body.1.beta', 'body.1.running_mean',
             'body.1.running_var', 'classifier.weight', 'classifier.bias')
    assert set(names) == set(weights)
    weights['classifier.bias'] = weights['classifier.bias'] + wrong
    nodes = [helper.make_node('Conv', ['data', *names[:2]], ['conv'], strides=[2, 2]),
             helper.make_node('BatchNormalization', ['conv', *names[2:6]], ['norm'], epsilon=1e-5),
             helper.make_node('Relu', ['norm'], ['map']), helper.make_node('GlobalAveragePool', ['map'], ['pool']),
             helper.make_node('Flatten', ['pool'], ['flat']),
             helper.make_node('Gemm', ['flat', *names[6:]], ['scores'], transB=1)]
    outputs = [helper.make_tensor_value_info('scores', TensorProto.FLOAT, ['n', 3])]
    if maps:
        nodes.append(helper.make_node('ReduceMean', ['map'], ['gate'], axes=[1], keepdims=0))
        outputs.append(helper.make_tensor_value_info('gate', TensorProto.FLOAT, ['n', 'h', 'w']))
    graph = helper.make_graph(nodes, 'net', [helper.make_tensor_value_info('data', TensorProto.FLOAT,
                                                                           ['n', 3, 'h', 'w'])], outputs,
                              [numpy_helper.from_array(weights[name], name) for name in names])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid('', 17)], ir_version=8)
    onnx.save(model, str(folder / 'model.onnx'))
    digest = hash_of_file(folder / 'model.onnx')
    edit(folder, lambda m: m['files'].update({'model.onnx': {'sha256': digest, 'bytes': 1}}))


def test_pixels_are_normalised_as_in_training():
    class Settings:
        mean, std = MEAN, STD
    pixels = proof_images((5, 7))
    expected = Normalize(MEAN, STD)(mx.nd.array(pixels, dtype='uint8')).asnumpy()
    found = normalized(pixels, Settings)
    assert found.dtype == np.float32 and found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-7)


def test_every_engine_gives_the_same_probabilities(folder, net, pictures):
    write_onnx(folder, net)
    models = {name: deploy.Predictor(folder, engine=name) for name in ('mxnet', 'mxnet_fused', 'onnxruntime')}
    assert all(model.engine == name for name, model in models.items())
    expected = models['mxnet'].predict(pictures)
    for model in models.values():
        np.testing.assert_allclose(model.predict(pictures), expected, atol=1e-5)


def test_the_fastest_is_taken_and_kept(folder, net, cache, monkeypatch):
    write_onnx(folder, net)
    monkeypatch.setattr(choice, '_seconds', lambda engine, pixels: {'onnxruntime': 1e-3}.get(engine.name, 5e-3))
    model = deploy.Predictor(folder)
    assert model.engine == 'onnxruntime'
    assert model.why == 'onnxruntime took 1 ms for 8 images, mxnet 5, mxnet_fused 5'
    assert len(list(cache.iterdir())) == 1
    monkeypatch.setattr(choice, 'measure', None)  # it would fail
    assert deploy.Predictor(folder).why == model.why + ' (measured before)'


def test_what_is_kept_is_for_this_model_and_number_of_threads(folder, net, cache, monkeypatch):
    assert deploy.Predictor(folder).why.count('measured before') == 0
    monkeypatch.setenv('OMP_NUM_THREADS', '7')
    assert 'before' not in deploy.Predictor(folder).why
    monkeypatch.undo()
    file = next(cache.iterdir())
    for text in ('', '[]', '{"engine": "none", "why": ""}', '{"engine": "mxnet"}'):
        file.write_text(text)
        assert choice._recall(str(file), ['mxnet']) is None


def test_a_measurement_is_short_for_a_slow_network(monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(choice.time, 'perf_counter', lambda: clock[0])

    def slow(pixels):
        clock[0] += 0.3 * len(pixels)

    found, count = choice.measure({'a': slow, 'b': slow}, (8, 8))
    assert count == 1 and found == {'a': pytest.approx(300), 'b': pytest.approx(300)}
    assert clock[0] < 4.5  # two pairs, one each to prepare, and rounds up to two seconds


@pytest.mark.parametrize('wrong', [0.05, float('nan')])
def test_an_engine_that_computes_something_else_is_not_used(folder, net, wrong):
    write_onnx(folder, net, wrong)
    with pytest.warns(UserWarning, match='engine onnxruntime is not used: its outputs would be off by'):
        model = deploy.Predictor(folder)
    assert model.engine != 'onnxruntime' and 'not onnxruntime: its outputs' in model.why
    with pytest.raises(CheckpointError, match='engine onnxruntime cannot be used: its outputs would be off'):
        deploy.Predictor(folder, engine='onnxruntime')


def test_an_export_without_proof_is_compared_with_the_plain_graph(folder, net):
    write_onnx(folder, net, 0.05)
    edit(folder, lambda m: m.pop('proof'))
    with pytest.warns(UserWarning, match='onnxruntime is not used'):
        deploy.Predictor(folder)


def test_engines_and_onnx_files_that_cannot_be(folder, net):
    with pytest.raises(ConfigError, match="unknown engine 'onnx' .*onnxruntime"):
        deploy.Predictor(folder, engine='onnx')
    write_onnx(folder, net)
    (folder / 'model.onnx').write_bytes((folder / 'model.onnx').read_bytes() + b' ')
    for engine in ('auto', 'onnxruntime'):
        with pytest.raises(CheckpointError, match='model.onnx.*sha256'):
            deploy.Predictor(folder, engine=engine)


def test_inputs_and_threads(folder, pictures):
    model = deploy.Predictor(folder, engine='mxnet', batch_size=2)
    expected = model.predict(pictures)
    streams = [open(path, 'rb') for path in pictures]
    texts = [open(path, 'rb').read() for path in pictures]
    for inputs in (streams, texts, map(io.BytesIO, texts), [model.load(path) for path in pictures]):
        np.testing.assert_array_equal(model.predict(inputs), expected)
    many = deploy.Predictor(folder, engine='mxnet', batch_size=2, threads=3)
    np.testing.assert_array_equal(many.predict(pictures * 4), np.tile(expected, (4, 1)))
    best = model.top(pictures, 2)[0]
    assert [name for name, _ in best] == [CLASSES[i] for i in np.argsort(-expected[0])[:2]]
    for stream in streams:
        stream.close()


def test_a_certificate_of_another_processor_is_a_warning(folder):
    (folder / 'certificate.json').write_text('{"isa": "a processor of old"}')
    with pytest.warns(UserWarning, match='certificate.json was measured with a processor of old, this processor has'):
        deploy.Predictor(folder, engine='mxnet')


# --- maps ------------------------------------------------------------------------------------

@pytest.mark.parametrize('bake', [False, True])
def test_class_activation_of_an_export_is_that_of_the_network(tmp_path, bake):
    backbone = backbones.get('resnet18_v1')
    backbone.initialize(force_reinit=True)
    net = methods.create('finetune', backbone, 3).net
    export_net(net, tmp_path / 'export', input_size=(64, 48), bake_preprocessing=bake, bake_softmax=bake)
    pixels = proof_images((64, 48))
    expected = class_activation(net, Normalize(MEAN, STD)(mx.nd.array(pixels, dtype='uint8'))).asnumpy()
    found = deploy.Predictor(tmp_path / 'export', engine='mxnet').maps(pixels)
    assert list(found) == ['class activation'] and found['class activation'].shape == (2, 2, 2)
    np.testing.assert_allclose(found['class activation'], np.maximum(expected, 0), rtol=1e-4, atol=1e-6)
    assert (expected > 0).any()


@pytest.mark.parametrize('pool, reason', [
    (nn.GlobalMaxPool2D(), 'does not average a map'),
    (nn.HybridLambda(lambda F, x: F.Pooling(F.BilinearSampler(x, F.tanh(x.slice_axis(axis=1, begin=0, end=2))),
                                            global_pool=True, pool_type='avg', kernel=(1, 1))), 'resampled'),
    (nn.HybridLambda(lambda F, x: F.Pooling(x, global_pool=True, pool_type='avg', kernel=(1, 1))
                     + x.max(axis=(2, 3), keepdims=True)), None)])
def test_a_graph_that_does_not_tell_where_it_looks_says_so(tmp_path, pool, reason):
    export_net(build_net(pool=pool), tmp_path / 'export')
    model = deploy.Predictor(tmp_path / 'export', engine='mxnet')
    if reason is None:  # both come from the same map
        assert model.maps(proof_images((24, 20)))['class activation'].shape[0] == 2
        return
    with pytest.raises(NoActivation, match=reason):
        model.maps(proof_images((24, 20)))


def test_maps_of_an_onnx_graph_are_its_own(folder, net):
    write_onnx(folder, net, maps=True)
    found = deploy.Predictor(folder, engine='onnxruntime').maps(proof_images((24, 20)))
    assert list(found) == ['gate'] and found['gate'].shape == (2, 11, 9)


# --- one file --------------------------------------------------------------------------------

ALONE = '''
import json, sys
for name in sys.argv[2].split():
    sys.modules[name] = None
sys.path.insert(0, sys.argv[1])
from predictor import Predictor, find_images
model = Predictor(sys.argv[1], engine=sys.argv[3])
print(json.dumps([model.engine, model.predict(find_images(sys.argv[4:])).tolist()]))
'''


@pytest.mark.parametrize('engine, absent', [('auto', 'gluon_fgvc onnxruntime gluoncv cv2'),
                                            ('onnxruntime', 'gluon_fgvc mxnet gluoncv'),
                                            ('onnxruntime', 'gluon_fgvc mxnet gluoncv cv2'),
                                            ('onnxruntime', 'gluon_fgvc mxnet gluoncv PIL')])
def test_the_file_works_alone(folder, net, pictures, tmp_path, engine, absent):
    write_onnx(folder, net)
    if engine == 'onnxruntime':  # all that a folder needs then
        for name in ('model-symbol.json', 'model-0000.params'):
            (folder / name).rename(tmp_path / name)
    expected = export_and_predict(net, tmp_path / 'whole', pictures)
    done = subprocess.run([sys.executable, '-W', 'ignore', '-c', ALONE, str(folder), absent, engine,
                           os.path.dirname(pictures[0])], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, 'PYTHONPATH': ''})
    assert done.returncode == 0, done.stderr
    name, found = json.loads(done.stdout)
    assert name == engine or engine == 'auto'
    np.testing.assert_allclose(found, expected, atol=1e-5)


def export_and_predict(net, folder, pictures):
    export_net(net, folder)
    return deploy.Predictor(folder, engine='mxnet').predict(pictures)


def test_the_file_is_a_program(folder, pictures, tmp_path):
    command = [sys.executable, '-W', 'ignore', str(folder / 'predictor.py'), '--engine', 'mxnet', '--top', '2']
    done = subprocess.run([*command, *pictures], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == 'engine: mxnet, as asked\n', done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line['path'] for line in lines] == pictures and all(len(line['predictions']) == 2 for line in lines)
    (folder / 'model-0000.params').write_bytes(b'')
    done = subprocess.run([*command, *pictures], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1 and done.stderr.count('\n') == 1 and 'sha256' in done.stderr


def test_the_file_holds_what_it_needs_and_nothing_else():
    text = single_file.single_file()
    assert 'import gluon_fgvc' not in text and 'from gluon_fgvc' not in text.replace('# --- from gluon_fgvc', '')
    assert 'class EvalTransform' in text and 'TrainTransform' not in text.replace('class:`TrainTransform', '')
    done = subprocess.run([sys.executable, '-m', 'ruff', 'check', '--isolated', '--select', 'F', '-'], input=text,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout  # no undefined and no unused name


def test_two_things_of_one_name_are_refused(monkeypatch):
    monkeypatch.setattr(single_file._Part, 'names', lambda part: ['same'])
    with pytest.raises(ValueError, match="have a 'same'"):
        single_file.single_file()

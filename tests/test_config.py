"""The configuration: every wrong key, type and range is one line with value, rule and place."""
import dataclasses
from dataclasses import dataclass
from typing import Mapping

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gluon_fgvc import config, runs
from gluon_fgvc.errors import ConfigError

TEXT = """\
data: {name: toy, root: here, batch_size: 4}
backbone: {name: net, weights: none}
method: {name: plain}
train:
  epochs: 2
  optimizer: {name: sgd, lr: 1e-4}
  schedule: {name: step, every: 1}
"""


@dataclass(frozen=True)
class ToyData:
    root: str
    folds: int = config.option(5, 'folds', minimum=2)


@dataclass(frozen=True)
class Plain:
    cut: str = config.option('all', 'what learns', choices=('fc', 'all'))


def look_up(known):
    def find(name):
        if name not in known:
            raise ConfigError(f"unknown name '{name}'")
        return known[name]
    return find


LOOK_UPS = dict(data_options=look_up({'toy': ToyData}), method_options=look_up({'plain': Plain}))


def load(tmp_path, text=TEXT, overrides=()):
    path = tmp_path / 'a.yaml'
    path.write_text(text)
    return config.load(path, config.parse_overrides(overrides), **LOOK_UPS)


def test_defaults_numbers_and_options(tmp_path):
    cfg = load(tmp_path)
    assert cfg.train.optimizer == config.SGD(lr=1e-4) and isinstance(cfg.train.optimizer.lr, float)
    assert cfg.train.schedule.factor == 0.1 and cfg.data.options == ToyData('here') and cfg.data.batch_size == 4
    assert cfg.run.kvstore == 'device' and cfg.method.options.cut == 'all'


def test_an_integer_is_a_float_but_not_the_other_way_round(tmp_path):
    assert load(tmp_path, overrides=['train.optimizer.lr=1']).train.optimizer.lr == 1.0
    with pytest.raises(ConfigError, match=r"override 'train.epochs': 2.5 is not a whole number"):
        load(tmp_path, overrides=['train.epochs', '2.5'])


@pytest.mark.parametrize('change, message', [
    (('epochs: 2', 'epoch: 2'), r"line 5: train.epoch: unknown key 'epoch'; did you mean 'epochs'\?"),
    (('epochs: 2', 'epochs: -2'), r'line 5: train.epochs: -2 must be at least 1'),
    (('epochs: 2', 'epochs: true'), r'train.epochs: True is not a whole number'),
    (('epochs: 2', 'epochs: two'), r"train.epochs: 'two' is not a whole number"),
    (('epochs: 2', 'epochs: 2\n  epochs: 3'), r"line 6: key 'epochs' is given twice"),
    (('lr: 1e-4', 'lr: .nan'), r'train.optimizer.lr: nan is not a finite number'),
    (('lr: 1e-4', 'lr: 1e-4, beta1: 0.9'), r"train.optimizer.beta1: unknown key 'beta1'"),
    (('name: sgd', 'name: sdg'), r"train.optimizer.name: unknown name 'sdg'; did you mean 'sgd'\?"),
    ((', every: 1', ''), r"train.schedule: step needs either 'every' or 'at'"),
    (('every: 1', 'every: 1, at: [3]'), r"train.schedule: step needs either 'every' or 'at'"),
    (('root: here', 'rot: here'), r"line 1: data.rot: unknown key 'rot'; did you mean 'root'\?"),
    (('root: here, ', ''), r"data: required key 'root' is missing"),
    (('root: here', 'root: here, folds: 1'), r'data.folds: 1 must be at least 2'),
    (('name: plain', 'name: plain, cut: al'), r"method.cut: 'al' is not a choice; did you mean 'all'\?"),
    (('name: plain', 'name: plane'), r"line 3: method.name: unknown name 'plane'"),
    (('backbone: {name: net, weights: none}\n', ''), r"section 'backbone' is missing"),
    (('weights: none', 'output_stride: 4'), r"backbone.output_stride: '4' is not a choice.*8, 16"),
    (('weights: none', 'dilate: 2'), r'backbone.dilate: 2 is not'),
    (('backbone:', 'backbones:'), r"unknown section 'backbones'; did you mean 'backbone'\?"),
    (('train:\n', 'train: [\n'), r'line \d+: not valid YAML'),
    (('lr: 1e-4', 'lr: !!python/object/apply:os.getcwd []'), r'not valid YAML'),
])
def test_errors_name_value_rule_and_place(tmp_path, change, message):
    assert change[0] in TEXT
    with pytest.raises(ConfigError, match=message) as caught:
        load(tmp_path, TEXT.replace(*change))
    assert '\n' not in str(caught.value) and str(tmp_path / 'a.yaml') in str(caught.value)


@pytest.mark.parametrize('text', ['', '3', '[]', 'null'])
def test_a_file_that_is_no_mapping(tmp_path, text):
    with pytest.raises(ConfigError, match='not a configuration'):
        load(tmp_path, text)


def test_a_missing_or_binary_file(tmp_path):
    with pytest.raises(ConfigError, match='cannot read configuration .*nowhere.yaml'):
        config.load(tmp_path / 'nowhere.yaml', **LOOK_UPS)
    (tmp_path / 'b.yaml').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(ConfigError, match='not a text file'):
        config.load(tmp_path / 'b.yaml', **LOOK_UPS)


def test_overrides_take_both_spellings_and_the_last_wins(tmp_path):
    cfg = load(tmp_path, overrides=['train.epochs', '3', 'train.optimizer.lr=1e-2', 'train.epochs=4',
                                    'data.eval.resize', '[8, 9]'])
    assert (cfg.train.epochs, cfg.train.optimizer.lr, cfg.data.eval.resize) == (4, 1e-2, (8, 9))


@pytest.mark.parametrize('words, message', [
    (['train.epochs'], 'has no value'), (['epochs=3'], 'section.key'), (['train.epochz=3'], "did you mean 'epochs'"),
    (['train.epochs.x=3'], 'is not a section'), (['data.workers=1000000'], 'at most 256'),
    (['train.schedule=cosin'], "override 'train.schedule.name': unknown name 'cosin'; did you mean 'cosine'"),
    (['train.epochs=['], 'not valid YAML')])
def test_wrong_overrides(tmp_path, words, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, overrides=words)


def test_what_is_dumped_loads_to_the_same(tmp_path):
    cfg = load(tmp_path, overrides=['data.train.random_resized_crop=96', 'train.schedule={name: cosine, warmup: 1}'])
    assert config.from_tree(yaml.safe_load(config.dump(cfg)), **LOOK_UPS) == cfg


@dataclass(frozen=True)
class Pretrained:
    start: str = config.option('zoo', 'parameters of its own', untrained='none')
    rows: Mapping[int, str] = config.option(dict, 'more of them', untrained={})
    cut: str = 'all'


def test_replacing_checks_like_reading(tmp_path):
    cfg = load(tmp_path)
    new = config.replace(cfg, {'data.batch_size': 3, 'data.eval.crop': 8, 'train.schedule': 'cosine',
                               'method.cut': 'fc'})
    assert new == load(tmp_path, overrides=['data.batch_size=3', 'data.eval.crop=8', 'train.schedule=cosine',
                                            'method.cut=fc'])
    assert config.replace(cfg, {}) == cfg and config.replace(cfg, [('run.seed', 1), ('run.seed', 2)]).run.seed == 2
    assert config.replace(cfg, {'data.test.crop': 8}).data.eval.crop == 8  # an old name
    for changes, message in (({'data.batch_size': 0}, "override 'data.batch_size': 0 must be at least 1"),
                             ({'data.batchsize': 1}, "unknown key 'batchsize'; did you mean 'batch_size'"),
                             ({'method.name': 'other'}, "options of 'other' are not known here")):
        with pytest.raises(ConfigError, match=message):
            config.replace(cfg, changes)


def test_another_method_comes_with_its_options(tmp_path):
    look = look_up({'pretrained': Pretrained})
    new = config.replace(load(tmp_path), {'method': {'name': 'pretrained', 'start': 'a.params'}}, method_options=look)
    assert new.method.options == Pretrained('a.params', {}, 'all') and new.data == load(tmp_path).data


def test_untrained_names_no_parameters(tmp_path):
    cfg = config.replace(load(tmp_path), {'backbone.weights': 'zoo', 'method': {
        'name': 'pretrained', 'rows': {0: 'hotdog'}, 'cut': 'fc'}}, method_options=look_up({'pretrained': Pretrained}))
    bare = config.untrained(cfg)
    assert bare.backbone.weights == 'none' and bare.method.options == Pretrained('none', {}, 'fc')
    assert dataclasses.replace(bare, backbone=cfg.backbone, method=cfg.method) == cfg


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                        st.sampled_from(['data', 'train', 'name', 'epochs', 'optimizer', 'lr', 'toy', 'x']), inner)))
def test_any_tree_is_refused_in_one_line(tree):
    with pytest.raises(ConfigError) as caught:
        config.from_tree(tree, **LOOK_UPS)
    assert '\n' not in str(caught.value)


def test_every_option_of_every_section_says_what_it_is():
    for schema in (config.DataConfig, config.TrainView, config.EvalView, config.BackboneConfig, config.RunConfig):
        for field in dataclasses.fields(schema):
            assert field.name in ('options', 'seed') or field.metadata.get('doc'), (schema, field.name)


def test_names_of_earlier_versions_are_read_with_one_line_each(tmp_path):
    path = tmp_path / 'old.yaml'
    path.write_text('''\
data: {name: image_folder, root: x, test: {resize: 20}, val_share: 0.3}
backbone: {name: resnet18_v2, head: isqrt_cov}
method: {name: cra_cnn, features: scores}
train: {epochs: 1, optimizer: {name: sgd, lr: 0.1}}
run: {focus: true}
''')
    with pytest.warns(UserWarning) as caught:
        cfg = runs.load_config(path, config.parse_overrides(['data.test.crop=16']))
    assert (cfg.data.eval.resize, cfg.data.eval.crop, cfg.data.val_fraction) == (20, 16, 0.3)
    assert cfg.backbone.global_pool == 'isqrt_cov' and cfg.run.pointing_game
    assert cfg.method.options.features == 'logits'
    assert [str(warning.message) for warning in caught] == [
        f"{path}: '{old}' is now '{new}'; the old name is read until gluon_fgvc 0.3" for old, new in (
            ('data.test', 'data.eval'), ('data.val_share', 'data.val_fraction'),
            ('backbone.head', 'backbone.global_pool'), ('run.focus', 'run.pointing_game'))] + [
        f"{path}: method.features 'scores' is now 'logits'; the old name is read until gluon_fgvc 0.3"]


def test_an_old_name_beside_the_new_one_is_refused(tmp_path):
    path = tmp_path / 'both.yaml'
    path.write_text('data: {name: image_folder, root: x, val_share: 0.3, val_fraction: 0.1}\n')
    with pytest.raises(ConfigError, match="'data.val_share' is an old name of 'data.val_fraction', and both are given"):
        runs.load_config(path)


def test_an_error_at_an_old_name_tells_its_line(tmp_path):
    path = tmp_path / 'old.yaml'
    path.write_text('data:\n  name: image_folder\n  root: x\n  val_share: 3\n')
    with pytest.warns(UserWarning), pytest.raises(ConfigError, match='line 4: data.val_fraction: 3.0 must be below 1'):
        runs.load_config(path)


@pytest.mark.parametrize('words', ['photos #1', '2024-05-01', '2024', '007', 'yes', '12:30:00', '@eaDir', '[set]',
                                   'a: b', 'null', "it's", '*all', '1e5', '%x'])
def test_text_is_taken_as_it_is_typed(tmp_path, words):
    cfg = load(tmp_path, overrides=[f'data.root={words}', 'run.work_dir', words])
    assert cfg.data.options.root == cfg.run.work_dir == words
    assert config.from_tree(yaml.safe_load(config.dump(cfg)), **LOOK_UPS) == cfg


def test_what_is_no_text_is_still_yaml(tmp_path):
    cfg = load(tmp_path, overrides=['run.contexts=[cpu0, cpu1]', 'data.mean=[0.1, 0.2, 0.3]', 'run.hybridize=no',
                                    'train.class_weights=[1, 2]', 'data.eval={resize: 7}', 'data.eval.crop=5',
                                    'train.optimizer={name: adam, lr: 1e-3}', 'data.std=null'])
    assert cfg.run.contexts == ('cpu0', 'cpu1') and cfg.data.mean == (0.1, 0.2, 0.3) and cfg.data.std is None
    assert not cfg.run.hybridize and cfg.train.class_weights == (1, 2)
    assert (cfg.data.eval.resize, cfg.data.eval.crop) == (7, 5) and cfg.train.optimizer == config.Adam(lr=1e-3)
    with pytest.raises(ConfigError, match="override 'train.epochs', line 1: not valid YAML"):
        load(tmp_path, overrides=['train.epochs=[1'])


def test_home_is_meant_in_every_path(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', '/home/someone')
    cfg = load(tmp_path, TEXT.replace('root: here', 'root: ~/photos'),
               ['run.work_dir=~/runs', 'backbone.weights', '~/a.params', 'backbone.widths=~'])
    assert (cfg.data.options.root, cfg.run.work_dir) == ('/home/someone/photos', '/home/someone/runs')
    assert (cfg.backbone.weights, cfg.backbone.widths) == ('/home/someone/a.params', None)


@pytest.mark.parametrize('override, message', [
    ('data.mean=[123.675, 116.28, 103.53]', r'data.mean.: 123.675 must be at most 1'),
    ('data.std=[58.395, 57.12, 57.375]', r'data.std.: 58.395 must be at most 1'),
    ('data.eval.crop=22400', 'data.eval.crop.: 22400 must be at most 16384'),
    ('data.mean=[-5, 0.5, 0.5]', r'data.mean.: -5.0 must be at least 0')])
def test_what_cannot_be_meant_is_refused(tmp_path, override, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, overrides=[override])


@pytest.mark.parametrize('text, message', [
    ('? [a, b]\n: 1\n', 'line 1: a list or mapping is no key'),
    ('data: {? {a: 1} : 2}\n', 'a list or mapping is no key'),
    ('\n'.join(['a0: &a0 [x, x, x, x, x, x, x, x, x]',
                *(f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 9)}]' for i in range(1, 30))]), 'more than 20,000 values'),
    ('a: &a [*a]\n', 'more than 20,000 values'),
    ('x' * (2 ** 20 + 1), 'more than 1,048,576 characters'),
])
def test_yaml_that_would_not_end_or_has_odd_keys(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message):
        load(tmp_path, text)


# --- another method or data set in the place of the file's -----------------------------------

@dataclass(frozen=True)
class Gated:
    cut: str = config.option('all', 'what learns', choices=('fc', 'all'))
    gates: int = config.option(2, 'how many', minimum=1)


BOTH = dict(LOOK_UPS, method_options=look_up({'plain': Plain, 'gated': Gated}))


def load_both(tmp_path, method, *overrides):
    (tmp_path / 'a.yaml').write_text(TEXT.replace('{name: plain}', method))
    return config.load(tmp_path / 'a.yaml', config.parse_overrides(overrides), **BOTH)


def test_another_method_keeps_what_both_know_and_says_what_is_dropped(tmp_path):
    with pytest.warns(UserWarning, match=r'method.name=plain in the place of gated: dropped of .*a.yaml, .*: gates; '
                                         r'kept: cut'):
        cfg = load_both(tmp_path, '{name: gated, gates: 3, cut: fc}', 'method.name=plain')
    assert cfg.method.name == 'plain' and cfg.method.options == Plain('fc')


def test_nothing_is_dropped_aloud_where_there_is_nothing_to_drop(tmp_path, recwarn):
    cfg = load_both(tmp_path, '{name: plain, cut: fc}', 'method.name=gated', 'method.gates=4')
    assert cfg.method.options == Gated('fc', 4) and not recwarn.list


@pytest.mark.parametrize('method, overrides, says', [
    ('{name: gated, gats: 3}', ('method.name=plain',), "unknown key 'gats'"),  # of neither: a slip of the pen
    ('{name: gated, gates: 3}', ('method.name=plain', 'method.gates=1'), "unknown key 'gates'"),  # asked for now
    ('{name: plain, gates: 3}', (), "unknown key 'gates'"), ('{name: plain}', ('method.name=none',), 'unknown name'),
    ('{name: plain, gates: 3}', ('method.name=plain',), "unknown key 'gates'")])
def test_what_another_method_does_not_excuse(tmp_path, method, overrides, says):
    with pytest.raises(ConfigError, match=says):
        load_both(tmp_path, method, *overrides)

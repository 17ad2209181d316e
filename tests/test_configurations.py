"""Every configuration and study: it loads, says whether anybody ran it, and keeps what its header says."""
import json
import re
from pathlib import Path

import pytest

from gluon_fgvc import config, runs
from gluon_fgvc.studies import plan_file

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').rglob('*.yaml'))
STUDIES = sorted((ROOT / 'studies').glob('*.yaml'))
STATUS = re.compile(r'^# status: (measured|smoke-tested|not run)$', re.M)


def load(name):
    return runs.load_config(ROOT / 'configs' / f'{name}.yaml')


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def text_of(pattern):
    return ''.join(path.read_text('utf-8') for path in sorted(ROOT.glob(pattern)))


def recorded():
    """Names of the configurations that files of results hold."""
    return {entry['config'] for path in (ROOT / 'docs/results').glob('*.json')
            for entry in json.loads(path.read_text('utf-8'))['configs']}


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_configuration_loads_and_tells_its_status(path):
    cfg = runs.load_config(path)  # the data need not be there
    assert cfg.train.epochs >= 1
    header = path.read_text('utf-8').split('\ndata:')[0]
    status, = STATUS.findall(header)
    if status == 'measured':
        assert name_of(path) in recorded() or name_of(path) in text_of('docs/**/*.md')
    elif status == 'smoke-tested':
        assert name_of(path) in text_of('tests/**/*.py')
    if status != 'measured':
        assert name_of(path) not in recorded()


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_header_names_the_command(path):
    header = path.read_text('utf-8').split('\ndata:')[0]
    assert all(line.startswith('#') and len(line) <= 120 for line in header.splitlines())
    commands = re.findall(r'python tools/train\.py --cfg (\S+)', header)
    assert name_of(path) in commands or 'python tools/study.py' in header
    assert runs.load_config(path).method.name in (path.parent.name, 'finetune')


@pytest.mark.parametrize('path', STUDIES, ids=name_of)
def test_a_study_reads_and_its_variants_load_and_differ(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = plan_file.read(path)
    status, = STATUS.findall(path.read_text('utf-8').split('\nbase:')[0])
    assert f'--study {name_of(path)}' in path.read_text('utf-8')
    fold = [f'data.fold={fold}' for fold in study.folds[:1]]
    variants = [runs.load_config(v.config, config.parse_overrides([*v.overrides, *fold])) for v in study.variants]
    assert all(a != b for k, a in enumerate(variants) for b in variants[:k])
    for variant in study.variants if status == 'measured' else ():
        assert variant.config in recorded()


def test_every_result_has_its_configuration_still():
    assert [name for name in sorted(recorded()) if not (ROOT / name).is_file()] == []


def test_the_variants_of_tasn_are_the_files_that_were_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    for variant in plan_file.read('studies/tasn_ablation.yaml').variants[2:]:
        name = variant.name.replace('attention-', '').replace('-', '_')
        file = runs.load_config(f'configs/tasn/elpv_efficientnet_lite0_{name}.yaml')
        assert runs.load_config(variant.config, config.parse_overrides(variant.overrides)) == file


@pytest.mark.parametrize('task', ['adience', 'cub200', 'stanford_cars', 'stanford_dogs', 'uec_food100'])
def test_the_rows_of_table_3_differ_in_attention_alone(task):
    warn, base = load(f'warn/{task}_wide_resnet50_2'), load(f'warn/{task}_wide_resnet50_2_base')
    assert (warn.data, warn.backbone, warn.train, warn.run) == (base.data, base.backbone, base.train, base.run)
    assert (warn.method.name, base.method.name) == ('warn', 'finetune')
    assert warn.method.options.lr_mult == base.method.options.lr_mult == 10
    assert (base.train.epochs, base.data.batch_size, base.train.optimizer.lr) == (100, 64, 1e-3)


@pytest.mark.parametrize('name, pinned', [
    ('tasn/cub200_resnet50', {'method.sampled_size': 224, 'train.epochs': 300, 'data.batch_size': 96,
                              'train.optimizer.momentum': 0, 'data.train.pca_noise': 0.1}),
    ('tasn/cub200_resnet50_isqrt_cov', {'method.sampled_size': 336, 'backbone.global_pool': 'isqrt_cov'}),
    ('cra_cnn/cub200_resnet50', {'method.margin': 0.7, 'method.size': 224, 'train.epochs': 230, 'data.batch_size': 64,
                                 'method.rhythm_start': 50, 'method.rhythm': 45}),
    ('attention_scaled/inaturalist_amphibia_resnet50', {'data.batch_size': 32, 'train.optimizer.lr': 1e-3}),
    ('stn/cluttered_mnist_stn', {'method.mode': 'affine', 'method.zoom': 0.7, 'data.distractors': 8})])
def test_pinned(name, pinned):
    for key, expected in pinned.items():
        value = load(name)
        for part in key.split('.'):
            value = getattr(value, part, None) if hasattr(value, part) else getattr(value.options, part)
        assert value == expected, key

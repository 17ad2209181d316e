"""Every published configuration loads, and what its header claims of it stays: names, sizes, recipes."""
import re
from pathlib import Path

import pytest

from gluon_fgvc.runs.build import load_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').glob('*/*.yaml'))
NAMES = [f'{path.parent.name}/{path.stem}' for path in CONFIGS]


def load(name):
    return load_config(ROOT / 'configs' / f'{name}.yaml')


@pytest.mark.parametrize('path', CONFIGS, ids=NAMES)
def test_it_loads_and_its_header_names_the_command(path):
    cfg, text = load_config(path), path.read_text('utf-8')
    header = text[:text.index('data:')]
    assert all(line.startswith('#') and len(line) <= 120 for line in header.splitlines())
    commands = re.findall(r'python tools/train\.py --cfg (\S+)', header)
    assert str(path.relative_to(ROOT)) in commands or 'python tools/study.py' in header
    assert cfg.method.name in (path.parent.name, 'finetune')


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

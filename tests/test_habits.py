"""What a run answers, apart by the texture behind the object."""
import argparse

import numpy as np
import pytest

from benchmarks import habitats
from gluon_fgvc import runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.build import load_config
from tests.methods.test_windows_follow import write_glyphs

CONFIG = '''\
data: {{name: cluttered_mnist, root: {root}, images: [640, 64, 200], distractors: 0, habitat: {habitat}, workers: 0}}
backbone: {{name: cluttered_cnn, weights: none}}
method: {{name: finetune, cut: all}}
train: {{epochs: 1, optimizer: {{name: sgd, lr: 0.03, momentum: 0.9}}}}
run: {{contexts: [cpu0]}}
'''


def test_habit_by_hand():
    labels, textures = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 2, 2, 0, 1])
    found = habitats.habit(labels, np.array([0, 2, 2, 1, 1, 1]), textures)
    assert found == habitats.Habit(own=0.5, foreign=0.25, named=2 / 3)
    assert np.isnan(habitats.habit(labels, labels, textures).named)  # nothing is wrong


def train(folder, habitat):
    write_glyphs(folder / 'glyphs')
    config = folder / 'config.yaml'
    config.write_text(CONFIG.format(root=folder / 'glyphs', habitat=habitat))
    runs.train(load_config(str(config), []), folder / 'run')
    return str(folder / 'run')


def measure(*words):
    parser = argparse.ArgumentParser()
    habitats.add_options(parser)
    return habitats.measure(parser.parse_args(['--runs', *words]))


def test_a_network_that_learnt_the_textures_names_them(tmp_path):
    run = train(tmp_path, 1)
    found = measure(run)
    row = found.rows[run]
    # After ten steps textures, which are the same in every image of a class, are known better than objects.
    assert row.own > row.foreign and row.named > 1 / 9
    assert found.table()[2] == f'| {run} | {100 * row.own:.2f} | {100 * row.foreign:.2f} | {100 * row.named:.1f} |'


def test_runs_without_habitats_are_refused(tmp_path):
    with pytest.raises(ConfigError, match='is not a run with data.habitat'):
        measure(train(tmp_path, 0))

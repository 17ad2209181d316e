"""What a sampler is worth to trained networks: counted on three views of the same images."""
import argparse

import numpy as np
import pytest

from benchmarks import sampled
from gluon_fgvc import config, runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.build import load_config
from tests import small_run

TASN = ['method.name=tasn', 'method.lr_mult=1', 'method.sampled_size=32', 'method.attention_size=64',
        'method.attention_channels=8', 'method.nets=master', 'method.attention_backbone=mobilenetv2_0.25',
        'data.train.random_resized_crop=64', 'data.eval.resize=[64,64]']


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    folder = small_run.write(tmp_path_factory.mktemp('runs'))

    def train(name, *overrides):
        words = [f"data.root={folder / 'images'}", *overrides]
        runs.train(load_config(str(folder / 'cfg.yaml'), config.parse_overrides(words)), folder / name)
        return str(folder / name)

    return (train('tasn', *TASN), train('plain'), train('larger', 'data.eval.resize=[48,48]'),
            train('unjudged', 'data.val_fraction=0'))


def measure(*words):
    parser = argparse.ArgumentParser()
    sampled.add_options(parser)
    return sampled.measure(parser.parse_args(words))


def test_each_network_is_on_its_own_view_what_its_run_says(trained):
    tasn, plain = trained[:2]
    found = measure('--tasn', tasn, '--plain', plain)
    own = {'tasn': (tasn, 'resampled by attention'), 'plain': (plain, 'resized')}
    for name, (run, view) in own.items():
        opened = runs.open_run(run)
        assert found.rows[name][view] == pytest.approx(opened.chosen_by['value'])
    assert found.settings['images'] == 4 and len(found.table()) == 5 and found.record()['rows'] == found.rows
    assert found.enlargement >= 1 and found.distortion >= 1
    assert all(0 <= value <= 1 for row in found.rows.values() for value in row.values())


def test_enlargement_and_distortion_by_hand():
    x, y = np.array([-1, -0.8, 0.8, 1]), np.linspace(-1, 1, 4)  # columns: steps 0.2, 1.6, 0.2 of 2/3 on average
    grid = np.stack(np.broadcast_arrays(x[None, :], y[:, None]))[None]
    densities = sampled.density(grid)
    np.testing.assert_allclose(densities[0], [[10 / 3, 5 / 12, 10 / 3], [1, 1, 1]])
    assert sampled.distortion(densities) == pytest.approx((10 / 3 + 12 / 5 + 10 / 3) / 3)
    assert sampled.distortion(sampled.density(np.stack(np.broadcast_arrays(y[None, :], y[:, None]))[None])) == 1


@pytest.mark.parametrize('words, message', [
    ((1, 1), "--tasn takes a run of tasn, --plain one of a plain network, not 'finetune' and 'finetune'"),
    ((0, 0), "not 'tasn' and 'tasn'"),
    ((0, 3), '--tasn and --plain have no validation images, or different ones'),
    ((0, 2), r'--plain tests on images of \(48, 48\), --tasn samples 32 x 32'),
])
def test_other_runs_are_refused(trained, words, message):
    with pytest.raises(ConfigError, match=message):
        measure('--tasn', trained[words[0]], '--plain', trained[words[1]])

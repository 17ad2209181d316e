"""What each classifier of a network knows: by hand, and as the run says of the one it deploys."""
import argparse

import numpy as np
import pytest

from benchmarks import classifiers
from gluon_fgvc import config, runs
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.runs.build import load_config
from tests import small_run


def measure(*words):
    parser = argparse.ArgumentParser()
    classifiers.add_options(parser)
    return classifiers.measure(parser.parse_args(words))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    return small_run.write(tmp_path_factory.mktemp('runs'))


def train(folder, name, *overrides):
    words = [f"data.root={folder / 'images'}", *overrides]
    runs.train(load_config(str(folder / 'cfg.yaml'), config.parse_overrides(words)), folder / name)
    return str(folder / name)


def test_by_hand():
    # Softmax of (0, ln 3) is (1/4, 3/4).
    right, nats = classifiers.judged(np.array([[0, np.log(3)], [5, 5 + np.log(3)]]), np.array([1, 0]))
    assert right == 0.5 and nats == pytest.approx(-(np.log(0.75) + np.log(0.25)) / 2)


def test_the_classifiers_of_pmg(folder):
    run = train(folder, 'pmg', 'method.name=pmg', 'method.lr_mult=1', 'method.features=4', 'method.stages=2',
                'method.pieces=1')
    names = ('logits', 'stage3', 'stage4', 'joint')
    found = measure('--run', run, '--mean', 'stage3', 'stage4', 'joint', '--mean', 'joint')
    assert tuple(found.rows) == (*names, 'mean of stage3, stage4, joint', 'mean of joint')
    chosen = runs.open_run(run).chosen_by
    assert found.rows['logits'][0] == pytest.approx(chosen['value'])  # what is deployed is what validation has seen
    assert found.rows['mean of stage3, stage4, joint'] == pytest.approx(found.rows['logits'], rel=1e-5)
    assert found.rows['mean of joint'] == found.rows['joint']
    assert len(found.table()) == 8 and found.record()['rows']['joint']['top1'] == found.rows['joint'][0]
    assert found.settings['images'] == 4
    with pytest.raises(ConfigError, match="--mean: 'join' is no classifier of this run; did you mean 'joint'?"):
        measure('--run', run, '--mean', 'join')


def test_a_run_without_validation_is_told(folder):
    with pytest.raises(ConfigError, match='has no validation images'):
        measure('--run', train(folder, 'unjudged', 'data.val_fraction=0'))

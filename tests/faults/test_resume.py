"""A training that is cut at any batch and resumed equals an uninterrupted one: ``==`` on every array, no exceptions."""
import shutil

import pytest

from gluon_fgvc import methods
from tests.faults.trainings import OPTIONS, Cuts, assert_same, configuration, cuts_of, train


def whole_and_cuts(tmp_path, monkeypatch, cfg_of, wanted=lambda now: True):
    """Train once, keeping a copy of the run folder at each wanted batch; return (run folder, folder of copies)."""
    with monkeypatch.context() as patch:
        Cuts(patch, tmp_path / 'cuts', wanted)
        train(cfg_of([('run.save_every_batches', 1)]), tmp_path / 'whole')
    return tmp_path / 'whole', tmp_path / 'cuts'


@pytest.mark.parametrize('options, devices', [
    ('everything', 2), *(pytest.param(options, devices, marks=pytest.mark.slow) for options, devices in (
        ('everything', 1), ('tiny', 1), ('tiny', 2), ('uneven', 1), ('uneven', 2)))])
def test_cut_within_an_epoch(tmp_path, monkeypatch, options, devices):
    """The loop of its own, on each kind of batch; every method at each cut is in the long form."""
    def cfg_of(more, workers=0):
        return configuration(tmp_path, 'finetune', (*OPTIONS[options], ('train.epochs', 2), *more), devices, workers)

    moments = {'everything': [(0, 2), (1, 3)], 'uneven': [(1, 2)], 'tiny': [(0, 2)]}[options]
    whole, cuts = whole_and_cuts(tmp_path, monkeypatch, cfg_of, lambda now: (now.epoch, now.batch) in moments)
    if options == 'everything':
        train(cfg_of([]), tmp_path / 'plain')  # checkpoints on the way change nothing
        assert_same(whole, tmp_path / 'plain')
    for workers, cut in enumerate(sorted(cuts.iterdir())):
        train(cfg_of([('run.save_every_batches', 2)], workers), cut)
        assert_same(cut, whole)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize('options', OPTIONS)
@pytest.mark.parametrize('devices', [1, 2])
@pytest.mark.parametrize('method', methods.available())
def test_every_method_at_every_cut(tmp_path, monkeypatch, method, devices, options):
    def cfg_of(more, workers=1):
        return configuration(tmp_path, method, (*OPTIONS[options], *more), devices, workers)

    batches = len(range(0, 18, cfg_of([]).data.batch_size)) if 'data.last_batch' in dict(OPTIONS[options]) else 4
    moments = {name: (epoch, min(batch, batches) if name == 'last batch' else min(batch, batches - 1))
               for name, (epoch, batch) in cuts_of(method).items()}
    whole, cuts = whole_and_cuts(tmp_path, monkeypatch, cfg_of,
                                 lambda now: (now.epoch, now.batch) in moments.values())
    assert {cut.name for cut in cuts.iterdir()} == {f'{epoch}-{batch}' for epoch, batch in moments.values()}
    for name, (epoch, batch) in moments.items():
        for workers in (0, 1, 2):
            run = tmp_path / f'{name} {workers}'
            shutil.copytree(cuts / f'{epoch}-{batch}', run)
            train(cfg_of([], workers), run)
            assert_same(run, whole)

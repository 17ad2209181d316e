"""Each single open, write, fsync, rename and allocation of a training fails once; resumed, it ends the same."""
import shutil

import mxnet as mx
import pytest

from gluon_fgvc import pages, runs
from gluon_fgvc.errors import UserError
from tests.engine import toy
from tests.engine.test_fit import digest, epoch_rows, fit
from tests.faults.failing import KINDS, Failing
from tests.faults.trainings import assert_same_to_the_end, configuration


def each_call(kind, folder_of, train, compare, monkeypatch, step=1, number=0):
    """Let call 1, 2, 3, … fail until none is left, or those after ``number``; return how many there were."""
    while True:
        number += step
        folder = folder_of(number)
        failing = Failing(kind, folder, number)
        with failing.installed(monkeypatch):
            try:
                train(folder)
            except (UserError, OSError, MemoryError, mx.MXNetError):
                pass
        if failing.has_failed:
            train(folder)
        compare(folder)
        if not failing.has_failed:
            return number - 1
        shutil.rmtree(folder)  # of a thousand, which would fill a disk


@pytest.mark.parametrize('kind', [kind if kind in ('write', 'fsync') else pytest.param(kind, marks=pytest.mark.slow)
                                  for kind in KINDS])
def test_of_the_loop(tmp_path, monkeypatch, kind):
    cfg = toy.settings(train__epochs=1, train__ema=0.9, run__save_every_batches=2, run__log_every=2)
    whole, _, folder = fit(tmp_path, cfg, toy.Toy(), 'whole', count=8)
    methods = {}

    def train(run):
        methods['last'], _, _ = fit(tmp_path, cfg, toy.Toy(), run.name, count=8)

    def compare(run):
        assert digest(methods['last']) == digest(whole) and epoch_rows(run) == epoch_rows(folder)
    found = each_call(kind, lambda number: tmp_path / f'run{number}', train, compare, monkeypatch,
                      step={'allocate': 5, 'open': 3, 'write': 3}.get(kind, 1))  # each in the long form
    assert found > 5


# Sections of the report that draw, in memory, and would take half of a small training.
DRAWN = ('training_section', 'confusion_section', 'calibration_section')


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.timeout(14400)
@pytest.mark.parametrize('kind', KINDS)
def test_of_a_whole_training(tmp_path, monkeypatch, kind):
    """From the description of the run to its test and report."""
    for name in DRAWN:
        monkeypatch.setattr(pages.report, name, lambda run: '')
    cfg = configuration(tmp_path, 'finetune', [
        ('backbone.name', 'cluttered_cnn'), ('data.train', {'resize': [32, 32], 'flip': True}),
        ('data.eval', {'resize': [32, 32]}), ('train.ema', 0.9), ('train.epochs', 2), ('run.save_every_batches', 3)])

    def train(run):
        runs.train(cfg, run)

    def compare(run):
        assert_same_to_the_end(run, tmp_path / 'whole')
        assert (run / 'report.html').exists()
    train(tmp_path / 'whole')
    found = each_call(kind, lambda number: tmp_path / f'run{number}', train, compare, monkeypatch)
    print(f'{kind}: {found} calls')
    assert found > 20

"""The load script against a service of the small network."""
import argparse

import pytest

from benchmarks import service
from tests.deploy.small import build_net, export_net, write_pictures


@pytest.mark.slow
def test_good_clients_are_answered_and_bad_ones_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(service, 'TURN', 2)
    monkeypatch.setattr(service, 'SETTLE', 1)
    export_net(build_net(), tmp_path / 'export')
    parser = argparse.ArgumentParser()
    service.add_options(parser)
    load = service.measure(parser.parse_args([
        '--export', str(tmp_path / 'export'), '--images', *write_pictures(tmp_path / 'pictures'), '--clients', '5',
        '--seconds', '4', '--engine', 'mxnet']))
    assert set(load.statuses) == {'200'} and load.statuses['200'] == len(load.waits) > 20
    assert len(load.served) == len(load.offline) == 2 and min(load.served + load.offline + load.memory) > 0
    assert min(load.processor.values()) > 0
    assert set(load.faults['malformed']) == {'422'} and set(load.faults['oversized']) == {'413'}
    assert load.faults['killed']['closed'] > 1 and len(load.table()) == 5
    assert load.kept() == (load.ratio >= 0.9 and load.growth <= 0.05)

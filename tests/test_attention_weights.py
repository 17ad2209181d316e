"""The benchmark of attention weights, by hand: two layers whose histograms a training has kept."""
import json

import pytest

from benchmarks import attention_weights
from gluon_fgvc.commands import benchmark, cli


def write_run(folder, *epochs):
    """Write a run folder with the histograms of ``epochs``, each a list of layers: (values, mean, sd)."""
    folder.mkdir()
    lines = [{'kind': 'epoch', 'epoch': 0}]
    for epoch, layers in enumerate(epochs):
        found = {}
        for number, (values, mean, sd) in enumerate(layers):
            counts = [0] * 8  # bins of half a unit from -1 to 3
            for value in values:
                counts[int(2 * (value + 1))] += 1
            found[f'layer{number}'] = {'counts': counts, 'mean': mean, 'sd': sd, 'least': min(values),
                                       'largest': max(values)}
        lines.append({'kind': 'method', 'epoch': epoch, 'phase': 'A', 'attention_range': [-1, 3], 'attention': found})
    (folder / 'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    return folder


START = [([1, 1, 1, 1], 1, 0), ([1, 1], 1, 0)]
MOVED = [([0, 0, 2, 2], 1, 1), ([1.2, 1.2], 1.2, 0)]


def test_moments_and_shares_by_hand(tmp_path):
    record = json.loads((write_run(tmp_path / 'run', START, MOVED) / 'metrics.jsonl').read_text().splitlines()[-1])
    found = attention_weights.weights_of(record)
    values = [0, 0, 2, 2, 1.2, 1.2]
    mean = sum(values) / 6
    assert found.mean == pytest.approx(mean) and (found.least, found.largest) == (0, 2)
    assert found.sd == pytest.approx((sum((v - mean) ** 2 for v in values) / 6) ** 0.5)
    assert found.edges.tolist() == [-1, -.5, 0, .5, 1, 1.5, 2, 2.5, 3] and found.moved == 0.5
    assert found.shares.tolist() == pytest.approx([0, 0, 1 / 3, 0, 1 / 3, 0, 1 / 3, 0])
    line, = attention_weights.lines_of({'run': found})
    assert line.x == [.25, .75, 1.25, 1.75, 2.25]
    assert line.y == pytest.approx([100 / 3, 1e-3, 100 / 3, 1e-3, 100 / 3])


@pytest.mark.parametrize('names, code, verdict', [(['moved'], cli.OK, 'kept'), (['moved', 'start'], cli.PROBLEMS,
                                                                               'missed')])
def test_the_tool_compares_draws_and_judges(tmp_path, monkeypatch, capsys, names, code, verdict):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'moved', START, MOVED)
    write_run(tmp_path / 'start', START)
    words = ['attention_weights', '--chart', 'new/chart.svg', '--json', 'all.json', '--runs',
             *(f'{name}={name}' for name in names)]
    assert cli.run(benchmark.main, words) == code
    out = capsys.readouterr().out
    assert '| moved | 1.067 | 0.822 | 0.500 | 0.000 | 2.000 |' in out and verdict in out
    assert json.loads((tmp_path / 'all.json').read_text())['runs']['moved']['layers'] == {'layer0': 1, 'layer1': 0}
    chart = (tmp_path / 'new/chart.svg').read_text()
    assert all(name in chart for name in names) and 'attention weight' in chart


@pytest.mark.parametrize('words, says', [
    (['run'], "--runs 'run' is not LABEL=RUN"), (['a=run', 'a=run'], "--runs 'a=run' is not LABEL=RUN"),
    (['a=empty'], "'empty' has no epoch in which attention learnt")])
def test_wrong_words(tmp_path, monkeypatch, capsys, words, says):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / 'run', START)
    write_run(tmp_path / 'empty')
    assert cli.run(benchmark.main, ['attention_weights', '--runs', *words]) == cli.USAGE
    assert says in capsys.readouterr().err

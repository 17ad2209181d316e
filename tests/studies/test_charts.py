"""Which pictures a study has, and that those it no longer has go."""
import json

import pytest

from gluon_fgvc.studies import charts, page
from gluon_fgvc.studies.comparison import compared, namer

ROOT = page.Path(__file__).parents[2]


def tree(variants, seeds=(0, 1)):
    """The results of cub100 with ``variants`` in the place of its own, each point a hundredth better than the last."""
    found = json.loads((ROOT / 'docs/results/cub100.json').read_text('utf-8'))
    first = found['configs'][0]
    found.update(name='s', evaluations=[], configs=[])
    for place, name in enumerate(variants):
        runs = [{**first['runs'][seed], 'test': {**first['runs'][seed]['test'], 'top1': 0.5 + place / 100 + seed / 10}}
                for seed in seeds]
        found['configs'].append({**first, 'variant': name, 'runs': runs})
    return found


def write(folder, *arguments):
    (folder / 's.json').write_text(json.dumps(tree(*arguments)))
    charts.draw(folder)
    return {path.name for path in folder.glob('*.svg')}, page.render(folder)


def test_curves_of_few_and_differences_of_many(tmp_path):
    names, text = write(tmp_path, ['plain', 'a', 'b'])
    assert names == {'s.svg'} and 'results/s.svg' in text and 's_differences' not in text
    names, text = write(tmp_path, ['plain', 'a', 'b', 'c'])
    assert names == {'s.svg', 's_differences.svg'}
    assert '![Differences of test top-1 to plain](results/s_differences.svg)' in text
    assert 'difference to plain in test top-1, points' in (tmp_path / 's_differences.svg').read_text()
    names, text = write(tmp_path, [f'v{number}' for number in range(15)])
    assert names == {'s_differences.svg'} and 'results/s.svg' not in text


def test_differences_are_of_the_runs_of_one_seed():
    rows = compared(tree(['plain', 'a']))
    assert rows[0].differences == pytest.approx([0.01, 0.01]) and rows[0].result.mean == pytest.approx(0.01)
    assert rows[0].result.p is None  # all are equal
    assert compared({'configs': []}) == []


def test_entries_go_by_variants_of_their_own_or_by_files():
    found = tree(['plain', 'a'])
    assert [namer(found)(entry) for entry in found['configs']] == ['plain', 'a']
    found['configs'][1]['variant'] = 'plain'
    found['configs'][1]['config'] = 'configs/tasn/other.yaml'
    assert namer(found)(found['configs'][1]) == 'tasn/other (plain)'

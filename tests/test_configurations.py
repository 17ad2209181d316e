"""Every configuration and study in the repository: it loads, says whether anybody ran it, and does not boast."""
import json
import re
from pathlib import Path

import pytest

from gluon_fgvc import config, runs
from gluon_fgvc.studies import plan_file

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs').rglob('*.yaml'))
STUDIES = sorted((ROOT / 'studies').glob('*.yaml'))
STATUS = re.compile(r'^# status: (measured|smoke-tested|not run)$', re.M)


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def text_of(pattern):
    return ''.join(path.read_text('utf-8') for path in sorted(ROOT.glob(pattern)))


def recorded():
    """Names of the configurations that files of results hold."""
    return {entry['config'] for path in (ROOT / 'docs/results').glob('*.json')
            for entry in json.loads(path.read_text('utf-8'))['configs']}


@pytest.mark.parametrize('path', CONFIGS, ids=name_of)
def test_a_configuration_loads_and_tells_its_status(path):
    cfg = runs.load_config(path)  # the data need not be there
    assert cfg.train.epochs >= 1
    header = path.read_text('utf-8').split('\ndata:')[0]
    status, = STATUS.findall(header)
    if status == 'measured':
        assert name_of(path) in recorded() or name_of(path) in text_of('docs/**/*.md')
    elif status == 'smoke-tested':
        assert name_of(path) in text_of('tests/**/*.py')
    if status != 'measured':
        assert name_of(path) not in recorded()


@pytest.mark.parametrize('path', STUDIES, ids=name_of)
def test_a_study_reads_and_its_variants_load_and_differ(path, monkeypatch):
    monkeypatch.chdir(ROOT)
    study = plan_file.read(path)
    status, = STATUS.findall(path.read_text('utf-8').split('\nbase:')[0])
    assert f'--study {name_of(path)}' in path.read_text('utf-8')
    variants = [runs.load_config(v.config, config.parse_overrides(v.overrides)) for v in study.variants]
    assert all(a != b for k, a in enumerate(variants) for b in variants[:k])
    for variant in study.variants if status == 'measured' else ():
        assert variant.config in recorded()


def test_every_result_has_its_configuration_still():
    assert [name for name in sorted(recorded()) if not (ROOT / name).is_file()] == []


def test_the_variants_of_tasn_are_the_files_that_were_measured(monkeypatch):
    monkeypatch.chdir(ROOT)
    for variant in plan_file.read('studies/tasn_ablation.yaml').variants[2:]:
        name = variant.name.replace('attention-', '').replace('-', '_')
        file = runs.load_config(f'configs/tasn/elpv_efficientnet_lite0_{name}.yaml')
        assert runs.load_config(variant.config, config.parse_overrides(variant.overrides)) == file

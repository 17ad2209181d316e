"""fgvc doctor as a user types it: table, JSON, page, exit codes; env on machines that lack something."""
import csv
import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gluon_fgvc.commands import cli, doctor
from gluon_fgvc.data.findings import KINDS
from gluon_fgvc.machine import environment
from tests import small_run
from tests.data import plant_defects

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp('planted')
    plant_defects.plant(folder, images=150, each=2)
    (folder / 'cfg.yaml').write_text(small_run.CONFIG)
    return folder


@pytest.fixture
def call(planted, monkeypatch, capfd):
    """Call ``fgvc doctor data --cfg cfg.yaml --workers 0`` with more words: (exit code, stdout, stderr)."""
    monkeypatch.chdir(planted)

    def call(*words):
        code = cli.run(doctor.main, ['data', '--cfg', 'cfg.yaml', '--workers', '0', *map(str, words)])
        out, err = capfd.readouterr()
        return code, out, re.sub('.*(premature|Premature|Corrupt).*\n', '', err)
    return call


def test_problems_are_told_in_table_json_and_page(call, tmp_path):
    code, out, err = call('--json', tmp_path / 'new' / 'all.json', '--report', tmp_path / 'page')
    assert (code, err) == (cli.PROBLEMS, '')
    tree = json.loads((tmp_path / 'new' / 'all.json').read_text())
    assert tree['problems'] == len(tree['findings']) == 20 and sum(tree['counts'].values()) == 20
    assert tree['data']['name'] == 'image_folder' and tree['statistics']['images'] == 150
    for kind, count in tree['counts'].items():
        assert re.search(rf'^{kind} +{count}  ', out, re.MULTILINE)
    page = (tmp_path / 'page' / 'data.html').read_text()
    for kind in tree['counts']:
        assert f'id="{kind}"' in page and KINDS[kind][1] in page.replace('&#x27;', "'")
    shown = sum(len(finding['files']) for finding in tree['findings'])
    broken = tree['counts']['unreadable'] + tree['counts']['truncated']
    assert page.count('<img ') == shown - broken and page.count('image cannot be read</div>') == broken
    assert 'http' not in re.sub(r'http-equiv|http://www.w3.org', '', page)


def test_nothing_is_overwritten_unless_asked(call, tmp_path):
    target = tmp_path / 'all.json'
    target.write_text('mine')
    code, _, err = call('--json', target)
    assert code == cli.USAGE and err == f"error: '{target}' exists; name another, or add --overwrite\n"
    assert target.read_text() == 'mine'
    assert call('--json', target, '--overwrite')[0] == cli.PROBLEMS
    assert json.loads(target.read_text())['problems'] == 20


def test_ignored_kinds_do_not_count(call, tmp_path):
    words = [word for kind in KINDS for word in ('--ignore', kind)]
    code, out, _ = call(*words, '--json', tmp_path / 'all.json', '--report', tmp_path)
    assert code == cli.OK and out.splitlines()[-3] == 'no problems found'
    assert json.loads((tmp_path / 'all.json').read_text())['ignored'] == list(KINDS)
    assert 'No problems found.' in (tmp_path / 'data.html').read_text()


def test_look_alikes_are_listed_and_kept_together(call, planted, tmp_path):
    listed = tmp_path / 'new' / 'units.csv'
    code, out, _ = call('--units', listed, '--json', tmp_path / 'all.json', '--ignore', 'near_duplicate_across')
    assert code == cli.PROBLEMS and f'units: {listed}' in out
    rows = list(csv.DictReader(listed.open()))
    counts = {unit: sum(row['unit'] == unit for row in rows) for unit in {row['unit'] for row in rows}}
    truth = json.loads((planted / 'truth.json').read_text())['defects']
    alike = [entry for entry in truth if 'duplicate' in entry['kind'] or entry['kind'] == 'label_conflict']
    assert len(counts) == len(alike) == 8 and min(counts.values()) >= 2  # also those that are ignored
    call('--json', tmp_path / 'known.json', f'data.units={listed}')
    across = {unit for unit in counts if len({row['path'].split('/')[0] for row in rows if row['unit'] == unit}) > 1}
    assert json.loads((tmp_path / 'known.json').read_text())['counts']['torn_unit'] == len(across) > 0
    code, out, _ = call('data.units=none.csv')
    assert code == cli.PROBLEMS and "structure" in out and "cannot read data.units 'none.csv'" in out


def test_a_data_set_that_cannot_be_read_is_a_problem(call):
    code, out, err = call('data.root=nowhere')
    assert (code, err) == (cli.PROBLEMS, '') and "data.root 'nowhere' is not a folder" in out


@pytest.mark.parametrize('words, says', [
    (['--ignore', 'grey'], "did you mean 'gray'?"), (['--workers', '-1'], '--workers -1 must be at least 0'),
    (['data.rot=x'], "did you mean 'root'"), (['--cfg', 'none.yaml'], 'none.yaml')])
def test_mistakes_are_one_line(call, words, says):
    code, out, err = call(*words)
    assert code == cli.USAGE and says in err and err.count('\n') == 1 and out == ''


def test_without_a_subject(capsys):
    assert cli.run(doctor.main, []) == cli.USAGE and "fgvc doctor data --cfg FILE'" in capsys.readouterr().err
    for words in (['--help'], ['data', '--help'], ['env', '--help']):
        with pytest.raises(SystemExit) as stop:
            doctor.main(words)
        assert stop.value.code == 0 and 'usage: ' in capsys.readouterr().out


# --- env -------------------------------------------------------------------------------------

def env(*words, code='pass', flags=(), **variables):
    """Run ``fgvc doctor env`` in a process of its own after ``code``; return (exit code, dict of name → lines)."""
    runner = f'import runpy, sys; {code}; sys.argv = ["fgvc", "doctor", "env", *sys.argv[1:]]; ' \
             'runpy.run_module("gluon_fgvc", run_name="__main__", alter_sys=False)'
    done = subprocess.run([sys.executable, *flags, '-c', runner, *words], cwd=ROOT, text=True, timeout=300,
                          env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = {}
    for line in done.stdout.splitlines():
        mark, name, text = line.split(None, 2)
        lines.setdefault(name, []).append((mark, text))
    return done.returncode, lines, done.stderr


@pytest.fixture
def caches(tmp_path):
    return {'MXNET_HOME': str(tmp_path / 'mxnet'), 'GLUON_FGVC_HOME': str(tmp_path / 'own')}


def test_this_machine_is_well(caches, tmp_path):
    code, lines, err = env('--json', str(tmp_path / 'env.json'), **caches, OMP_NUM_THREADS='1')
    assert (code, err) == (0, '')
    assert lines['import'][0][1].startswith(f'mxnet {environment.MXNET} with ')
    assert set(lines) >= {'python', 'system', 'numpy', 'mxnet', 'gpu', 'packages', 'onnx', 'processor', 'threads',
                          'weights', 'disk'}
    checks = json.loads((tmp_path / 'env.json').read_text())
    assert [check['name'] for check in checks] == [name for name in lines for _ in lines[name]]
    code, _, err = env('--json', str(tmp_path / 'env.json'))
    assert code == 2 and 'exists; name another file' in err


def test_nothing_installed_is_told_with_the_pip_lines(caches):
    code, lines, _ = env(**caches, flags=['-S'], PYTHONPATH='')
    assert code == 3
    assert lines['numpy'] == [('!!', "NumPy is not installed: pip install 'numpy>=1.22,<1.24'")]
    assert "pip install 'gluon_fgvc[cpu]'" in lines['mxnet'][0][1] and 'import' not in lines
    mark, text = lines['packages'][0]
    assert mark == '!!' and text.endswith('pip install ' + ' '.join(
        f"'{requirement}'" for requirement in environment.PACKAGES.values()))


def test_damaged_weights_threads_and_a_crashing_mxnet(caches, tmp_path):
    models = tmp_path / 'mxnet' / 'models'
    models.mkdir(parents=True)
    (models / 'resnet18_v2-8aacf80f.params').write_bytes(b'half')
    (models / f"good-{hashlib.sha1(b'whole').hexdigest()[:8]}.params").write_bytes(b'whole')
    (tmp_path / 'path' / 'mxnet').mkdir(parents=True)
    (tmp_path / 'path' / 'mxnet' / '__init__.py').write_text('import os, signal; os.kill(os.getpid(), signal.SIGSEGV)')
    code, lines, _ = env(**caches, OMP_NUM_THREADS='999', PYTHONPATH=str(tmp_path / 'path'))
    assert code == 3
    assert lines['weights'][0][0] == '!!' and lines['weights'][0][1].endswith("resnet18_v2-8aacf80f.params'")
    assert 'good' not in lines['weights'][0][1] and lines['weights'][1][0] == 'ok'
    cpus = environment.available_cpus()
    assert lines['threads'][0][0] == '!!' and lines['threads'][0][1].endswith(f'export OMP_NUM_THREADS={cpus}')
    assert lines['import'] == [('!!', 'the process was ended by signal 11')]


def test_a_full_disk_and_missing_libraries(caches):
    code, lines, _ = env(**caches, code='import shutil, ctypes; '
                         'shutil.disk_usage = lambda path: type("Usage", (), {"free": 1 << 29}); '
                         'real = ctypes.CDLL; '
                         'ctypes.CDLL = lambda name, *a: open("/none") if name == "libGL.so.1" else real(name, *a)')
    assert code == 3 and lines['disk'][0][1].startswith('0.5 GiB free') and lines['disk'][0][0] == '!!'
    assert lines['system'][0][1].endswith('apt-get install -y libgl1')


@pytest.mark.parametrize('version, rule, holds', [
    ('0.10.5', '>=0.10.5,<0.11', True), ('0.10.5.post0', '>=0.10.5,<0.11', True), ('0.11', '>=0.10.5,<0.11', False),
    ('0.10.4', '>=0.10.5,<0.11', False), ('0.9.12', '>=0.10.5', False), ('2.0', '', True), ('1.2', '==1.2', True)])
def test_versions(version, rule, holds):
    from gluon_fgvc.machine import diagnosis
    assert diagnosis.satisfies(version, rule) == holds

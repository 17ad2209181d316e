"""The front door: a light import, names that come when they are used, and one entry to all commands."""
import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gluon_fgvc as fg
from gluon_fgvc import api, config
from gluon_fgvc.commands import entry
from gluon_fgvc.errors import CheckpointError, ConfigError, DataError
from tests import small_run

ROOT = Path(__file__).parents[1]
HEAVY = {'mxnet', 'numpy', 'cv2', 'matplotlib', 'scipy', 'gluoncv'}


def python(code, cwd):
    done = subprocess.run([sys.executable, '-c', code], cwd=cwd, env={**os.environ, 'PYTHONPATH': str(ROOT)}, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout


def fgvc(*words, cwd, program=('-m', 'gluon_fgvc'), **variables):
    return subprocess.run([sys.executable, *program, *map(str, words)], cwd=cwd, text=True,
                          env={**os.environ, 'PYTHONPATH': str(ROOT), **variables}, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE)


# --- import ----------------------------------------------------------------------------------

def test_the_import_is_light_until_a_name_is_used(tmp_path):
    out = python(f'import sys, gluon_fgvc as fg; print({HEAVY} & set(sys.modules), "train" in dir(fg)); fg.Phase; '
                 'print("mxnet" in sys.modules)', tmp_path)
    assert out == 'set() True\nTrue\n'


def test_light_rooms_stay_light(tmp_path):
    code = ('import sys, gluon_fgvc.config, gluon_fgvc.errors, gluon_fgvc.files, gluon_fgvc.run_folder, '
            f'gluon_fgvc.machine.processor; print({HEAVY} & set(sys.modules))')
    assert python(code, tmp_path) == 'set()\n'


def test_every_public_name_is_there_and_known_to_type_checkers():
    checked = next(node for node in ast.parse(Path(fg.__file__).read_text()).body if isinstance(node, ast.If))
    assert ast.unparse(checked.test) == 'TYPE_CHECKING'
    assert [alias.name for alias in checked.body[0].names] == fg.__all__ == api.__all__
    for name in fg.__all__:
        assert getattr(fg, name) is getattr(api, name) and getattr(fg, name).__doc__
    assert (Path(fg.__file__).parent / 'py.typed').is_file()
    with pytest.raises(AttributeError, match="'gluon_fgvc' has no attribute 'trian'"):
        _ = fg.trian


# --- configurations without YAML -------------------------------------------------------------

def test_sections_are_those_of_the_files_and_as_strict(tmp_path):
    small_run.write(tmp_path)
    cfg = fg.configure(tmp_path / 'images', {'name': 'mobilenetv2_0.25', 'weights': 'none'}, train={'epochs': 2})
    assert (cfg.data.name, cfg.data.options.root, cfg.train.epochs) == ('image_folder', str(tmp_path / 'images'), 2)
    assert (cfg.data.eval.crop, cfg.train.optimizer.lr, cfg.method.name) == (224, 0.01, 'finetune')
    (tmp_path / 'same.yaml').write_text(config.dump(cfg))
    assert fg.load_config(tmp_path / 'same.yaml') == cfg
    assert fg.load_config(tmp_path / 'same.yaml', {'train.epochs': 5}).train.epochs == 5
    whole = fg.configure({'root': 'x', 'eval': {'resize': 64}}, 'mobilenetv2_0.25')
    assert (whole.data.train.random_resized_crop, whole.data.eval.resize) == (None, 64)
    for words, says in ((dict(train={'epoch': 2}), "did you mean 'epochs'"),
                        (dict(method='finetun'), "did you mean 'finetune'"),
                        (dict(run={'seed': -1}), 'at least 0'), (dict(train=3), 'train: 3 is not a mapping'),
                        (dict(run='cpu0'), "run: 'cpu0' is not a mapping")):
        with pytest.raises(ConfigError, match=says):
            fg.configure('photos', 'mobilenetv2_0.25', **words)
    with pytest.raises(ConfigError, match=r"overrides: \['train.epochs=5'\] is not a mapping"):
        fg.load_config(tmp_path / 'same.yaml', ['train.epochs=5'])


def test_a_run_is_trained_evaluated_and_not_overwritten(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path))
    run = fg.train('cfg.yaml', 'run')
    assert isinstance(run, fg.Run) and run.epoch == 1
    result = fg.evaluate('run', 'val')
    assert result['images'] == 4 and 0 <= result['top1'] <= 1
    assert fg.evaluate(run, 'val')['loss'] == result['loss']
    with pytest.raises(ConfigError, match='resume=True'):
        fg.train('cfg.yaml', 'run')
    before = (tmp_path / 'run/last.json').read_text()
    assert fg.train('cfg.yaml', 'run', resume=True).epoch == 1 and (tmp_path / 'run/last.json').read_text() == before
    with pytest.raises(CheckpointError, match='nothing to resume'):
        fg.train('cfg.yaml', resume=True)
    with pytest.raises(DataError, match='elsewhere'):
        fg.train(fg.load_config('cfg.yaml', {'data.root': 'elsewhere'}))
    assert not Path('work_dirs').exists()
    newest = fg.train('cfg.yaml', test=False).folder
    assert newest.parent == Path('work_dirs/cfg')
    assert fg.train('cfg.yaml', resume=True, test=False).folder == newest
    with pytest.raises(ConfigError, match="'tests' is not one of"):
        fg.evaluate(run, 'tests')


def test_parts():
    assert 'mobilenetv2_0.25' in fg.available_backbones() and 'image_folder' in fg.available_datasets()
    backbone = fg.create_backbone('mobilenetv2_0.25')
    for classes in (3, np.int64(3)):
        assert fg.create_method('finetune', backbone, classes).net.classifier.weight.shape == (3, backbone.pool_units)
    for arguments, options, says in (
            (('finetune', 'mobilenetv2_0.25', 3), {}, r"create_backbone\('mobilenetv2_0.25'\) makes the network"),
            (('finetune', backbone, 1), {}, 'num_classes 1 is not a whole number of at least 2'),
            (('finetune', backbone, '3'), {}, "num_classes '3' is not a whole number"),
            (('finetune', backbone, 3), {'cut': 'block'}, "method.cut: 'block' is not a choice"),
            (('finetune', backbone, 3), {'depth': 3}, "unknown key 'depth'"),
            (('finetune', backbone, 3), {'dropout': 1}, 'method.dropout: 1.0 must be below 1'),
            (('finetun', backbone, 3), {}, "did you mean 'finetune'")):
        with pytest.raises(ConfigError, match=says):
            fg.create_method(*arguments, **options)


def test_registered_methods(monkeypatch):
    monkeypatch.setattr('gluon_fgvc.methods._registered', {})

    class Own(fg.Method):
        def __init__(self, backbone, num_classes, options):
            self.made_of = backbone, num_classes, options

    fg.register_method('own', Own)
    assert 'own' in fg.available_methods() and fg.create_method('own', None, 3).made_of[:2] == (None, 3)
    assert fg.configure('photos', 'mobilenetv2_0.25', 'own').method.name == 'own'
    with pytest.raises(ConfigError, match="unknown key 'depth'"):
        fg.configure('photos', 'mobilenetv2_0.25', {'name': 'own', 'depth': 3})
    for name, says in (('finetune', 'the package has one'), ('own method', 'letters')):
        with pytest.raises(ConfigError, match=says):
            fg.register_method(name, Own)
    for wrong, options, says in ((dict, None, "<class 'dict'> is no subclass of gluon_fgvc.Method"),
                                 (3, None, '3 is no subclass'), (Own, dict, 'are no dataclass')):
        with pytest.raises(ConfigError, match=says):
            fg.register_method('other', wrong, options)


def test_what_a_method_of_ones_own_has_to_say(tmp_path, monkeypatch):
    """In words, when it is left out; and a layer may find out by itself how many inputs it has."""
    from mxnet.gluon import nn
    monkeypatch.chdir(small_run.write(tmp_path))
    monkeypatch.setattr('gluon_fgvc.methods._registered', {})

    class Network(nn.HybridBlock):
        def __init__(self, body, classes):
            super().__init__()
            self.body, self.classifier = body, nn.Dense(classes)
            self.classifier.initialize()

        def hybrid_forward(self, F, images):
            return self.classifier(self.body(images).mean(axis=(2, 3)))

    class Own(fg.Method):
        def __init__(self, backbone, num_classes, options):
            self.net = self.train_net = Network(backbone, num_classes)

    def train(folder):
        fg.register_method('own', Own)
        return fg.train(fg.load_config('cfg.yaml', {'method': {'name': 'own'}}), folder)

    with pytest.raises(NotImplementedError, match=r'Own has to say its phases\(epochs\)'):
        train('first')
    Own.phases = lambda self, epochs: [fg.Phase('all', epochs)]
    with pytest.raises(NotImplementedError, match=r'Own has to say its losses\(outputs, labels, phase\)'):
        train('first')
    for wrong, says in ((lambda logits: logits, 'dict of term → NDArray, not of type NDArray'),
                        (lambda logits: {'loss': logits[:, 0]}, "no loss term can be called 'loss'"),
                        (lambda logits: {'odd': logits}, r"'odd' has shape \(4, 2\), neither \(4,\), a value")):
        Own.losses = lambda self, outputs, labels, phase, wrong=wrong: wrong(outputs['logits'])
        with pytest.raises((TypeError, ValueError), match=says):
            train('first')
    Own.losses = lambda self, outputs, labels, phase: {'cross_entropy': self.criterion(outputs['logits'], labels)}
    run = train('first')
    assert run.method.net.classifier.weight.shape == (2, 1280)
    assert fg.evaluate('first', 'val')['loss'] == fg.evaluate(run, 'val')['loss']


# --- commands --------------------------------------------------------------------------------

def test_help_lists_all_commands_and_is_quick(tmp_path):
    done = fgvc('--help', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    assert [line.split()[0] for line in done.stdout.splitlines() if line.startswith('  ')] == list(entry.COMMANDS)
    assert fgvc('--version', cwd=tmp_path).stdout == f'gluon_fgvc {fg.__version__}\n'
    code = f'''
import contextlib, io, sys
from gluon_fgvc.commands import entry
for name in entry.COMMANDS:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        entry.main([name, '--help'])
print({HEAVY} & set(sys.modules))'''
    assert python(code, tmp_path) == 'set()\n'


@pytest.mark.parametrize('words, says', [
    (['trian'], "unknown command 'trian'; did you mean 'train'?"),
    ([], 'name a command; fgvc --help lists them'),
    (['prepare_data'], "did you mean 'prepare-data'?"),
    (['train', '--cfg', 'quickstart'], "did you mean 'finetune/quickstart'?"),
    (['benchmark', 'samplerz'], "did you mean 'samplers'?"),
])
def test_what_is_mistyped_is_told_the_nearest(words, says, capsys):
    assert entry.main(words) == 2
    err = capsys.readouterr().err
    assert err.startswith('error: ') and err.count('\n') == 1 and says in err


def test_scripts_of_the_checkout_are_the_commands(tmp_path):
    """From anywhere, and though the package is not installed."""
    scripts = {path.stem for path in (ROOT / 'tools').glob('*.py')}
    assert {name.replace('-', '_') for name in entry.COMMANDS} <= scripts
    for command in 'train', 'prepare-data':
        script = ROOT / 'tools' / f"{command.replace('-', '_')}.py"
        alone = subprocess.run([sys.executable, '-S', script, '--help'], cwd=tmp_path, text=True,
                               stdout=subprocess.PIPE)
        assert alone.returncode == 0 and alone.stdout == fgvc(command, '--help', cwd=tmp_path).stdout


def test_configurations_travel_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert config.names() == sorted(f'{path.parent.name}/{path.stem}' for path in (ROOT / 'configs').glob('*/*.yaml'))
    for name in 'finetune/quickstart', 'finetune/quickstart.yaml', 'configs/finetune/quickstart.yaml':
        assert config.find(name) == ROOT / 'configs/finetune/quickstart.yaml'
    with pytest.raises(SystemExit) as stop:
        entry.main(['train', '--list-configs'])
    assert stop.value.code == 0 and capsys.readouterr().out.split() == config.names()
    own = tmp_path / 'finetune' / 'quickstart'
    own.parent.mkdir()
    own.touch()
    assert config.find('finetune/quickstart') == Path('finetune/quickstart')  # a file of the user's comes first
    monkeypatch.chdir(ROOT)
    assert config.find('finetune/quickstart') == Path('configs/finetune/quickstart.yaml')


def test_benchmarks_are_told_to_be_elsewhere(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr('gluon_fgvc.commands.benchmark.ROOT', tmp_path)
    assert entry.main(['benchmark', '--list']) == 2
    assert 'not part of the installed package' in capsys.readouterr().err

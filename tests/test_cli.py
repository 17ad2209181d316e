"""What a user types and gets: every mistake and every mishap is one line on stderr and the right exit code.

Codes: 1 failed, 2 usage or configuration, 3 a check found problems, 130 interrupted. Most commands are called
in this process; see tests/engine/test_kill.py for kills.
"""
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mxnet as mx
import numpy as np
import pytest

from gluon_fgvc import data
from gluon_fgvc import runs as run
from gluon_fgvc.commands import cli, entry
from gluon_fgvc.engine import checkpoint
from tests import small_run


def main_of(tool):
    return entry.load(tool.replace('_', '-')).main


@pytest.fixture
def call(capfd):
    """Call a tool with words; returns (exit code, stdout, stderr)."""
    def call(tool, *words):
        capfd.readouterr()
        code = cli.run(main_of(tool), [str(word) for word in words])
        out, err = capfd.readouterr()
        return code, out, err
    return call


@pytest.fixture
def fails(call):
    """Call a tool that must end with ``code`` and one line that holds all of ``says``; returns the line."""
    def fails(code, says, tool, *words):
        found, _, err = call(tool, *words)
        check_line(err, says)
        assert found == code, err
        return err
    return fails


def check_line(err, says):
    assert err.startswith('error: ') and err.count('\n') == 1 and err.endswith('\n'), err
    for text in [says] if isinstance(says, str) else says:
        assert text in err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The current directory: images and cfg.yaml."""
    monkeypatch.chdir(tmp_path)
    return small_run.write(tmp_path)


@pytest.fixture(scope='module')
def once(tmp_path_factory):
    """A folder with images, cfg.yaml and ``run``, trained; not to be changed."""
    folder = small_run.write(tmp_path_factory.mktemp('once'))
    before = os.getcwd()
    os.chdir(folder)
    try:
        assert cli.run(main_of('train'), ['--cfg', 'cfg.yaml', '--work-dir', 'run']) == cli.OK
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def trained(once, tmp_path, monkeypatch):
    """The current directory: a copy of ``once``."""
    shutil.copytree(once, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest(run, kind='last'):
    return checkpoint.read(run, kind)['parameters_sha256']


# --- help ------------------------------------------------------------------------------------

@pytest.mark.parametrize('tool', entry.COMMANDS)
def test_help_explains_every_option(tool, capsys, monkeypatch):
    parsers = []
    monkeypatch.setattr(cli.Parser, 'parse_known_args', lambda self, *_: parsers.append(self) or exit(0))
    with pytest.raises(SystemExit):
        main_of(tool)([])
    monkeypatch.undo()
    with pytest.raises(SystemExit) as stop:
        cli.run(main_of(tool), ['--help'])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and f'example:\n  fgvc {tool}' in text
    for action in parsers[0]._actions:
        assert action.help, f'{action.dest} has no help'
        assert all(option in text for option in action.option_strings)


def test_help_and_errors_of_a_real_process(tmp_path):
    help_ = small_run.start('train', '--help', cwd=tmp_path)
    wrong = small_run.start('evaluate', 'nowhere', cwd=tmp_path)
    usage = small_run.start('predict', '--top', '3', cwd=tmp_path)
    out, err = help_.communicate(timeout=100)
    assert (help_.returncode, err) == (0, '') and out.startswith('usage: fgvc train')
    out, err = wrong.communicate(timeout=100)
    assert (wrong.returncode, out) == (1, '')
    check_line(err, "'nowhere' is not a run folder")
    out, err = usage.communicate(timeout=100)
    assert (usage.returncode, out) == (2, '')
    check_line(err, '(see fgvc predict --help)')


# --- usage and configuration -----------------------------------------------------------------

@pytest.mark.parametrize('words, says', [
    ([], 'required: --cfg'),
    (['--cfg'], 'argument --cfg'),
    (['--cfg', 'missing.yaml'], "cannot read configuration 'missing.yaml': no such file"),
    (['--cfg', 'finetune/quikstart'], "did you mean 'finetune/quickstart'?"),
    (['--cfg', 'images'], "cannot read configuration 'images': Is a directory"),
    (['--cfg', 'cfg.yaml', '--sed', '3'], '--sed'),
    (['--cfg', 'cfg.yaml', '--seed', 'x'], "argument --seed: invalid int value: 'x'"),
    (['--cfg', 'cfg.yaml', '--seed', '-1'], ("override 'run.seed'", '-1 must be at least 0')),
    (['--cfg', 'cfg.yaml', '--gpus', '0;1'], "--gpus '0;1' is not a list of numbers"),
    (['--cfg', 'cfg.yaml', '--gpus', '99'], 'there is no GPU 99'),
    (['--cfg', 'cfg.yaml', '--kv-store', 'devise'], "did you mean 'device'?"),
    (['--cfg', 'cfg.yaml', 'data.bach_size=4'], ("unknown key 'bach_size'", "did you mean 'batch_size'?")),
    (['--cfg', 'cfg.yaml', 'data.batch_size', 'big'], ("override 'data.batch_size'", "'big' is not a whole number")),
    (['--cfg', 'cfg.yaml', 'data.batch_size'], "override 'data.batch_size' has no value"),
    (['--cfg', 'cfg.yaml', 'epochs=3'], "override 'epochs' is not of the form"),
    (['--cfg', 'cfg.yaml', 'trian.epochs=3'], "did you mean 'train'?"),
    (['--cfg', 'cfg.yaml', 'method.name=finetun'], "did you mean 'finetune'?"),
    (['--cfg', 'cfg.yaml', 'data.name=image_folders'], "did you mean 'image_folder'?"),
    (['--cfg', 'cfg.yaml', 'backbone.name=mobilenet_0.25'], 'did you mean'),
    (['--cfg', 'cfg.yaml', 'backbone.weights=package:x'], 'backbone.weights'),
    (['--cfg', 'cfg.yaml', 'method.cut=head'], ("'head' is not a choice", 'fc, block4, all')),
    (['--cfg', 'cfg.yaml', 'train.class_weights=[1,2,3]'], 'needs 2 factors'),
    (['--cfg', 'cfg.yaml', 'run.contexts=[cpu0,cpu0]'], 'names a device twice'),
    (['--cfg', 'cfg.yaml', 'run.contexts=[cpu0,cpu1,cpu2]', 'data.batch_size=2'], 'smaller than the number of devices'),
    (['--cfg', 'cfg.yaml', '--work-dir', 'a', '--resume', 'b'], 'not both'),
])
def test_wrong_words_to_train(here, fails, words, says):
    fails(2, says, 'train', *words)
    assert not list(here.rglob('*.params'))


def test_a_wrong_file_is_named_with_its_line(here, fails):
    text = small_run.CONFIG.replace('epochs: 1', 'epochs: many')
    (here / 'cfg.yaml').write_text(text)
    fails(2, ('cfg.yaml, line 5: train.epochs:', "'many' is not a whole number"), 'train', '--cfg', 'cfg.yaml')
    (here / 'cfg.yaml').write_text('data: {name: image_folder')
    fails(2, 'not valid YAML', 'train', '--cfg', 'cfg.yaml')
    (here / 'cfg.yaml').write_bytes(b'\xff\xfe\x00')
    fails(2, 'not a text file', 'train', '--cfg', 'cfg.yaml')


@pytest.mark.parametrize('code, says, tool, words', [
    (2, 'RUN', 'evaluate', []),
    (2, "invalid choice: 'tests'", 'evaluate', ['run', '--split', 'tests']),
    (2, 'there is no GPU 99', 'evaluate', ['run', '--gpus', '99']),
    (1, ("'runn' is not a run folder", "did you mean 'run'?"), 'evaluate', ['runn']),
    (1, "'images' is not a run folder", 'evaluate', ['images']),
    (2, 'INPUT', 'predict', ['run']),
    (2, '--top-k 0 must be at least 1', 'predict', ['run', 'images', '--top-k', '0']),
    (1, "'photos' names no image", 'predict', ['run', 'photos']),
    (1, "'images' is neither a run folder", 'predict', ['images', 'images']),
    (1, "'photos' names no image", 'export', ['run', '--images', 'photos']),
    (2, '--name and --cfg', 'study', []),
    (2, "cannot read configuration 'missing.yaml'", 'study', ['--name', 'x', '--cfg', 'missing.yaml']),
    (2, "'epochs=3' is not of the form", 'study', ['--name', 'x', '--cfg', 'cfg.yaml', '--seeds', '0', '--plan',
                                                   'epochs=3']),
    (1, "'photos' names no image", 'visualize', ['run', 'photos']),
    (1, "'images' is not a run folder", 'visualize', ['images', 'images']),
    (2, "argument --limit: '0' is not a whole number of at least 1", 'visualize', ['run', 'images', '--limit', '0']),
])
def test_wrong_words_to_the_other_tools(trained, fails, code, says, tool, words):
    fails(code, says, tool, *words)


def test_print_config_prints_what_reruns_and_trains_nothing(here, call):
    code, out, err = call('train', '--cfg', 'cfg.yaml', '--print-config', 'train.epochs', '7', '--seed', '5')
    assert (code, err) == (0, '')
    assert 'epochs: 7' in out and 'seed: 5' in out and 'early_stop_patience: 0' in out
    (here / 'again.yaml').write_text(out)
    assert call('train', '--cfg', 'again.yaml', '--print-config')[1] == out
    assert sorted(path.name for path in here.iterdir()) == ['again.yaml', 'cfg.yaml', 'images']


def test_a_reader_that_leaves_is_no_error(here):
    process = small_run.start('train', '--cfg', 'cfg.yaml', '--print-config', cwd=here)
    process.stdout.close()
    assert process.stderr.read() == '' and process.wait(60) in (0, 120)


# --- data ------------------------------------------------------------------------------------

def test_images_too_small_for_the_network(here, fails):
    fails(2, 'cannot take images of 8 x 8', 'train', '--cfg', 'cfg.yaml', 'backbone.name=vgg11',
          'data.train={random_resized_crop: 8}')


def test_no_data_folder(here, fails):
    fails(1, "data.root 'photos' is not a folder", 'train', '--cfg', 'cfg.yaml', 'data.root=photos')
    assert not (here / 'work_dirs').exists()


def test_an_empty_class(here, fails):
    (here / 'images' / 'train' / 'triangle').mkdir()
    fails(1, ("class 'triangle'", "split 'train'"), 'train', '--cfg', 'cfg.yaml')
    shutil.rmtree(here / 'images' / 'train' / 'triangle')
    for path in (here / 'images' / 'test' / 'circle').iterdir():
        path.unlink()
    fails(1, ("class 'circle'", "split 'test'"), 'train', '--cfg', 'cfg.yaml')


BREAK = {
    'truncated': lambda path: path.write_bytes(path.read_bytes()[:-200]),
    '0 bytes': lambda path: path.write_bytes(b''),
    'not an image': lambda path: path.write_text('This is a letter, not a photograph.'),
}


@pytest.mark.parametrize('reason, workers', [('truncated', 0), *((reason, 1) for reason in BREAK)])
def test_a_broken_training_image(here, fails, call, reason, workers):
    words = ['--cfg', 'cfg.yaml', '--work-dir', 'run', f'data.workers={workers}', 'data.val_fraction=0', '--no-test']
    broken = [here / 'images' / 'train' / name for name in ('circle/1.jpg', 'square/2.jpg')]
    for path in broken:
        BREAK[reason](path)
    line = fails(1, ('cannot read image', reason, 'data.bad_image'), 'train', *words)
    assert any(str(path.relative_to(here)) in line for path in broken)

    shutil.rmtree(here / 'run')
    code, out, err = call('train', *words, 'data.bad_image=skip')
    assert (code, err) == (0, '')
    for path in broken:
        assert f'skipped {path.relative_to(here)}: ' in out
    assert '2 broken images were skipped' in out
    assert digest(here / 'run')


def test_a_broken_test_image_is_named_after_training(here, fails, call):
    words = ['--cfg', 'cfg.yaml', '--work-dir', 'run']
    BREAK['truncated'](here / 'images' / 'test' / 'circle' / '0.jpg')
    fails(1, ('images/test/circle/0.jpg', 'truncated'), 'train', *words)
    assert digest(here / 'run')  # nothing is lost: without the image the same command goes on
    (here / 'images' / 'test' / 'circle' / '0.jpg').unlink()
    assert call('train', *words, '--resume')[0] == 0
    assert (here / 'run' / 'evaluation.json').exists()


@pytest.mark.parametrize('tool, words', [('predict', ['run', 'images/test']), ('visualize', ['run', 'images/test']),
                                         ('evaluate', ['run'])])
def test_a_broken_image_in_use(trained, fails, tool, words):
    BREAK['not an image'](trained / 'images' / 'test' / 'square' / '1.jpg')
    fails(1, ('images/test/square/1.jpg', 'not an image'), tool, *words)


@pytest.mark.parametrize('tool, words', [('evaluate', ['run']), ('train', ['--cfg', 'cfg.yaml', '--resume', 'run'])])
def test_data_with_other_classes_than_the_run(trained, fails, tool, words):
    for split in ('train', 'test'):
        shutil.copytree(trained / 'images' / split / 'square', trained / 'images' / split / 'rhombus')
    fails(1, ('trained on other classes', 'rhombus'), tool, *words)
    for split in ('train', 'test'):  # as many, but others
        shutil.rmtree(trained / 'images' / split / 'square')
    fails(1, 'trained on other classes', tool, *words)


# --- weights ---------------------------------------------------------------------------------

def weights_of(once, change):
    """Return the bytes of a weight file that fits, changed."""
    path, = (once / 'run' / 'checkpoints').glob('best*.params')
    return change(path.read_bytes())


@pytest.mark.parametrize('change, says', [
    (lambda data: data[:len(data) // 2], 'truncated'),
    (lambda data: data[:1000] + b'\xff' * 2000 + data[3000:], ''),
    (lambda data: data + b'x', '1 bytes follow its end'),
    (lambda data: b'These are no weights.', ''),
    (lambda data: b'', ''),
], ids=['truncated', 'corrupt', 'longer', 'text', 'empty'])
def test_broken_weights(once, here, fails, change, says):
    (here / 'my.params').write_bytes(weights_of(once, change))
    fails(1, ("my.params'", says), 'train', '--cfg', 'cfg.yaml', 'backbone.weights=my.params')
    assert not list(here.rglob('last.json'))


def test_weights_of_another_network(once, here, fails, call):
    mx.nd.save('other.params', {'conv.weight': mx.nd.ones((2, 3))})
    fails(1, ("'other.params' does not fit backbone mobilenetv2_0.25", 'missing', 'conv.weight'),
          'train', '--cfg', 'cfg.yaml', 'backbone.weights=other.params')
    fails(1, "no file 'none.params'", 'train', '--cfg', 'cfg.yaml', 'backbone.weights=none.params')
    (here / 'mine.params').write_bytes(weights_of(once, bytes))  # and these fit
    fails(1, "'mine.params' does not fit backbone mobilenetv2_0.5", 'train', '--cfg', 'cfg.yaml',
          'backbone.weights=mine.params', 'backbone.name=mobilenetv2_0.5')
    assert call('train', '--cfg', 'cfg.yaml', 'backbone.weights=mine.params', '--no-test')[0] == 0


# --- training that cannot go on --------------------------------------------------------------

EXPLODES = ['train.epochs=3', 'train.schedule={name: step, at: [1], factor: 1.0e+30}']


def test_a_loss_that_is_not_finite(here, fails, call):
    fails(1, ('is not finite at step', 'epoch 1', 'lower train.optimizer.lr'), 'train', '--cfg', 'cfg.yaml',
          'train.optimizer.lr=1e30', 'backbone.name=mobilenetv3_small')
    assert not list(here.rglob('last.json'))
    # ReLU turns NaN into 0 on CPUs and hides it from the loss, as MobileNetV3's hard swish does not.
    fails(1, ('is not finite (epoch 1', 'lower train.optimizer.lr'), 'train', '--cfg', 'cfg.yaml',
          'train.optimizer.lr=1e30')
    assert not list(here.rglob('last.json'))
    fails(1, ('is not finite', 'the checkpoints of earlier epochs are intact'), 'train', '--cfg', 'cfg.yaml',
          '--work-dir', 'run', *EXPLODES)
    assert checkpoint.read(here / 'run', 'last')['epoch'] == checkpoint.read(here / 'run', 'best')['epoch'] == 1
    assert call('evaluate', 'run', '--split', 'val')[0] == 0


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of its own that holds one set of checkpoints but not two."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    # The set is 2 MB, and evaluation needs some room as well.
    mount = ['mount', '-t', 'tmpfs', '-o', 'size=3900k', 'none', str(folder)]
    if os.geteuid() or shutil.which('mount') is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip('mounting a small disk is not allowed here')
    yield folder
    subprocess.run(['umount', '-l', str(folder)], check=True)


def test_a_full_disk(here, small_disk, fails, call):
    run = small_disk / 'run'
    line = fails(1, str(run), 'train', '--cfg', 'cfg.yaml', '--work-dir', run, 'train.epochs=3')
    assert 'No space left on device' in line or 'MiB free' in line
    assert checkpoint.read(run, 'last')['epoch'] == checkpoint.read(run, 'best')['epoch'] == 1
    assert call('evaluate', run)[0] == 0
    fill = small_disk / 'fill'
    with pytest.raises(OSError), open(fill, 'wb') as stream:
        stream.write(bytes(10 ** 7))
    for tool, words in (('evaluate', [run]), ('export', [run]), ('predict', [run, 'images', '--out', small_disk / 'p']),
                        ('visualize', [run, 'images'])):
        fails(1, str(small_disk), tool, *words)
    assert checkpoint.read(run, 'last') and checkpoint.read(run, 'best')
    fill.unlink()
    assert call('evaluate', run)[0] == 0


@pytest.mark.parametrize('limit', [1000, 500_000], ids=['any file', 'checkpoints'])
def test_writes_that_fail_during_training(here, call, limit):
    """The limit on the size of files stands for a full disk where none can be made."""
    process = small_run.start('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', 'train.epochs=300', cwd=here)
    while not (here / 'run' / 'last.json').exists() and process.poll() is None:
        time.sleep(0.01)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    check_line(err, 'run/')
    assert checkpoint.read(here / 'run', 'last')['epoch'] >= 1 and checkpoint.read(here / 'run', 'best')
    assert call('evaluate', 'run', '--split', 'val')[0] == 0


@pytest.mark.parametrize('delay', [0, 0.1])  # of a busy machine
def test_an_interrupt_within_a_destructor_is_not_lost(capfd, monkeypatch, delay):
    start = threading.Thread.start
    monkeypatch.setattr(threading.Thread, 'start', lambda thread: (start(thread), time.sleep(delay)))

    class Array:
        def __del__(self):
            signal.raise_signal(signal.SIGINT)

    def main(_):
        array = Array()
        del array
        time.sleep(60)

    assert cli.run(main) == 130
    assert capfd.readouterr().err == 'error: interrupted\n'


def test_an_array_that_was_never_built_is_destroyed_in_silence(capfd):
    def main(argv):
        mx.nd.NDArray.__new__(mx.nd.NDArray)  # Ctrl-C within its constructor leaves it so

    assert cli.run(main) == 0 and capfd.readouterr().err == ''


def test_a_warning_is_one_line_without_its_place():
    script = "import warnings; from gluon_fgvc.commands import cli; cli.run(lambda argv: warnings.warn('one\\nthing'))"
    process = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True)
    assert (process.returncode, process.stdout, process.stderr) == (0, '', 'warning: one thing\n')


def test_interrupted(here):
    process = small_run.start('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', 'train.epochs=300',
                              'data.workers=1', cwd=here)
    while not (here / 'run' / 'last.json').exists() and process.poll() is None:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the workers as well
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and err == 'error: interrupted\n'
    assert checkpoint.read(here / 'run', 'last')['epoch'] >= 1


# --- run folders -----------------------------------------------------------------------------

def test_a_folder_that_holds_a_run_is_not_used_again(trained, fails):
    before = digest(trained / 'run')
    fails(2, ("--work-dir 'run' holds a run already", '--resume'), 'train', '--cfg', 'cfg.yaml', '--work-dir', 'run')
    assert digest(trained / 'run') == before


def test_a_work_dir_that_cannot_be_made(here, fails):
    fails(1, "'cfg.yaml'", 'train', '--cfg', 'cfg.yaml', '--work-dir', 'cfg.yaml')
    fails(1, "'cfg.yaml/run'", 'train', '--cfg', 'cfg.yaml', '--work-dir', 'cfg.yaml/run')
    fails(1, 'cfg.yaml', 'train', '--cfg', 'cfg.yaml', 'run.work_dir=cfg.yaml')


@pytest.mark.parametrize('tool, words, says', [
    ('predict', ['run', 'images', '--out', 'cfg.yaml'], "'cfg.yaml"),
    ('export', ['run', '--out', 'cfg.yaml'], 'cfg.yaml'),
    ('visualize', ['run', 'images', '--out', 'images'], "Is a directory: 'images'"),
    ('visualize', ['run', 'images', '--out', 'nowhere/x.html'], "No such file or directory: 'nowhere/x.html'")])
def test_a_place_that_cannot_be_written(trained, fails, tool, words, says):
    fails(1, says, tool, *words)


def test_nothing_to_resume(here, fails):
    fails(1, 'nothing to resume', 'train', '--cfg', 'cfg.yaml', '--resume')
    fails(1, "'nowhere' is not a run folder", 'train', '--cfg', 'cfg.yaml', '--resume', 'nowhere')
    fails(1, "'images' is not a run folder", 'train', '--cfg', 'cfg.yaml', '--resume', 'images')


@pytest.mark.parametrize('override, was', [('train.optimizer.lr=0.3', '0.002'), ('train.epochs=2', '1'),
                                           ('data.train.flip=false', 'True'), ('run.seed=1', '0'),
                                           ('train.optimizer={name: adam, lr: 0.1}', 'sgd')])
def test_another_configuration_is_not_resumed(trained, fails, override, was):
    fails(2, ("cannot resume 'run'", override.split('=')[0], f'was {was}' if was != 'sgd' else "'sgd'"),
          'train', '--cfg', 'cfg.yaml', '--resume', 'run', override)


def test_what_is_recorded_may_change(trained, call):
    words = ('run.log_every=1', 'run.log_gradients=1', 'run.save_every=2', 'run.tensorboard=true')
    assert call('train', '--cfg', 'cfg.yaml', '--resume', 'run', *words)[0] == 0


def test_a_run_keeps_its_split_and_refuses_another(trained, call, fails):
    stored = json.loads((trained / 'run' / 'split.json').read_text())
    assert {name: part['images'] for name, part in stored['splits'].items()} == {'train': 12, 'val': 4, 'test': 4}
    cfg = run.load_config('cfg.yaml')
    assert ['images/train/' + name[len('train/'):] for name in stored['val']] == data.build(cfg.data).val.paths
    os.rename('images/train/circle/0.jpg', 'images/train/square/zero.jpg')
    says = "split 'train' is not what it was when training began (then 12 images, now 12, or others)"
    fails(1, (says, 'start a new run'), 'train', '--cfg', 'cfg.yaml', '--resume', 'run')
    fails(1, "split 'train' is not", 'evaluate', 'run', '--split', 'train')
    assert json.loads((trained / 'run' / 'split.json').read_text()) == stored


def test_a_run_of_earlier_versions_has_no_split_and_goes_on(trained, call):
    (trained / 'run' / 'split.json').unlink()
    assert call('evaluate', 'run', '--split', 'val')[0] == 0
    assert call('train', '--cfg', 'cfg.yaml', '--resume', 'run')[0] == 0
    assert (trained / 'run' / 'split.json').is_file()


def test_further_looks_at_the_test_split_are_told(trained, call):
    assert 'has now been evaluated' not in call('evaluate', 'run', '--split', 'val')[1]
    assert 'the test split of this run has now been evaluated 2 times' in call('evaluate', 'run')[1]


def test_a_run_without_a_checkpoint_gives_way(here, fails, call):
    """After a first attempt that failed, the corrected command needs no other folder."""
    words = 'train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--no-test'
    fails(1, 'is not finite', *words, 'train.optimizer.lr=1e30')
    assert call(*words)[0] == 0


def test_two_processes_do_not_train_in_one_folder(trained, fails):
    code = ("import sys; from gluon_fgvc.files import lock; held = lock('run/.lock'); print(flush=True); "
            'sys.stdin.read()')
    other = subprocess.Popen([sys.executable, '-c', code], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             env={**os.environ, 'PYTHONPATH': str(Path(cli.__file__).parents[1])})
    other.stdout.readline()
    try:
        fails(1, "another process is training in 'run'", 'train', '--cfg', 'cfg.yaml', '--resume', 'run')
    finally:
        other.communicate()


def test_a_finished_run_is_resumed_without_a_change(trained, call):
    before, names = digest(trained / 'run'), sorted(path.name for path in (trained / 'run').iterdir())
    evaluations = (trained / 'run' / 'test_evaluations.jsonl').read_text()
    code, out, err = call('train', '--cfg', 'cfg.yaml', '--resume', 'run', 'run.log_every=5')
    assert (code, err) == (0, '') and 'resuming after epoch 1' in out
    assert digest(trained / 'run') == before
    assert sorted(path.name for path in (trained / 'run').iterdir()) == names
    assert (trained / 'run' / 'test_evaluations.jsonl').read_text() == evaluations  # the test split is used once


def test_the_newest_run_is_resumed(trained, call):
    (trained / 'work_dirs' / 'cfg').mkdir(parents=True)
    shutil.move(trained / 'run', trained / 'work_dirs' / 'cfg' / '20260102-000000')
    (trained / 'work_dirs' / 'cfg' / '20260101-000000').mkdir()
    (trained / 'work_dirs' / 'cfg' / '20260101-000000' / 'config.yaml').write_text('')
    code, out, _ = call('train', '--cfg', 'cfg.yaml', '--resume', '--no-test')
    assert code == 0 and 'resuming after epoch 1' in out and '20260102-000000' in out
    shutil.rmtree(trained / 'work_dirs' / 'cfg' / '20260102-000000')
    code, out, _ = call('train', '--cfg', 'cfg.yaml', '--resume', '--no-test')  # nothing was kept there: anew
    assert code == 0 and 'resuming' not in out and '20260101-000000' in out


def flip(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize('kind', checkpoint.KINDS)
@pytest.mark.parametrize('damage, says', [
    (lambda file, manifest: flip(file), ('checkpoints/', 'SHA-256 differs')),
    (lambda file, manifest: file.write_bytes(file.read_bytes()[:-1]), 'SHA-256 differs'),
    (lambda file, manifest: file.unlink(), 'is missing'),
    (lambda file, manifest: manifest.write_text(manifest.read_text()[:50]), 'is not a checkpoint record'),
    (lambda file, manifest: manifest.write_text('[1]'), 'is not a checkpoint record'),
    (lambda file, manifest: manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2')),
     'format 2, this version reads 1')], ids=['flipped', 'truncated', 'gone', 'half a record', 'no record', 'format'])
def test_a_damaged_checkpoint(trained, fails, kind, damage, says):
    file, = (trained / 'run' / 'checkpoints').glob(f'{kind}-*.params')
    damage(file, trained / 'run' / f'{kind}.json')
    fails(1, says, 'evaluate', 'run', '--which', kind)
    if kind == 'last':
        fails(1, says, 'train', '--cfg', 'cfg.yaml', '--resume', 'run')


def test_damaged_optimizer_states(trained, fails):
    file, = (trained / 'run' / 'checkpoints').glob('last-*.npz')
    flip(file)
    fails(1, ('last-0001.npz', 'SHA-256 differs'), 'train', '--cfg', 'cfg.yaml', '--resume', 'run')


@pytest.mark.parametrize('content', [b'[1]\n', b'{"a": 1}\n', b'\xff\xfe\n', b'\0' * 9, b'{"kind": "ep'])
def test_what_a_crash_left_of_the_metrics(trained, call, content):
    path = trained / 'run' / 'metrics.jsonl'
    whole = path.read_bytes()
    path.write_bytes(whole + content)
    assert call('train', '--cfg', 'cfg.yaml', '--resume', 'run')[0] == 0
    assert path.read_bytes() == whole


@pytest.mark.parametrize('name, text, code', [('config.yaml', 'data: {', 2), ('classes.json', '[', 1),
                                              ('classes.json', '{"a": 1}', 1)])
def test_a_damaged_description_of_the_run(trained, fails, name, text, code):
    (trained / 'run' / name).write_text(text)
    fails(code, f'run/{name}', 'evaluate', 'run')


def test_a_run_without_checkpoint(trained, fails):
    for kind in checkpoint.KINDS:
        (trained / 'run' / f'{kind}.json').unlink()
    for tool, words in (('evaluate', ['run']), ('export', ['run']), ('predict', ['run', 'images']),
                        ('visualize', ['run', 'images'])):
        fails(1, "'run' has no 'best' checkpoint yet", tool, *words)


def test_no_validation_split_to_evaluate(here, call, fails):
    assert call('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', 'data.val_fraction=0', '--no-test')[0] == 0
    fails(2, 'there is no val split', 'evaluate', 'run', '--split', 'val')


# --- a whole day -----------------------------------------------------------------------------

def test_every_tool_in_turn(trained, call):
    code, out, err = call('evaluate', 'run', '--split', 'val', '--which', 'last')
    assert (code, err) == (0, '') and out.startswith('val: top-1 ') and 'circle' in out
    assert ', the last)' in out  # and no word of a split that is not there
    evaluation = json.loads((trained / 'run' / 'evaluation_val_last.json').read_text())
    assert evaluation['images'] == 4 and f"ROC AUC {evaluation['roc_auc']:.4f} on 4 images" in out
    assert out.count(', taken from probability ') == len(evaluation['operating_points']) / 2 == 1
    for tool, words, made in (
            ('predict', ['run', 'images/test'], 'predictions/predictions.csv'),
            ('export', ['run'], 'run/export/model.json'),
            ('visualize', ['run', 'images/test', '--limit', 2], 'run/maps.html'),
            ('study', ['--name', 'x', '--cfg', 'cfg.yaml', '--seeds', 0, 1, '--plan'], 'cfg.yaml')):
        code, out, err = call(tool, *words)
        assert (code, err) == (0, '') and out and (trained / made).exists(), tool


def test_a_study_of_real_trainings(here, call):
    words = ['--name', 'tiny', '--cfg', 'cfg.yaml', '--seeds', '0', '--results', 'results', '--evaluate']
    code, out, err = call('study', *words)
    assert (code, err) == (0, '') and '1 runs, 0 finished' in out
    assert '| cfg | test | 4 | 1 |' in (here / 'results.md').read_text()
    assert 'finished before' in call('study', *words)[1]
    code, _, err = call('study', '--name', 'wrong', '--cfg', 'cfg.yaml', '--results', 'results', 'data.root=photos')
    assert code == 1 and "data.root 'photos' is not a folder" in err and '1 of 1 runs failed' in err


# --- weights out -----------------------------------------------------------------------------

def test_weights_of_a_run_that_torch_has_no_network_for(call, fails, trained):
    """tests/tools/test_way_out.py has those that it has."""
    fails(2, 'neither torchvision nor timm builds mobilenetv2_0.25', 'import_weights', 'run', '--to', 'safetensors',
          '--out', 'best.safetensors')
    fails(2, "run 'run' has mobilenetv2_0.25", 'import_weights', 'run', '--backbone', 'vgg11', '--out', 'x')
    (trained / 'run' / 'best.json').unlink()
    fails(1, "no 'best' checkpoint", 'import_weights', 'run', '--to', 'safetensors', '--out', 'x')


# --- starting from another run, and first things first ---------------------------------------

def test_a_training_starts_from_the_weights_of_another(trained, call, fails):
    before = mx.nd.load(str(next(Path('run/checkpoints').glob('best-*.params'))))
    small_run.write(trained / 'more', classes=('circle', 'square', 'oval'))
    code, out, _ = call('train', '--cfg', 'cfg.yaml', 'data.root=more/images', '--work-dir', 'next',
                        '--init-from', 'run', 'train.optimizer.lr=0', '--no-test')
    assert code == 0 and "starting from 'run', epoch 1: " in out and 'of another shape, and new: ' in out
    after = mx.nd.load(str(next(Path('next/checkpoints').glob('last-*.params'))))
    weights_ = [name for name in before if name.endswith('weight') and before[name].shape == after[name].shape]
    others = [name for name in before if before[name].shape != after[name].shape]
    assert others and len(weights_) > 10
    for name in weights_:
        np.testing.assert_array_equal(before[name].asnumpy(), after[name].asnumpy())
    fails(1, 'it is of another backbone or method', 'train', '--cfg', 'cfg.yaml', 'data.root=more/images', '--work-dir',
          'other', '--init-from', 'run', 'backbone.name=cifar_resnet20_v1')
    fails(1, "'images' is not a run folder", 'train', '--cfg', 'cfg.yaml', '--work-dir', 'unmade', '--init-from',
          'images')
    assert not Path('unmade').exists()
    fails(2, 'either --resume or --init-from', 'train', '--cfg', 'cfg.yaml', '--resume', '--init-from', 'run')


def test_settings_come_before_data(here, fails):
    fails(2, "unknown backbone 'resnet81'", 'train', '--cfg', 'cfg.yaml', 'data.root=nowhere', 'backbone.name=resnet81')
    fails(1, "no file 'nowhere.params'", 'train', '--cfg', 'cfg.yaml', 'data.root=nowhere',
          'backbone.weights=nowhere.params')
    assert not Path('work_dirs').exists()


def test_nothing_is_made_where_data_are_missing(here, fails):
    fails(1, "'nowhere' is not a folder", 'train', '--cfg', 'cfg.yaml', 'data.root=nowhere')
    assert not Path('work_dirs').exists()


def test_a_moved_data_set_is_named_on_resume(trained, call, fails):
    os.rename('images', 'moved')
    fails(1, "'images' is not a folder", 'train', '--cfg', 'cfg.yaml', '--resume', 'run')
    assert call('train', '--cfg', 'cfg.yaml', '--resume', 'run', 'data.root=moved')[0] == 0
    assert call('evaluate', 'run', '--data-root', 'moved', '--split', 'val')[0] == 0
    assert call('visualize', 'run', '--data-root', 'moved', '--split', 'test', '--limit', 1)[0] == 0
    assert call('export', 'run', '--data-root', 'moved')[0] == 0
    os.remove(next(Path('moved/train/circle').iterdir()))
    fails(1, 'is not what it was', 'train', '--cfg', 'cfg.yaml', '--resume', 'run', 'data.root=moved')


def test_new_folders_of_one_second_differ(here):
    cfg = run.load_config('cfg.yaml')
    made = {run.new_folder(cfg, 'cfg') for _ in range(3)}
    assert len(made) == 3 and all(folder.is_dir() for folder in made)


def test_names_that_are_no_text_pass_through_a_training(here, call):
    for path in sorted(Path('images').rglob('*.jpg'))[::2]:
        os.rename(path, os.fsencode(path.parent) + b'/caf\xe9' + os.fsencode(path.name))
    broken = next(Path('images/train/circle').glob('caf*'))
    broken.write_bytes(b'x')
    code, out, err = call('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', 'data.bad_image=skip')
    assert code == 0 and 'caf\\udce9' in out
    table = Path('run/predictions.csv').read_bytes()
    assert b'caf\xe9' in table and len(Path('run/test_evaluations.jsonl').read_text().splitlines()) == 1
    assert call('train', '--cfg', 'cfg.yaml', '--resume', 'run', 'data.bad_image=skip')[0] == 0


def test_a_batch_that_broken_images_leave_too_small_for_the_devices_trains(here, call):
    for path in list(Path('images/train/circle').iterdir())[:3]:
        path.write_bytes(b'x')
    code, out, err = call('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', 'data.bad_image=skip', 'data.batch_size=2',
                          'run.contexts=[cpu0, cpu1]', 'data.val_fraction=0')
    assert code == 0, err
    assert '3 broken images were skipped' in out


def test_resume_takes_an_override_for_what_it_is(trained, call, fails):
    assert call('train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--resume', 'run.log_every=5')[0] == 0
    fails(1, "nothing to resume: no run folder in 'w/cfg'", 'train', '--cfg', 'cfg.yaml', '--resume', 'run.work_dir=w')
    fails(1, "'work.dir' is not a run folder", 'train', '--cfg', 'cfg.yaml', '--resume', 'work.dir')

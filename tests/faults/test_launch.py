"""Several processes on MXNet's parameter server equal one, and the failure of one ends all and loses nothing."""
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from gluon_fgvc import runs
from gluon_fgvc.commands import launch
from gluon_fgvc.engine import checkpoint, team
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.machine import jobs
from tests import small_run
from tests.faults.trainings import assert_same

# Statistics of BatchNorm and dropout are of each device alone; without them several processes are one, up to rounding.
ALIKE = ['method.batch_norm=fixed', 'method.dropout=0', 'backbone.name=cluttered_cnn', 'data.batch_size=6',
         'data.train={resize: [32, 32], flip: true}', 'train.epochs=2']


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(small_run.write(tmp_path))
    return tmp_path


def start(launcher, *words, within=()):
    """Start ``fgvc launch`` with the options ``launcher``, or, where there are none, the training by itself.

    :param within: words of a command that runs the one that follows it.
    """
    words = ['train', '--cfg', 'cfg.yaml', '--no-test', '--resume', *words]
    command = ['launch', *launcher, *words] if launcher else words
    return subprocess.Popen([*within, sys.executable, '-W', 'ignore', '-m', 'gluon_fgvc', *command],
                            env={**os.environ, 'PYTHONPATH': str(small_run.ROOT), 'OMP_NUM_THREADS': '1'},
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def train(launcher, *words):
    process = start(launcher, *words)
    out, err = process.communicate(timeout=250)
    assert process.returncode == 0, out + err


def parameters(folder):
    return checkpoint.read_parameters(folder, checkpoint.read(folder, 'last'))


def difference(run, other):
    ours, theirs = parameters(run), parameters(other)
    return max(np.abs(ours[name].asnumpy() - theirs[name].asnumpy()).max() for name in theirs)


def test_two_workers_equal_one_process(here):
    train([], '--work-dir', 'one', *ALIKE)
    train(['-n', '2'], '--work-dir', 'two', *ALIKE)
    assert difference(here / 'two', here / 'one') <= 1e-6
    for ours, theirs in zip(small_run.records(here / 'two'), small_run.records(here / 'one')):
        assert list(ours) == list(theirs)
        for key in ours:
            assert ours[key] == (pytest.approx(theirs[key], abs=1e-5) if isinstance(ours[key], float) else theirs[key])


@pytest.mark.slow
@pytest.mark.faults
def test_two_servers_and_three_workers_repeat_their_bits(here):
    """With batch statistics and dropout of each worker's own, too."""
    batch = [word for word in ALIKE if 'method' not in word] + ['train.ema=0.9', 'data.workers=1']
    train([], '--work-dir', 'one', *ALIKE)
    train(['-n', '3', '-s', '2'], '--work-dir', 'three', *ALIKE)
    assert difference(here / 'three', here / 'one') <= 1e-6
    for name in 'ab':
        train(['-n', '3', '-s', '2'], '--work-dir', name, *batch)
    assert_same(here / 'a', here / 'b')


@pytest.mark.slow
@pytest.mark.faults
def test_four_workers_of_two_devices_each(here):
    words = [*ALIKE, 'data.batch_size=8']
    train([], '--work-dir', 'one', *words)
    train(['-n', '4'], '--work-dir', 'four', *words, 'run.contexts=[cpu0, cpu1]')
    assert difference(here / 'four', here / 'one') <= 1e-6


LONG = [*[word for word in ALIKE if 'method' not in word and 'epochs' not in word], 'train.epochs=8', 'train.ema=0.9',
        'run.save_every_batches=1']


def interrupted(here, harm, within=()):
    """Return (exit code, stderr, seconds) of a launched training to which ``harm(process)`` was done midway."""
    process = start(['-n', '2'], '--work-dir', 'run', *LONG, within=within)
    manifest = here / 'run' / 'last.json'
    while process.poll() is None and not (manifest.exists() and checkpoint.read(here / 'run', 'last')['epoch']):
        time.sleep(0.05)
    harm(process)
    began = time.monotonic()
    err = process.communicate(timeout=120)[1]
    return process.returncode, err, time.monotonic() - began


CHILDREN = ['scheduler 0 of 1', 'server 0 of 1', 'worker 0 of 2', 'worker 1 of 2']  # in the order of their start


def kill(process, name):
    children = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(process.pid)], capture_output=True, text=True)
    os.kill(int(children.stdout.split()[CHILDREN.index(name)]), signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize('name', CHILDREN)
def test_a_killed_process_ends_the_job_which_resumes(here, name):
    code, err, seconds = interrupted(here, lambda process: kill(process, name))
    assert code == 1 and f'error: {name} died of signal 9: the job is ended' in err and seconds < 60
    if name == 'worker 1 of 2':
        train(['-n', '2'], '--work-dir', 'run', *LONG)
        train(['-n', '2'], '--work-dir', 'whole', *LONG)
        assert_same(here / 'run', here / 'whole')


@pytest.mark.slow
@pytest.mark.faults
@pytest.mark.parametrize('harm', [['ip', 'link', 'set', 'lo', 'down'],
                                  ['ss', '-K', '-t', 'state', 'established']], ids=['silent', 'reset'])
def test_a_lost_network_ends_the_job(here, harm):
    """In a network of its own, which only the administrator can make."""
    alone = ['unshare', '--net', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
    if subprocess.run([*alone, 'true'], capture_output=True).returncode:
        pytest.skip('networks cannot be made here')
    code, err, seconds = interrupted(here, lambda process: subprocess.run(
        ['nsenter', '--net', '--target', str(process.pid), *harm], check=True, capture_output=True), alone)
    assert code == 1 and 'error: the connection to the s' in err and 'is lost; --resume goes on' in err, err
    assert 'of 2 ended with exit code 1: the job is ended' in err and seconds < 60


@pytest.mark.slow
@pytest.mark.faults
def test_a_job_that_is_asked_to_end_keeps_its_batch(here):
    code, err, _ = interrupted(here, lambda process: process.send_signal(signal.SIGTERM))
    assert code == 75 and 'asked to end by SIGTERM: all is kept up to epoch' in err, err
    train(['-n', '2'], '--work-dir', 'run', *LONG)
    train(['-n', '2'], '--work-dir', 'whole', *LONG)
    assert_same(here / 'run', here / 'whole')


# --- without a process -----------------------------------------------------------------------

def test_who_starts_where(capsys, tmp_path):
    (tmp_path / 'hosts').write_text('alpha  # the first\n\nbeta\n')
    assert launch.main(['-n', '3', '--hosts', str(tmp_path / 'hosts'), '--port', '9000', '--print', 'train', '--cfg',
                        'a b.yaml']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(':')[0] for line in lines] == ['alpha', 'alpha', 'alpha', 'beta', 'alpha']
    for line, role in zip(lines, ['scheduler', 'server', 'worker', 'worker', 'worker']):
        for word in (f'DMLC_ROLE={role}', 'DMLC_PS_ROOT_URI=alpha', 'DMLC_PS_ROOT_PORT=9000', 'DMLC_NUM_WORKER=3'):
            assert word in line
    assert lines[-1].endswith("train --cfg 'a b.yaml' --kv-store dist_sync")


@pytest.mark.parametrize('words, says', [
    (['-n', '2', 'evaluate', 'run'], 'what is launched is a training'),
    (['--hosts', 'none', '--port', '1', 'train'], "cannot read 'none'"),
    (['--hosts', 'hosts', 'train'], '--hosts needs --port'),
    (['--hosts', 'evil', '--port', '1', 'train'], "'-oProxyCommand=x' is not the name of a host"),
    (['--join', 'train'], 'neither Slurm nor MPI')])
def test_wrong_words(tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'hosts').write_text('alpha\n')
    (tmp_path / 'evil').write_text('-oProxyCommand=x\n')
    with pytest.raises(ConfigError, match=says):
        launch.main(words)


def test_the_place_among_the_tasks_of_a_scheduler():
    assert jobs.place_among_tasks({'SLURM_PROCID': '2', 'SLURM_NTASKS': '4', 'SLURM_LAUNCH_NODE_IPADDR': 'a'}) == (
        2, 4, 'a')
    assert jobs.place_among_tasks({'OMPI_COMM_WORLD_RANK': '0', 'OMPI_COMM_WORLD_SIZE': '2'}) == (0, 2, None)
    assert jobs.place_among_tasks({}) is None


def test_one_process_is_no_team_and_a_team_is_not_one_process(monkeypatch):
    assert team.join('device').size == 1
    with pytest.raises(ConfigError, match="'dist_sync' is of several processes, which fgvc launch starts; not set"):
        team.join('dist_sync')
    monkeypatch.setenv('DMLC_ROLE', 'worker')
    with pytest.raises(ConfigError, match="'device' is of one process, and DMLC_ROLE is 'worker'"):
        team.join('device')


def test_asynchronous_updates_are_refused(here):
    cfg = runs.load_config('cfg.yaml', [('run.kvstore', 'dist_async')])
    with pytest.raises(ConfigError, match="run.kvstore: 'dist_async' updates on the servers, which know nothing of"):
        runs.train(cfg, 'run')
    assert not (here / 'run').exists()


def test_limbs_add_exactly_in_any_order():
    import itertools

    import mxnet as mx
    parts = [np.random.RandomState(seed).normal(size=500) * np.logspace(-7, 4, 500) for seed in range(4)]
    cut = [team._cut(mx.nd.array(part)) for part in parts]
    sums = {team._join(a + b + c + d).asnumpy().tobytes() for a, b, c, d in itertools.permutations(cut)}
    assert len(sums) == 1
    exact = np.sum([part.astype('float32').astype('float64') for part in parts], axis=0)
    np.testing.assert_allclose(np.frombuffer(sums.pop(), 'float32'), exact, rtol=1e-7, atol=2e-12)
    plain = {(a + b + c + d).tobytes() for a, b, c, d in itertools.permutations(np.float32(parts))}
    assert len(plain) > 1  # which float32 by itself does not

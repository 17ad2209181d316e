"""Memory over time: of a predictor over many calls, and of a training with all of its processes.

``python -m tests.faults.memory predictions FOLDER COUNT`` and ``… training FOLDER SECONDS`` print the resident memory
of the first and the last quarter of what comes after the warm-up, the first fifth, and the growth between their means.
"""
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PAGE = os.sysconf('SC_PAGE_SIZE')


def resident(process='self'):
    """Return the bytes of memory that a process holds, 0 if there is none."""
    try:
        return int(Path(f'/proc/{process}/statm').read_text().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


def growth(samples):
    """Return (first, last, share) of ``samples``, in their order: means of quarters after the warm-up."""
    samples = samples[len(samples) // 5:]
    quarter = len(samples) // 4
    first, last = (sum(part) / quarter for part in (samples[:quarter], samples[-quarter:]))
    return first, last, last / first - 1


def predictions(folder, count):
    """Classify ``count`` images, one by one and of five sizes, with an exported model; return samples of memory."""
    from gluon_fgvc import deploy
    from tests.deploy import small
    small.export_net(small.build_net(), folder / 'export')
    paths = small.write_pictures(folder / 'images')
    predictor, samples = deploy.Predictor(folder / 'export'), []
    for number in range(count):
        predictor.predict([paths[number % len(paths)]])
        if number % 20 == 0:
            samples.append(resident())
    return samples


def training(folder, seconds):
    """Train for ``seconds`` with two loader processes, validation and checkpoints; return samples of memory."""
    from tests import small_run
    small_run.write(folder, train=64, test=4)
    process = small_run.start(
        'train', '--cfg', 'cfg.yaml', '--work-dir', 'run', '--no-test', 'train.epochs=1000000', 'train.ema=0.9',
        'train.mixup=0.2', 'data.workers=2', 'run.log_every=20', 'run.save_every_batches=7', cwd=folder,
        stdout=subprocess.DEVNULL)
    samples = []
    while len(samples) < seconds and process.poll() is None:
        time.sleep(1)
        found = subprocess.run(['pgrep', '-g', str(process.pid)], capture_output=True, text=True).stdout.split()
        samples.append(sum(map(resident, found)))
    os.kill(process.pid, signal.SIGTERM)
    error = process.communicate(timeout=100)[1]
    if process.returncode != 75:
        raise SystemExit(f'the training ended with {process.returncode}: {error}')
    now = json.loads((folder / 'run' / 'last.json').read_text())['progress']
    print(f"{now['epoch']} epochs, {now['step']} steps")
    return samples


def main(kind, folder, count):
    samples = {'predictions': predictions, 'training': training}[kind](Path(folder), int(count))
    first, last, share = growth(samples)
    print(f'{kind}: {first / 1e6:.1f} MB, at the end {last / 1e6:.1f} MB: {share:+.2%}')
    return share


if __name__ == '__main__':
    main(*sys.argv[1:])

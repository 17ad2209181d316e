"""Run folders by name, what describes a run in one, and whether it still holds for a data set."""
import datetime
import difflib
import os
import platform
import re
from pathlib import Path

import mxnet as mx
import numpy as np

from gluon_fgvc import __version__, config, data
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.machine import processor
from gluon_fgvc.run_folder import RunFolder, runs_in
from gluon_fgvc.runs.build import load_config
from gluon_fgvc.runs.longer import begins_alike


def new_folder(cfg, stem):
    """Make a new run folder, ``<work_dir>/<stem>/<timestamp>``, and return it: several processes get several."""
    base = Path(cfg.run.work_dir) / stem / datetime.datetime.now().strftime('%Y%m%d-%H%M%S')
    folder, count = base, 1
    while True:
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            count += 1
            folder = base.with_name(f'{base.name}-{count}')


def latest_folder(cfg, stem):
    """Return the newest run folder of a configuration, for ``--resume`` without a path."""
    parent = Path(cfg.run.work_dir) / stem
    folders = runs_in(parent)
    if not folders:
        raise CheckpointError(f"nothing to resume: no run folder in '{parent}'")
    return folders[-1]


def existing_folder(path):
    """Return ``path`` as a run folder to resume, or say that it is none."""
    folder = Path(path)
    if not RunFolder(folder).is_run:
        raise CheckpointError(f"'{folder}' is not a run folder (it has no {RunFolder.config}){_near(folder)}")
    return folder


def _near(folder):
    names = os.listdir(folder.parent) if folder.parent.is_dir() else []
    near = [name for name in difflib.get_close_matches(folder.name, names, 1) if name != folder.name]
    return f"; did you mean '{folder.parent / near[0]}'?" if near else ''


def claim(folder, cfg, source):
    """Write what describes the run, or check that the folder's run is this one.

    A run that ended before its first checkpoint has nothing to keep: another one may take its place.

    :returns: None, or one line on what of this machine will keep a resumed run from the bits of an uninterrupted one.
    """
    files, now, note = RunFolder(folder), environment(), None
    split = data.split_record(source)
    plan = None if cfg.backbone.widths is None else _channel_plan(cfg)
    if files.has_checkpoint:
        # Where the folder lists its images, the data set may have moved: the list tells whether it is the same.
        before = load_config(files.config)
        moved, longer = files.split.exists(), begins_alike(before, cfg)
        free = (*config.EXECUTION_KEYS, 'run.pointing_game')  # which evaluations play
        _check_same(folder, before, cfg, free + ('data.root',) * moved + ('train.epochs',) * longer)
        check_same_classes(folder, files.read_classes(), source.classes)
        check_same_split(folder, split, ('train', 'val'))
        note = _other_rounding(files.read_environment(), now)
        if plan is not None and files.widths.read_bytes() != plan:
            raise ConfigError(f"cannot resume '{folder}': backbone.widths '{cfg.backbone.widths}' is another plan now")
    else:
        files.forget_checkpoints()
    if plan is not None:  # the run does not depend on the file it came from
        files.write_widths(plan)
    files.describe(config.dump(cfg), source.classes, split, now)
    return note


# Of `environment`, what decides the order in which floating-point sums are made → how a person says it.
_ROUNDING = {'onednn': 'instruction set', 'omp_num_threads': 'number of OpenMP threads', 'mxnet': 'MXNet'}


def _other_rounding(before, now):
    """Say in one line what differs between two environments that decides rounding; None if nothing is known to."""
    if not isinstance(before, dict):
        return None
    changed = [f'{words} {now[key]}, before {before[key]}' for key, words in _ROUNDING.items()
               if key in before and before[key] != now[key]]
    return changed and ('resumed with another ' + ' and '.join(changed) + ': sums are rounded in another order, so the '
                        'result differs from an uninterrupted run in its last bits') or None


def _channel_plan(cfg):
    try:
        return Path(cfg.backbone.widths).read_bytes()
    except OSError as error:
        raise ConfigError(f"backbone.widths: cannot read '{cfg.backbone.widths}': {error.strerror}") from None


def check_same_classes(folder, stored, classes):
    """Check that a data set has the ``classes`` that were ``stored`` when training began, in their order."""
    if stored is not None and stored != list(classes):
        differing = ', '.join(f"'{name}'" for name in sorted(set(stored) ^ set(classes)))
        raise CheckpointError(f"'{folder}' was trained on other classes than the data set has now: "
                              + (f'only in one of them: {differing}' if differing else 'their order differs'))


def check_same_split(folder, split, names):
    """Check that the images of splits ``names`` are those that training began with."""
    stored = RunFolder(folder).read_split()
    for name in names if stored else ():
        before, now = (record['splits'].get(name) for record in (stored, split))
        if before != now:
            count = [record['images'] if record else 0 for record in (before, now)]
            raise CheckpointError(f"'{folder}': split '{name}' is not what it was when training began (then {count[0]} "
                                  f'images, now {count[1]}, or others): the data set has changed; restore it, or '
                                  'start a new run')


def _check_same(folder, before, after, free):
    before, after = (_flat(config.to_tree(cfg)) for cfg in (before, after))
    for key in after:
        if key not in free and before.get(key) != after[key]:
            why = ', and the epochs done are not the first of so many' if key == 'train.epochs' else ''
            raise ConfigError(f"cannot resume '{folder}': {key} is {after[key]!r} now and was {before.get(key)!r}{why}"
                              f"; start a new run instead, with --init-from '{folder}' to go on from its weights")


def _flat(tree, prefix=''):
    if not isinstance(tree, dict):
        return {prefix[:-1]: tree}
    return {key: value for name, part in tree.items() for key, value in _flat(part, f'{prefix}{name}.').items()}


def environment():
    """Return what a figure depends on besides the configuration: versions, processor, threads."""
    try:
        cpu = re.search(r'model name\s*:\s*(.+)', Path('/proc/cpuinfo').read_text())[1]
    except (OSError, TypeError):
        cpu = platform.processor()
    return {'gluon_fgvc': __version__, 'python': platform.python_version(), 'mxnet': mx.__version__,
            'numpy': np.__version__, 'system': platform.platform(), 'cpu': cpu,
            'instruction_sets': processor.instruction_sets(), 'onednn': processor.onednn_choice(),
            'cores': len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count(),
            'omp_num_threads': os.environ.get('OMP_NUM_THREADS'), 'gpus': mx.context.num_gpus()}

"""Studies: the same training for several configurations, variants, seeds and folds.

A study runs the training command once for each of them, one after another, in a folder of its own under
``<work dir>/<study>/<configuration>/``. It can be stopped and repeated at any time: finished runs are skipped,
unfinished ones resumed. :mod:`.plan_file` reads a study from a file, :mod:`.results` collects what came out,
:mod:`.page` shows it.
"""
import itertools
import re
import signal
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Optional, Tuple

from gluon_fgvc.config import EXECUTION_KEYS, parse_overrides, to_tree
from gluon_fgvc.config import digest as digest_of
from gluon_fgvc.errors import CheckpointError, ConfigError, Interrupted, UserError
from gluon_fgvc.machine.jobs import FORWARDED, INTERRUPTED
from gluon_fgvc.run_folder import RunFolder

NAME = re.compile(r'[A-Za-z0-9][\w.-]*')  # of studies and variants: they name files and folders


# --- planning --------------------------------------------------------------------------------

@dataclass(frozen=True)
class StudyRun:
    """One training of a study."""

    config: Path
    sha256: str                # of the values in the configuration file
    overrides: Tuple[str, ...]  # KEY=VALUE
    seed: int
    fold: Optional[int]
    folder: Path
    variant: Optional[str] = None  # name of what the overrides make of the configuration
    seeded: Tuple[str, ...] = ()   # options of the data that have the run's seed, too

    @property
    def settings(self):
        """What must not change between two visits to the folder."""
        return {'config': self.config.as_posix(), 'sha256': self.sha256, 'overrides': list(self.overrides),
                'seed': self.seed, 'fold': self.fold, **self.named,
                **({'seeded': list(self.seeded)} if self.seeded else {})}

    @property
    def changes(self):
        """All overrides of the configuration but ``run.seed``."""
        fold = () if self.fold is None else (f'data.fold={self.fold}',)
        return (*self.overrides, *fold, *(f'{key}={self.seed}' for key in self.seeded))

    @property
    def named(self):
        """The variant as an entry of a record; none where the configuration is run as it is."""
        return {'variant': self.variant} if self.variant else {}

    @property
    def entry(self):
        """What its results are filed under."""
        return self.config.as_posix(), self.variant

    @property
    def title(self):
        fold = '' if self.fold is None else f' fold {self.fold}'
        variant = f' {self.variant}' if self.variant else ''
        return f'{self.config.stem}{variant} seed {self.seed}{fold}'


def plan(name, configs, seeds, folds=(), overrides=(), work_dir='work_dirs/study', variants=()):
    """Return the list of :class:`StudyRun` of a study, configuration by configuration.

    :param folds: values of ``data.fold``; empty if the data set has none.
    :param variants: pairs (name, overrides); each is run of each configuration, instead of what its file says.
    :raises ConfigError: for a name that is no file name, repeated seeds, folds or configuration
        names, or a configuration that cannot be read.
    """
    if not NAME.fullmatch(name):
        raise ConfigError(f"--name '{name}' must be made of letters, digits, '_', '-' and '.'")
    configs = [Path(config) for config in configs]
    for what, values in (('--cfg', [c.stem for c in configs]), ('--seeds', list(seeds)), ('--folds', list(folds)),
                         ('--variant', [variant for variant, _ in variants])):
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(f"{what}: '{value}' is given twice; its runs would share a folder")
    for variant, changes in variants:
        if not NAME.fullmatch(variant) or not changes:
            raise ConfigError(f"--variant '{variant}' must be a name of letters, digits, '_', '-' and '.', followed by "
                              'the overrides that make it: NAME KEY=VALUE …')
    for override in [*overrides, *(change for _, changes in variants for change in changes)]:
        if override.split('=')[0] in ('run.seed', 'data.fold'):
            raise ConfigError(f"override '{override}': give seeds with --seeds and folds with --folds")
    return [run for config in configs for variant, changes in variants or [(None, ())]
            for run in expand(name, config, (variant, (*overrides, *changes)), seeds, folds, work_dir)]


def expand(name, config, variant, seeds, folds, work_dir):
    """Return the list of :class:`StudyRun` of one variant of a configuration, for all seeds and folds.

    :param config: path of the configuration.
    :param variant: (its name or None, overrides KEY=VALUE that make it).
    :raises ConfigError: if the configuration cannot be read.
    """
    digest = digest_of(config)
    runs = []
    for seed, fold in itertools.product(seeds, folds or (None,)):
        leaf = f'seed{seed}' if fold is None else f'seed{seed}-fold{fold}'
        runs.append(StudyRun(config, digest, tuple(variant[1]), seed, fold,
                             Path(work_dir) / name / config.stem / (variant[0] or '') / leaf, variant[0]))
    return runs


def seeded_with_data(runs, load):
    """Return ``runs``, whose data vary with the seed, too: its split, what is drawn of it, which images it has.

    Otherwise the seeds of a study share their images, and the spread is of starts and orders alone.

    :param load: (path, overrides as :func:`~gluon_fgvc.config.parse_overrides` returns them) → configuration.
    :raises ConfigError: if a configuration cannot be read.
    """
    found = []
    for run in runs:
        options = to_tree(load(run.config, parse_overrides(run.overrides)).data)
        keys = tuple(f'data.{key}' for key in options if key == 'seed' or key.endswith('_seed'))
        found.append(replace(run, seeded=keys))
    return found


def status(run, evaluate):
    """Return 'new', 'unfinished' or 'finished'.

    A run is finished when training ended well and, if ``evaluate``, the test split was evaluated.

    :raises ConfigError: if the folder holds a run of other settings, which must not be mixed in.
    """
    if not run.folder.exists() or not any(run.folder.iterdir()):
        return 'new'
    record = _record_of(run.folder)
    if record is None:
        raise ConfigError(f"'{run.folder}' holds something that is no run of this study: move it away, "
                          'or choose another --name')
    before, now = ({**settings, 'overrides': deciding(settings.get('overrides', ()))}
                   for settings in (record, run.settings))
    for key in {**before, **now}:
        if key != 'trained' and before.get(key) != now.get(key):
            raise ConfigError(f"'{run.folder}' was run with another {_WORDS.get(key, key)}: choose another --name, "
                              'or move the folder away to run it again')
    if tested(run.folder) or (record.get('trained') and not evaluate):
        return 'finished'
    return 'unfinished'


_WORDS = {'seeded': '--vary', 'sha256': 'content of the configuration file', 'config': 'configuration file'}


def deciding(overrides):
    """Return those ``overrides`` KEY=VALUE that have a part in what is learnt, as a list."""
    return [word for word in overrides if word.split('=')[0] not in EXECUTION_KEYS]


def tested(folder):
    """Return whether the run in ``folder`` was evaluated on its test split."""
    try:
        return RunFolder(folder).read_evaluation()['split'] == 'test'
    except (CheckpointError, OSError, KeyError, TypeError):
        return False


def trained(folder):
    """Return whether the training of the run in ``folder`` ended well."""
    record = _record_of(folder)
    return record is not None and record.get('trained', False)


def _record_of(folder):
    """Return what the study wrote into ``folder``, None if it did not."""
    try:
        record = RunFolder(folder).read_study()
    except (CheckpointError, OSError):
        return None
    return record if isinstance(record, dict) else None


def describe(runs, evaluate):
    """Return the plan as lines of text: each run, its state and its folder."""
    states = [status(run, evaluate) for run in runs]
    width = max(len(run.title) for run in runs)
    lines = [f'{run.title:<{width}}  {state:<10}  {run.folder}' for run, state in zip(runs, states)]
    after = 'the test split is evaluated once after each' if evaluate else 'the test split stays untouched'
    return lines + [f"{len(runs)} runs, {states.count('finished')} finished; {after}"]


# --- running ---------------------------------------------------------------------------------

def command_of(run, train, evaluate):
    """Return the command line of one run, to be appended to the command ``train`` (list of words).

    It resumes what the folder has.
    """
    words = [*train, '--cfg', str(run.config)]
    if RunFolder(run.folder).is_run:
        words.append('--resume')  # before another option: it would take an override for its value
    words += ['--work-dir', str(run.folder), '--seed', str(run.seed)]
    if not evaluate:
        words.append('--no-test')
    return [*words, *run.changes]


def check(runs, check_words):
    """Check the configuration of every run, once where runs differ in nothing but their seed.

    :param check_words: function of a configuration's path and overrides KEY=VALUE, which raises ConfigError.
    :raises ConfigError: naming the first run that could not start.
    """
    seen = set()
    for run in runs:
        words = (run.config, run.changes)
        if words not in seen:
            seen.add(words)
            try:
                check_words(*words)
            except UserError as error:
                raise ConfigError(f"'{run.title}' cannot be run: {error}") from None


def execute(runs, train, evaluate=False, say=print, after=lambda: None):
    """Run what is not finished, one after another, and return the runs that failed.

    :param train: the training command as a list of words, e.g. ``[sys.executable, '-m', 'gluon_fgvc', 'train']``.
    :param say: called with a line of text before and after each run.
    :param after: called after each run, so that what is finished is shown whatever becomes of the others.
    :raises Interrupted: if a training was asked to end. SIGTERM and SIGUSR1 are handed on to it.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        place = f'[{number}/{len(runs)}] {run.title}'
        if status(run, evaluate) == 'finished':
            say(f'{place}: finished before')
            continue
        run.folder.mkdir(parents=True, exist_ok=True)
        if _record_of(run.folder) is None:
            _record(run, trained=False)
        say(f'{place}: {run.folder}')
        code = _call(command_of(run, train, evaluate))
        if code == INTERRUPTED:
            raise Interrupted(f'{place}: the training was asked to end and has kept what it had; '
                              'the same command goes on from there')
        if code == 0:
            _record(run, trained=True)
        if code or status(run, evaluate) != 'finished':
            why = f'exit code {code}' if code else 'no evaluation of the test split was written'
            say(f'{place}: failed ({why})')
            failed.append(run)
        after()
    return failed


def _call(command):
    """Run ``command`` and return its exit code; what asks this process to end asks the command, and is waited for."""
    process = subprocess.Popen(command)
    before = {number: signal.signal(number, lambda number, _: process.send_signal(number)) for number in FORWARDED}
    try:
        return process.wait()
    except KeyboardInterrupt:  # a terminal has sent it to the command, too
        process.wait()
        raise
    finally:
        process.kill()  # nothing, where it has ended
        for number, handler in before.items():
            signal.signal(number, handler)


def _record(run, trained):
    RunFolder(run.folder).write_study({**run.settings, 'trained': trained})

"""Studies: the same training for several configurations, seeds and folds, and the page of their results.

A study runs the training command once for each (configuration, seed, fold), one after another, in a
folder of its own under ``<work dir>/<study>/<configuration>/``. It can be stopped and repeated at any
time: finished runs are skipped, unfinished ones resumed. What came out is kept in
``docs/results/<study>.json``, from which ``docs/results.md`` is rendered.
"""
import hashlib
import itertools
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Tuple

from gluon_fgvc.analysis import run_files
from gluon_fgvc.analysis.charts import Line, write_lines
from gluon_fgvc.analysis.statistics import mean_and_sd
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import write_atomically

METRICS = ('top1', 'top3', 'top5', 'mean_class_accuracy', 'loss', 'focus')
MACHINE = ('cpu', 'cores', 'omp_num_threads', 'gpus', 'python', 'mxnet', 'numpy', 'gluon_fgvc')  # kept of env.json
RECORD = 'study.json'  # what the study knows about a run, in the run's folder


# --- planning --------------------------------------------------------------------------------

@dataclass(frozen=True)
class StudyRun:
    """One training of a study."""

    config: Path
    sha256: str                # of the configuration file
    overrides: Tuple[str, ...]  # KEY=VALUE
    seed: int
    fold: Optional[int]
    folder: Path
    variant: Optional[str] = None  # name of what the overrides make of the configuration

    @property
    def settings(self):
        """What must not change between two visits to the folder."""
        return {'config': self.config.as_posix(), 'sha256': self.sha256, 'overrides': list(self.overrides),
                'seed': self.seed, 'fold': self.fold, **self.named}

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
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', name):
        raise ConfigError(f"--name '{name}' must be made of letters, digits, '_', '-' and '.'")
    configs = [Path(config) for config in configs]
    for what, values in (('--cfg', [c.stem for c in configs]), ('--seeds', list(seeds)), ('--folds', list(folds)),
                         ('--variant', [variant for variant, _ in variants])):
        for value in values:
            if values.count(value) > 1:
                raise ConfigError(f"{what}: '{value}' is given twice; its runs would share a folder")
    for variant, changes in variants:
        if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', variant) or not changes:
            raise ConfigError(f"--variant '{variant}' must be a name of letters, digits, '_', '-' and '.', followed by "
                              'the overrides that make it: NAME KEY=VALUE …')
    for override in [*overrides, *(change for _, changes in variants for change in changes)]:
        if override.split('=')[0] in ('run.seed', 'data.fold'):
            raise ConfigError(f"override '{override}': give seeds with --seeds and folds with --folds")
    runs = []
    for config in configs:
        try:
            digest = hashlib.sha256(config.read_bytes()).hexdigest()
        except OSError as error:
            raise ConfigError(f"cannot read configuration '{config}': {error.strerror}") from None
        for (variant, changes), seed, fold in itertools.product(variants or [(None, ())], seeds, folds or (None,)):
            leaf = f'seed{seed}' if fold is None else f'seed{seed}-fold{fold}'
            runs.append(StudyRun(config, digest, (*overrides, *changes), seed, fold,
                                 Path(work_dir) / name / config.stem / (variant or '') / leaf, variant))
    return runs


def status(run, evaluate):
    """Return 'new', 'unfinished' or 'finished'.

    A run is finished when training ended well and, if ``evaluate``, the test split was evaluated.

    :raises ConfigError: if the folder holds a run of other settings, which must not be mixed in.
    """
    if not run.folder.exists() or not any(run.folder.iterdir()):
        return 'new'
    try:
        record = json.loads((run.folder / RECORD).read_text(encoding='utf-8'))
    except (OSError, ValueError):
        raise ConfigError(f"'{run.folder}' holds something that is no run of this study: move it away, "
                          'or choose another --name') from None
    for key, value in run.settings.items():
        if record.get(key) != value:
            raise ConfigError(f"'{run.folder}' was run with another {_WORDS.get(key, key)}: choose another --name, "
                              'or move the folder away to run it again')
    if _tested(run.folder) or (record.get('trained') and not evaluate):
        return 'finished'
    return 'unfinished'


_WORDS = {'sha256': 'content of the configuration file', 'config': 'configuration file'}


def _tested(folder):
    try:
        return json.loads((folder / 'evaluation.json').read_text(encoding='utf-8'))['split'] == 'test'
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    if (run.folder / 'config.yaml').exists():
        words.append('--resume')  # before another option: it would take an override for its value
    words += ['--work-dir', str(run.folder), '--seed', str(run.seed)]
    if not evaluate:
        words.append('--no-test')
    fold = () if run.fold is None else (f'data.fold={run.fold}',)
    return [*words, *run.overrides, *fold]


def execute(runs, train, evaluate=False, say=print):
    """Run what is not finished, one after another, and return the runs that failed.

    :param train: the training command as a list of words, e.g. ``[sys.executable, 'tools/train.py']``.
    :param say: called with a line of text before and after each run.
    """
    failed = []
    for number, run in enumerate(runs, 1):
        place = f'[{number}/{len(runs)}] {run.title}'
        if status(run, evaluate) == 'finished':
            say(f'{place}: finished before')
            continue
        run.folder.mkdir(parents=True, exist_ok=True)
        if not (run.folder / RECORD).exists():
            _record(run, trained=False)
        say(f'{place}: {run.folder}')
        code = subprocess.run(command_of(run, train, evaluate)).returncode
        if code == 0:
            _record(run, trained=True)
        if code or status(run, evaluate) != 'finished':
            why = f'exit code {code}' if code else 'no evaluation of the test split was written'
            say(f'{place}: failed ({why})')
            failed.append(run)
    return failed


def _record(run, trained):
    write_atomically(run.folder / RECORD, json.dumps({**run.settings, 'trained': trained}, indent=1) + '\n')


# --- collecting ------------------------------------------------------------------------------

def collect(name, runs, command, results):
    """Add the finished among ``runs`` to ``<results>/<name>.json`` and return its path.

    Runs that the file has already and that are not among ``runs`` stay, and so does every
    evaluation of the test split ever listed.

    :param command: the command line, for those who repeat the study.
    :raises ConfigError: if the file has a configuration of the same name but other content.
    """
    path = Path(results) / f'{name}.json'
    old = check_results(name, runs, results)
    configs = {_filed(c): c for c in old['configs']}
    evaluations = {json.dumps(e, sort_keys=True): e for e in old['evaluations']}
    for run in runs:
        if not (_tested(run.folder) or _trained(run.folder)):
            continue
        files = run_files.read(run.folder)
        entry = configs.setdefault(run.entry, {
            'config': run.config.as_posix(), **run.named, 'sha256': run.sha256, 'overrides': list(run.overrides),
            'resolved': _resolved(files), 'runs': []})
        entry['runs'] = [r for r in entry['runs'] if (r['seed'], r['fold']) != (run.seed, run.fold)]
        entry['runs'].append(_measured(run, files))
        for evaluation in files.test_evaluations:
            kept = {'config': run.config.as_posix(), **run.named, 'seed': run.seed, 'fold': run.fold,
                    **{key: evaluation.get(key) for key in ('evaluated_at', 'checkpoint', 'images', 'top1')}}
            if evaluation.get('views'):
                kept['checkpoint'] = f"{evaluation.get('checkpoint')}, {evaluation['views']}"
            evaluations[json.dumps(kept, sort_keys=True)] = kept
    for entry in configs.values():
        entry['runs'].sort(key=lambda r: (r['seed'], -1 if r['fold'] is None else r['fold']))
        entry['summary'] = {split: _summary([r[split] for r in entry['runs'] if r[split]]) for split in ('test', 'val')}
    tree = {'name': name, 'commands': [*(c for c in old['commands'] if c != command), command],
            'configs': list(configs.values()),  # the one that was given first is what others are compared with
            'evaluations': sorted(evaluations.values(), key=lambda e: (
                str(e['evaluated_at']), _label(e), e['seed'], str(e['fold'])))}
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, json.dumps(tree, indent=1, ensure_ascii=False) + '\n')


def check_results(name, runs, results):
    """Return the results file of a study as a tree, an empty one if there is none.

    :raises ConfigError: if it has a configuration of ``runs`` with other content or overrides.
    """
    path = Path(results) / f'{name}.json'
    tree = load(path) if path.exists() else {'name': name, 'commands': [], 'configs': [], 'evaluations': []}
    ours = {run.entry: (run.sha256, list(run.overrides)) for run in runs}
    for entry in tree['configs']:
        if ours.get(_filed(entry), (entry['sha256'], entry['overrides'])) != (entry['sha256'], entry['overrides']):
            raise ConfigError(f"'{_label(entry)}' or its overrides changed since '{path}' was written: "
                              'choose another --name, so that results are not mixed')
    return tree


def _filed(entry):
    return entry['config'], entry.get('variant')


def _label(entry):
    return entry['config'] + _variant(entry)


def _variant(entry):
    return f" ({entry['variant']})" if entry.get('variant') else ''


def load(path):
    """Read a results file.

    :raises CheckpointError: if it is not one.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding='utf-8'))
        tree['name'], tree['commands'], tree['configs'], tree['evaluations']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not a results file of tools/study.py: {error!r}") from None
    return tree


def _trained(folder):
    try:
        return json.loads((folder / RECORD).read_text(encoding='utf-8'))['trained']
    except (OSError, ValueError, KeyError):
        return False


def _resolved(files):
    """The configuration with every default, without what differs from run to run."""
    tree = json.loads(json.dumps(files.config))
    for section, key in (('run', 'seed'), ('run', 'work_dir'), ('data', 'fold')):
        if tree and isinstance(tree.get(section), dict):
            tree[section].pop(key, None)
    return tree


def _measured(run, files):
    epochs, evaluation = files.epochs or [], files.evaluation or {}
    tested = evaluation if evaluation.get('split') == 'test' else None
    if tested and tested.get('focus'):
        tested = {**tested, 'focus': tested['focus']['share'], 'boxes_cover': tested['focus']['area']}
    chosen = run_files.choice(files)
    at_choice = next((e for e in epochs if e['epoch'] == chosen.epoch), {})
    val = {metric: at_choice[f'val_{metric}'] for metric in METRICS if at_choice.get(f'val_{metric}') is not None}
    return {'seed': run.seed, 'fold': run.fold, 'epochs': len(epochs), 'chosen_by': chosen._asdict(),
            'curve': [e.get('val_top1') for e in epochs],
            'test': tested and {key: tested[key] for key in ('images', 'skipped', *METRICS, 'boxes_cover')
                              if key in tested},
            'val': val or None, 'cost': evaluation.get('cost'),
            'seconds': round(sum(e.get('seconds', 0) for e in epochs), 1),
            'machine': {key: files.env[key] for key in MACHINE if key in files.env} if files.env else None}


def _summary(measured):
    summary = {}
    for metric in METRICS:
        values = [m[metric] for m in measured if m.get(metric) is not None]
        if values:
            mean, sd = mean_and_sd(values)
            summary[metric] = {'mean': mean, 'sd': sd, 'runs': len(values)}
    return summary


# --- the page --------------------------------------------------------------------------------

def render(results):
    """Return docs/results.md as text, made from all ``*.json`` in the folder ``results`` and nothing else."""
    parts = [_INTRODUCTION]
    studies = [load(path) for path in sorted(Path(results).glob('*.json'))]
    parts += [_study(tree) for tree in studies] or ['No study has been run yet.\n']
    return '\n'.join(parts)


_INTRODUCTION = """\
# Results

Written by `python tools/study.py --render` from `docs/results/*.json`; edit neither by hand.

Accuracies are in percent: mean ± sample standard deviation (n − 1) over runs that differ in seed or fold. Test figures
are of one view of each image. Validation figures are those of the chosen epoch, on the images that chose it, and
therefore optimistic. Every evaluation of a test split is listed. The JSON files hold the complete configurations.
"""


def _study(tree):
    name = _namer(tree)
    parts = [f"## {tree['name']}\n", _summary_table(tree), *_comparison(tree), '### Runs\n', _run_table(tree)]
    if _curves(tree):
        parts.insert(2, f"![Validation accuracy after each epoch](results/{tree['name']}.svg)\n")
    evaluations = [[name(e), e['seed'], _or_dash(e['fold']), _when(e['evaluated_at']), _or_dash(e['checkpoint']),
                    _percent(e['top1'])] for e in tree['evaluations']]
    parts.append(f'### Evaluations of the test split: {len(evaluations)}\n')
    if evaluations:
        parts.append(_table(('Config', 'Seed', 'Fold', 'When', 'Checkpoint', 'Top-1'), evaluations))
    parts.append('### To repeat\n')
    parts.append('```sh\n' + '\n'.join(tree['commands']) + '\n```\n')
    parts += [f"- `{c['config']}`{_variant(c)}, SHA-256 `{c['sha256']}`"
              + (f", with `{' '.join(c['overrides'])}`" if c['overrides'] else '') for c in tree['configs']]
    parts += [f'- Machine: {machine}' for machine in _machines(tree)]
    return '\n'.join(parts) + '\n'


def draw_curves(results):
    """Write ``<results>/<study>.svg``, validation accuracies by epoch, for the studies that have them."""
    for path in sorted(Path(results).glob('*.json')):
        tree = load(path)
        if _curves(tree):
            write_lines(path.with_suffix('.svg'), _curves(tree), 'epoch', 'validation top-1, %')


def _curves(tree):
    """Return a :class:`Line` for each configuration, over the epochs that all of its runs have."""
    name, lines = _namer(tree), []
    for entry in tree['configs']:
        runs = [run['curve'] for run in entry['runs'] if run.get('curve') and None not in run['curve']]
        if runs:
            spreads = [mean_and_sd([100 * value for value in values]) for values in zip(*runs)]
            lines.append(Line(name(entry), range(1, len(spreads) + 1), [mean for mean, _ in spreads],
                              [sd for _, sd in spreads] if len(runs) > 1 else None))
    return lines


def _namer(tree):
    """Return the function that names an entry: by its variant in studies of one configuration, else by its file."""
    entries = tree['configs']
    if len({entry['config'] for entry in entries}) == 1 and all(entry.get('variant') for entry in entries):
        return lambda entry: entry['variant']
    return lambda entry: Path(entry['config']).with_suffix('').as_posix().replace('configs/', '') + _variant(entry)


def _summary_table(tree):
    named, rows, metrics = _namer(tree), [], ['top1', 'top3', 'top5', 'mean_class_accuracy']
    covered = sorted({f"{100 * r['test']['boxes_cover']:.1f}" for entry in tree['configs'] for r in entry['runs']
                      if r['test'] and 'boxes_cover' in r['test']})
    if covered:
        metrics.append('focus')
    for entry in tree['configs']:
        for split, name in (('test', 'test'), ('val', 'validation')):
            summary = entry['summary'][split]
            if summary:
                images = sorted({r['test']['images'] for r in entry['runs'] if r['test']}) if split == 'test' else []
                rows.append([named(entry), name, ', '.join(f'{n:,}' for n in images) or '–', summary['top1']['runs'],
                             *(_spread(summary.get(metric)) for metric in metrics),
                             _minutes([r['seconds'] for r in entry['runs']])])
    table = _table(('Config', 'Split', 'Images', 'Runs', 'Top-1', 'Top-3', 'Top-5', 'Mean class',
                    *(['In boxes'] if covered else []), 'Minutes a run'), rows)
    if not covered:
        return table
    return (f'{table}\nIn boxes: the mean share, in percent, of the activation of the true class that lies in the '
            f"boxes of the data set, which cover {', '.join(covered)} % of the images.\n")


def _comparison(tree):
    """Return the paragraphs that compare the others with the first configuration, or nothing where it is alone."""
    if not tree['configs']:
        return []
    first, *others = tree['configs']
    split = 'test' if all(run['test'] for entry in tree['configs'] for run in entry['runs']) else 'val'
    named, reference, rows = _namer(tree), _by_run(first, split), []
    for entry in others:
        own = _by_run(entry, split)
        differences = [own[key]['top1'] - reference[key]['top1'] for key in own if key in reference]
        if differences:
            mean, sd = mean_and_sd(differences)
            rows.append([named(entry), len(differences), _signed(mean, sd), *_cost_cells(first, entry, split, mean)])
    if not rows:
        return []
    rows.insert(0, [named(first), '–', '–', *_cost_cells(first, first, split, 0)])
    name = 'test' if split == 'test' else 'validation'
    note = (f'Differences of {name} top-1 to {named(first)}, in points, between runs of the same seed and fold. '
            'Parameters are in millions, multiply-adds (of one image) in billions.\n')
    head = ('Config', 'Runs', 'Difference', 'Parameters', 'Points a million more', 'Multiply-adds', 'Top-1 a billion')
    return ['### Compared\n', note, _table(head, rows)]


def _by_run(entry, split):
    return {(run['seed'], run['fold']): run[split] for run in entry['runs']
            if (run[split] or {}).get('top1') is not None}


def _cost_of(entry):
    return next((run['cost'] for run in entry['runs'] if run.get('cost')), None)


def _cost_cells(first, entry, split, gain):
    """Return parameters, gain for each million more of them, multiply-adds, and accuracy for each billion."""
    before, cost = _cost_of(first), _cost_of(entry)
    if not cost:
        return ['–'] * 4
    added = (cost['parameters'] - before['parameters']) / 1e6 if before else 0
    work = cost.get('multiply_adds', 0) / 1e9
    return [f"{cost['parameters'] / 1e6:.2f}", f'{100 * gain / added:+.2f}' if added > 0 else '–',
            f'{work:.3f}' if work else '–',
            f"{100 * entry['summary'][split]['top1']['mean'] / work:.0f}" if work else '–']


def _signed(mean, sd):
    return f'{100 * mean:+.2f}' + ('' if sd is None else f' ± {100 * sd:.2f}')


def _run_table(tree):
    name, rows = _namer(tree), []
    for entry in tree['configs']:
        for run in entry['runs']:
            chosen = run['chosen_by']
            by = f"{chosen['split']} {chosen['metric']}".replace('top', 'top-') if chosen['split'] else 'being last'
            epoch = '–' if chosen['epoch'] is None else f"{chosen['epoch'] + 1} of {run['epochs']}"
            val, test = ((run[split] or {}).get('top1') for split in ('val', 'test'))
            rows.append([name(entry), run['seed'], _or_dash(run['fold']), epoch, by, _percent(val), _percent(test),
                         _minutes([run['seconds']])])
    return _table(('Config', 'Seed', 'Fold', 'Epoch', 'Chosen by', 'Validation top-1', 'Test top-1', 'Minutes'), rows)


def _table(head, rows):
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('| ' + ' | '.join(str(cell).replace('|', '\\|') for cell in line) + ' |' for line in lines) + '\n'


def _or_dash(value):
    return '–' if value is None else value


def _when(stamp):
    return '–' if stamp is None else stamp[:19].replace('T', ' ')


def _percent(share):
    return '–' if share is None else f'{100 * share:.2f}'


def _spread(summary):
    if not summary:
        return '–'
    sd = '' if summary['sd'] is None else f" ± {100 * summary['sd']:.2f}"
    return f"{100 * summary['mean']:.2f}{sd}"


def _minutes(seconds):
    return f'{sum(seconds) / len(seconds) / 60:.1f}'


def _machines(tree):
    """Each distinct machine once, in words."""
    found = []
    for entry in tree['configs']:
        for run in entry['runs']:
            words = _words(run['machine']) if run['machine'] else 'not recorded'
            if words not in found:
                found.append(words)
    return found


def _words(machine):
    names = {'cpu': '', 'omp_num_threads': 'OMP_NUM_THREADS='}
    return ', '.join(f"{names.get(key, key + ' ')}{value}" for key, value in machine.items() if value)

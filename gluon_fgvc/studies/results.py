"""What came out of a study, with its complete configurations: ``<results>/<study>.json``."""
import json
from pathlib import Path

from gluon_fgvc import run_folder as run_files
from gluon_fgvc.engine.statistics import mean_and_sd
from gluon_fgvc.errors import CheckpointError, ConfigError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.studies.runs import deciding, tested, trained

METRICS = ('top1', 'top3', 'top5', 'mean_class_accuracy', 'macro_precision', 'macro_f1', 'loss', 'ece',
           'calibrated_ece', 'calibrated_loss', 'roc_auc', 'pointing_game')
MACHINE = ('cpu', 'cores', 'omp_num_threads', 'gpus', 'python', 'mxnet', 'numpy', 'gluon_fgvc')  # kept of env.json


def collect(name, runs, command, results):
    """Add the finished among ``runs`` to ``<results>/<name>.json`` and return its path.

    Runs that the file has already and that are not among ``runs`` stay, and so does every
    evaluation of the test split ever listed.

    :param command: the command line, for those who repeat the study.
    :raises ConfigError: if the file has a configuration of the same name but other content.
    """
    old = check_results(name, runs, results)
    configs = {filed(c): c for c in old['configs']}
    evaluations = {json.dumps(e, sort_keys=True): e for e in old['evaluations']}
    for run in runs:
        if not (tested(run.folder) or trained(run.folder)):
            continue
        files = run_files.read(run.folder)
        entry = configs.setdefault(run.entry, {
            'config': run.config.as_posix(), **run.named, 'sha256': run.sha256, 'overrides': list(run.overrides),
            **({'seeded': list(run.seeded)} if run.seeded else {}), 'resolved': _resolved(files, run.seeded),
            'runs': []})
        entry['runs'] = [r for r in entry['runs'] if (r['seed'], r['fold']) != (run.seed, run.fold)]
        entry['runs'].append(_measured(run, files))
        for evaluation in files.test_evaluations:
            kept = {'config': run.config.as_posix(), **run.named, 'seed': run.seed, 'fold': run.fold,
                    **{key: evaluation.get(key) for key in ('evaluated_at', 'checkpoint', 'images', 'top1')}}
            if evaluation.get('views'):
                kept['checkpoint'] = f"{evaluation.get('checkpoint')}, {evaluation['views']}"
            evaluations[json.dumps(kept, sort_keys=True)] = kept
    return write({'name': name, 'commands': [*(c for c in old['commands'] if c != command), command],
                  # The configuration that was given first is what others are compared with.
                  'configs': list(configs.values()), 'evaluations': list(evaluations.values())}, results)


def write(tree, results):
    """Write ``tree`` as ``<results>/<its name>.json``, in order and with the summaries of its runs; return the path."""
    for entry in tree['configs']:
        entry['runs'].sort(key=lambda r: (r['seed'], -1 if r['fold'] is None else r['fold']))
        entry['summary'] = {split: _summary([r[split] for r in entry['runs'] if r[split]]) for split in ('test', 'val')}
    tree['evaluations'].sort(key=lambda e: (str(e['evaluated_at']), label(e), e['seed'], str(e['fold'])))
    path = Path(results) / f"{tree['name']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_atomically(path, json.dumps(tree, indent=1, ensure_ascii=False) + '\n')


def check_results(name, runs, results):
    """Return the results file of a study as a tree, an empty one if there is none.

    :raises ConfigError: if it has a configuration of ``runs`` with other content or overrides.
    """
    path = Path(results) / f'{name}.json'
    tree = load(path) if path.exists() else {'name': name, 'commands': [], 'configs': [], 'evaluations': []}
    ours = {run.entry: (run.sha256, deciding(run.overrides), list(run.seeded)) for run in runs}
    for entry in tree['configs']:
        theirs = entry['sha256'], deciding(entry['overrides']), entry.get('seeded', [])
        if ours.get(filed(entry), theirs) != theirs:
            raise ConfigError(f"'{label(entry)}' or its overrides changed since '{path}' was written: "
                              'choose another --name, so that results are not mixed')
    return tree


def filed(entry):
    """What the results of an entry, or of an evaluation, are filed under."""
    return entry['config'], entry.get('variant')


def label(entry):
    """Return the name of an entry, as messages say it."""
    return entry['config'] + in_brackets(entry)


def in_brackets(entry):
    """Return the variant of an entry as it is put after a name; nothing where it has none."""
    return f" ({entry['variant']})" if entry.get('variant') else ''


def load(path):
    """Read a results file.

    :raises CheckpointError: if it is not one.
    """
    try:
        tree = json.loads(Path(path).read_text(encoding='utf-8'))
        tree['name'], tree['commands'], tree['configs'], tree['evaluations']
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"'{path}' is not a results file of fgvc study: {error!r}") from None
    return tree


def _resolved(files, seeded):
    """The configuration with every default, without what differs from run to run."""
    tree = json.loads(json.dumps(files.config))
    for section, key in (('run', 'seed'), ('run', 'work_dir'), ('data', 'fold'), *(key.split('.') for key in seeded)):
        if tree and isinstance(tree.get(section), dict):
            tree[section].pop(key, None)
    return tree


def _measured(run, files):
    epochs, evaluation = files.epochs or [], files.evaluation or {}
    tested = evaluation if evaluation.get('split') == 'test' else None
    if tested and tested.get('pointing_game'):
        game = tested['pointing_game']
        tested = {**tested, 'pointing_game': game['energy'], 'boxes_cover': game['area']}
    chosen = run_files.choice(files)
    at_choice = next((e for e in epochs if e['epoch'] == chosen.epoch), {})
    val = {metric: at_choice[f'val_{metric}'] for metric in METRICS if at_choice.get(f'val_{metric}') is not None}
    return {'seed': run.seed, 'fold': run.fold, 'epochs': len(epochs), 'chosen_by': chosen._asdict(),
            'split_images': _images_of(files.folder), 'curve': [e.get('val_top1') for e in epochs],
            'test': tested and {key: tested[key] for key in ('images', 'skipped', *METRICS, 'boxes_cover')
                              if key in tested},
            'val': val or None, 'cost': evaluation.get('cost'),
            'seconds': round(sum(e.get('seconds', 0) for e in epochs), 1),
            'machine': {key: files.env[key] for key in MACHINE if key in files.env} if files.env else None}


def _images_of(folder):
    """Return how many images each split of a run has, None where it does not say."""
    record = run_files.RunFolder(folder).read_split()
    return record and {name: split['images'] for name, split in record['splits'].items()}


def _summary(measured):
    summary = {}
    for metric in METRICS:
        values = [m[metric] for m in measured if m.get(metric) is not None]
        if values:
            mean, sd = mean_and_sd(values)
            summary[metric] = {'mean': mean, 'sd': sd, 'runs': len(values)}
    return summary

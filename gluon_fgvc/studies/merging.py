"""Results of one study from several machines, or several folders of runs, in one file."""
from pathlib import Path

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.studies.results import filed, label, load, write
from gluon_fgvc.studies.runs import deciding


def merge(paths, results):
    """Merge results files of one study into ``<results>/<study>.json`` and return its path.

    What that file has already comes first and stays. Where two files have a configuration, the overrides of the first
    are kept: they may differ in what has no part in learning (``data.root`` and how a run is executed).

    :param paths: the files.
    :raises CheckpointError: if one is no results file.
    :raises ConfigError: if they are of several studies, have a configuration with different content or numbers of
        images, or the same run with different results.
    """
    names = {load(path)['name']: path for path in reversed(paths)}
    if len(names) > 1:
        found = ', '.join(f"'{name}' in '{path}'" for name, path in sorted(names.items()))
        raise ConfigError(f'--merge: these are results of several studies: {found}')
    before = Path(results) / f'{next(iter(names))}.json'
    entries, commands, evaluations = {}, [], []
    for path in [before] * before.exists() + list(paths):
        tree = load(path)
        for entry in tree['configs']:
            _add(entry, entries.setdefault(filed(entry), {**entry, 'runs': []}), path)
        commands += [command for command in tree['commands'] if command not in commands]
        evaluations += [evaluation for evaluation in tree['evaluations'] if evaluation not in evaluations]
    return write({'name': before.stem, 'commands': commands, 'configs': list(entries.values()),
                  'evaluations': evaluations}, results)


def _add(entry, merged, path):
    """Add the runs of one file's ``entry`` to those of its configuration in ``merged``."""
    if _identity(entry) != _identity(merged):
        raise ConfigError(f"--merge: '{label(entry)}' or its overrides are others in '{path}' than in the files before")
    for run in entry['runs']:
        here = f"'{label(entry)}' seed {run['seed']}" + ('' if run['fold'] is None else f" fold {run['fold']}")
        count = _images_of(run)
        others = {_images_of(other) for other in merged['runs']} - {None, count}
        if count and others:
            raise ConfigError(f"--merge: {here} is of {count} images in '{path}', and runs in the files before of "
                              f'{others.pop()}: the data set is not the same')
        same = [other for other in merged['runs'] if (other['seed'], other['fold']) == (run['seed'], run['fold'])]
        if same and same != [run]:
            raise ConfigError(f"--merge: {here} has other results in '{path}' than in the files before: "
                              'one run has one result; take it out of one of them')
        if not same:
            merged['runs'].append(run)


def _images_of(run):
    """Return how many images the splits of a run have together, None where it does not say."""
    counts = run.get('split_images')
    return counts and sum(counts.values())


def _identity(entry):
    """What decides the results of a configuration."""
    return (entry['sha256'], entry.get('seeded', []),
            [word for word in deciding(entry['overrides']) if not word.startswith('data.root=')])

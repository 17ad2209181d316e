"""The configurations of a study against its first one, over the runs of the same seed and fold."""
from pathlib import Path
from typing import List, NamedTuple

from gluon_fgvc.studies.results import in_brackets
from gluon_fgvc.studies.significance import Paired, paired

SPLITS = {'test': 'test', 'val': 'validation'}  # as pages name them


class Compared(NamedTuple):
    """One configuration, by its entry in the results: the differences of single runs, and what they say."""

    entry: dict
    differences: List[float]
    result: Paired


def split_of(tree):
    """Return what configurations are compared on: 'test' if all runs were tested, else 'val'."""
    return 'test' if all(run['test'] for entry in tree['configs'] for run in entry['runs']) else 'val'


def compared(tree):
    """Return a :class:`Compared` (of top-1, as shares) for each configuration that has a run to compare."""
    if not tree['configs']:
        return []
    first, *others = tree['configs']
    split, rows = split_of(tree), []
    reference = _by_run(first, split)
    for entry in others:
        own = _by_run(entry, split)
        pairs = [(own[key], reference[key]) for key in own if key in reference]
        if pairs:
            differences = [a[split]['top1'] - b[split]['top1'] for a, b in pairs]
            rows.append(Compared(entry, differences, paired(differences, _test_share(pairs, split))))
    return rows


def namer(tree):
    """Return the function that names an entry: by its variant where each has one of its own, else by its file."""
    variants = [entry.get('variant') for entry in tree['configs']]
    if all(variants) and len(set(variants)) == len(variants):
        return lambda entry: entry['variant']
    return lambda entry: Path(entry['config']).with_suffix('').as_posix().replace('configs/', '') + in_brackets(entry)


def _by_run(entry, split):
    return {(run['seed'], run['fold']): run for run in entry['runs'] if (run[split] or {}).get('top1') is not None}


def _test_share(pairs, split):
    """Return images of ``split`` over training images where runs differ in their fold, else 0; None if not recorded."""
    if len({run['fold'] for run, _ in pairs}) == 1:
        return 0.0
    counts = [run.get('split_images') or {} for run, _ in pairs]
    if not all(count.get(split) and count.get('train') for count in counts):
        return None
    return sum(count[split] / count['train'] for count in counts) / len(counts)

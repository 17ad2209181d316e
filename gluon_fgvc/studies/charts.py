"""The pictures of studies beside their page: validation errors by epoch, and differences to the first one."""
from pathlib import Path

from gluon_fgvc.engine.statistics import mean_and_sd
from gluon_fgvc.pages.difference_chart import Difference, write_differences
from gluon_fgvc.pages.line_charts import Line, write_lines
from gluon_fgvc.studies.comparison import SPLITS, compared, namer, split_of
from gluon_fgvc.studies.results import load

MOST_CURVES = 14         # more cannot be told apart
FEWEST_DIFFERENCES = 3   # fewer are read faster than looked at


def file_names(tree):
    """Return dict of kind → name of the file, of all pictures that a study can have."""
    return {'curves': f"{tree['name']}.svg", 'differences': f"{tree['name']}_differences.svg"}


def pictures(tree):
    """Return dict of kind → function of a path that draws it, of the pictures that a study has."""
    found, lines, rows = {}, curves(tree), compared(tree)
    if 0 < len(lines) <= MOST_CURVES:
        # Errors by their logarithm keep apart what accuracies press against 100 %.
        found['curves'] = lambda path: write_lines(path, lines, 'epoch', 'validation top-1 error, %', log_y=True)
    if len(rows) >= FEWEST_DIFFERENCES:
        name, split = namer(tree), SPLITS[split_of(tree)]
        differences = [Difference(name(row.entry), 100 * row.result.mean, [100 * value for value in row.differences],
                                  None if row.result.p is None else (100 * row.result.low, 100 * row.result.high))
                       for row in rows]
        found['differences'] = lambda path: write_differences(
            path, differences, f"difference to {name(tree['configs'][0])} in {split} top-1, points")
    return found


def draw(results):
    """Write the pictures of all studies in the folder ``results``; those that a study no longer has go."""
    for path in sorted(Path(results).glob('*.json')):
        tree = load(path)
        found = pictures(tree)
        for kind, name in file_names(tree).items():
            if kind in found:
                found[kind](path.with_name(name))
            else:
                path.with_name(name).unlink(missing_ok=True)


def curves(tree):
    """Return a :class:`Line` for each configuration, over the epochs that all of its runs have."""
    name, lines = namer(tree), []
    for entry in tree['configs']:
        runs = [run['curve'] for run in entry['runs'] if run.get('curve') and None not in run['curve']]
        if runs:
            spreads = [mean_and_sd([100 * (1 - value) for value in values]) for values in zip(*runs)]
            lines.append(Line(name(entry), range(1, len(spreads) + 1), [mean for mean, _ in spreads],
                              [sd for _, sd in spreads] if len(runs) > 1 else None))
    return lines

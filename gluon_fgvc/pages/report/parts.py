"""What the sections of a report share: a heading, values of the configuration, words for what is missing."""
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.markup import tag


def section(title, *children):
    return tag('section', tag('h2', title), *children)


def absent(run, *names):
    """Return markup that says why files of the run could not be read."""
    return [tag('p', run.missing[name], class_='soft') for name in names if name in run.missing]


def value_at(tree, *keys):
    """Return the value at the path ``keys`` of nested mappings, or 'unknown'."""
    for key in keys:
        if not isinstance(tree, dict) or key not in tree:
            return 'unknown'
        tree = tree[key]
    return tree


def interval(low, high):
    """Return an interval of shares as text, e.g. ``31.3–83.2 %``."""
    return f'{100 * low:.1f}–{percent(high)}'

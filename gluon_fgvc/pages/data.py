"""The page of a data check: what is wrong, with pictures, and what the data set looks like; one file, no network."""
from pathlib import Path

from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.line_charts import Line, line_chart
from gluon_fgvc.pages.markup import page, tag

PAGE = 'data.html'
SHOWN = 12       # findings of a kind with pictures
MEMBERS = 6      # pictures of a group of duplicates
THUMBNAIL = 176  # longer side, in pixels
LISTED = 200     # findings of a kind by name


def write_page(folder, tree, kinds, read=pictures.read):
    """Write ``data.html`` into ``folder``, which is made; return its path.

    :param tree: what ``fgvc doctor data --json`` writes.
    :param kinds: dict of kind → (what is wrong, what to do).
    :param read: called with the name of an image; returns (H,W,3) uint8 RGB, or None if it cannot be read.
    """
    name = tree['data']['name']
    found = {kind: [f for f in tree['findings'] if f['kind'] == kind] for kind in tree['counts']}
    text = page(f'Data check of {name}',
                tag('header', tag('h1', f'Data check of {name}'), _facts(tree['statistics'])),
                tag('main', _summary(tree, kinds), _classes(tree['statistics']),
                    [_kind(kind, kinds[kind], findings, read) for kind, findings in found.items()]),
                styles=('data.css',))
    Path(folder).mkdir(parents=True, exist_ok=True)
    return write_atomically(Path(folder) / PAGE, text)


def _facts(statistics):
    if not statistics:
        return None
    facts = [('Images', f"{statistics['images']:,}"), ('Classes', f"{statistics['classes']:,}"),
             *((split.capitalize(), f'{count:,}') for split, count in statistics['splits'].items()),
             *((name.capitalize(), _range(**statistics[name]))
               for name in ('width', 'height', 'aspect') if statistics[name]),
             *((name, f'{count:,}') for name, count in statistics['formats'].items()),
             ('Gray', f"{statistics['gray']:,}")]
    if statistics['imbalance']:
        facts.append(('Imbalance', f"{statistics['imbalance']:g}"))
    return tag('dl', [tag('div', tag('dt', name), tag('dd', value)) for name, value in facts], class_='facts')


def _summary(tree, kinds):
    ignored = f" Not counted: {', '.join(tree['ignored'])}." if tree['ignored'] else ''
    if not tree['counts']:
        return tag('p', tag('strong', 'No problems found.'), ignored)
    rows = [tag('tr', tag('th', tag('a', kind, href=f'#{kind}'), scope='row'), tag('td', f'{count:,}', class_='number'),
                tag('td', kinds[kind][0]), tag('td', kinds[kind][1])) for kind, count in tree['counts'].items()]
    head = tag('tr', [tag('th', name, scope='col') for name in ('Kind', 'Found', 'What is wrong', 'What to do')])
    return tag('section', tag('h2', f"{tree['problems']:,} problems"), tag('p', ignored, class_='soft'),
               tag('table', tag('thead', head), tag('tbody', rows)))


def _classes(statistics):
    if not statistics or len(statistics['class_counts']) < 2:
        return None
    counts = sorted((sum(of.values()) for of in statistics['class_counts'].values()), reverse=True)
    summary = f'Images a class, from {counts[0]:,} down to {counts[-1]:,}'
    chart = line_chart([Line('images', range(1, len(counts) + 1), counts)], summary=summary,
                       from_zero=True, x_label='class, by size')
    return tag('section', tag('h2', 'Images a class'), tag('figure', chart))


def _range(min, median, max):
    return f'{min:g}' if min == max else f'{min:g}–{max:g}, median {median:g}'


def _kind(kind, words, findings, read):
    shown, others = findings[:SHOWN], findings[SHOWN:LISTED]
    more = len(findings) - LISTED
    rest = tag('details', tag('summary', f'{len(others):,} more'), tag('ul', [
        tag('li', ', '.join(finding['files'] or finding['classes']), ': ', finding['detail'], class_='name')
        for finding in others]), tag('p', f'and {more:,} more in the JSON file') if more > 0 else None)
    return tag('section', tag('h2', kind, id=kind), tag('p', f'{words[0]}; {words[1]}', class_='soft'),
               tag('div', [_finding(finding, read) for finding in shown], class_='findings'), rest if others else None)


def _finding(finding, read):
    files = finding['files']
    images = [tag('div', picture(path, read), tag('div', '/'.join(Path(path).parts[-3:]), class_='name', title=path))
              for path in files[:MEMBERS]]
    more = f' (and {len(files) - MEMBERS} more)' if len(files) > MEMBERS else ''
    return tag('figure', tag('div', images, class_='members') if images else None,
               tag('figcaption', finding['detail'], more))


def picture(path, read):
    """Return the image called ``path`` as an element, or a word in its place; ``read`` as of :func:`write_page`."""
    image = read(path)
    if image is None:
        return tag('div', 'image cannot be read', class_='placeholder')
    image = pictures.fit(image, min(THUMBNAIL, max(image.shape[:2])))
    return tag('img', src=pictures.jpeg_uri(image, 85), width=image.shape[1], height=image.shape[0], loading='lazy',
               alt=Path(path).name)

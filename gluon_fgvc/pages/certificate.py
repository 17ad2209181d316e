"""The page of a certificate: each format beside the network, what it costs and whether it passed; one file."""
from gluon_fgvc.pages.markup import page, tag

_COLUMNS = ('Format', 'Verdict', 'Top-1', 'Same class', 'Largest difference', 'Relative', 'McNemar p', 'Worst class',
            'Images/s', 'Memory, MiB', 'Bytes')
_EXPLANATION = ('Differences are of class probabilities, from the network of the run on the same images. Speed is the '
                'median of rounds in which the formats took turns; memory is that of the whole process.')


def page_of(tree):
    """Return the page of what ``certificate.json`` has."""
    title = f"Certificate of {tree['run']}"
    verdict = 'All formats passed.' if tree['passed'] else 'At least one format failed.'
    images, network = tree['images'], tree['network']
    facts = [('Images', f"{images['count']:,} of the {images['split']} split, {images['tinted']} tinted"),
             ('Network', '{:.2%}, 95 % interval {:.1%} to {:.1%}'.format(network['top1'], *network['interval'])),
             ('Instruction set', tree['isa']), ('Cores, threads', f"{tree['cores']}, {tree['threads'] or 'all'}"),
             ('Made', tree['made_at']),
             *((name, version) for name, version in tree['versions'].items())]
    return page(
        title,
        tag('header', tag('h1', title),
            tag('dl', [tag('div', tag('dt', name), tag('dd', str(value))) for name, value in facts], class_='facts')),
        tag('main', tag('p', tag('strong', verdict), ' ', _EXPLANATION),
            tag('table', tag('thead', tag('tr', [tag('th', name, scope='col') for name in _COLUMNS])),
                tag('tbody', [_row(name, entry) for name, entry in tree['formats'].items()])),
            tag('h2', 'Files'),
            tag('table', tag('tbody', [tag('tr', tag('th', file, scope='row'), tag('td', f"{entry['bytes']:,} bytes"),
                                           tag('td', tag('code', entry['sha256'])))
                                       for entries in tree['formats'].values()
                                       for file, entry in entries['files'].items()]))),
        styles=('data.css',))


def _row(name, entry):
    size = sum(file['bytes'] for file in entry['files'].values())
    verdict = 'passed' if entry['passed'] else 'failed: ' + '; '.join(entry['faults'])
    if not entry['runs']:
        return tag('tr', tag('th', name, scope='row'), tag('td', verdict, colspan=len(_COLUMNS) - 1))
    worst, test = entry['worst_class'], entry['mcnemar']
    speed = ', '.join(f'{value:g} (batch {batch})' for batch, value in entry.get('images_a_second', {}).items())
    cells = [verdict, f"{entry['top1']:.2%}", f"{entry['agreement']:.2%}", f"{entry['largest_difference']:.2g}",
             f"{entry['largest_relative_difference']:.2g}",
             f"{test['p']:.2g} ({test['only_network']} : {test['only_format']})",
             f"{worst['name']}: {worst['change']:+d} of {worst['images']}", speed or '–',
             f"{entry['peak_memory_mib']:,}" if 'peak_memory_mib' in entry else '–', f'{size:,}']
    return tag('tr', tag('th', name, scope='row'), [tag('td', cell) for cell in cells])

"""What is needed to repeat a run: its configuration and its environment."""
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, section
from gluon_fgvc.run_folder import RunFolder


def details_section(run):
    """Return the section of configuration and environment."""
    parts = []
    if run.config_text is not None:
        parts.append(tag('details', tag('summary', 'Configuration'), tag('pre', tag('code', run.config_text))))
    if run.env is not None:
        rows = [tag('tr', tag('th', key, scope='row'), tag('td', value, class_='name'))
                for key, value in _flatten(run.env)]
        parts.append(tag('details', tag('summary', 'Environment'), tag('table', tag('tbody', rows))))
    return section('Configuration and environment', parts, absent(run, RunFolder.config, RunFolder.environment),
                    tag('p', 'Run folder: ', tag('code', run.folder.name), class_='soft'))


def _flatten(tree, prefix=''):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', ', '.join(map(str, value)) if isinstance(value, list) else value

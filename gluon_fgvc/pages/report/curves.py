"""The curves of a training: loss, accuracy and learning rate by epoch, with phases and the epoch that was kept."""
from gluon_fgvc import run_folder as run_files
from gluon_fgvc.pages.charts import number, percent
from gluon_fgvc.pages.line_charts import Band, Line, finite, line_chart
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, section
from gluon_fgvc.run_folder import RunFolder


def training_section(run):
    """Return the section of the training."""
    if not run.epochs:
        reason = absent(run, RunFolder.metrics) or tag('p', 'No epoch has been finished yet.', class_='soft')
        return section('Training', reason)
    chosen, marked = run_files.choice(run), None
    if chosen.epoch is not None:
        verb = 'kept' if not chosen.split else 'chosen' if run.evaluation else 'best'
        marked = chosen.epoch + 1, f'{verb}: {chosen.epoch + 1}'
    bands = _phases(run.epochs)
    x = [e['epoch'] + 1 for e in run.epochs]

    def pair(key):
        return [Line('training', x, [e.get(f'train_{key}') for e in run.epochs], colour='two'),
                Line('validation', x, [e.get(f'val_{key}') for e in run.epochs])]

    rates = {e['lr'] for e in run.epochs if isinstance(e.get('lr'), (int, float))}
    charts = [('Loss', pair('loss'), number, None), ('Top-1 accuracy', pair('top1'), _percent0, (0, 1))]
    if len(rates) > 1:
        charts.append(('Learning rate', [Line('', x, [e.get('lr') for e in run.epochs])], number, (0, float('inf'))))
    figures = []
    for name, series, form, limits in charts:
        chart = line_chart(series, summary=_spoken(name, series, form), form=form, bands=bands, marked=marked,
                                 limits=limits)
        if chart:
            figures.append(tag('figure', tag('h3', name), chart))
    note = 'Training figures are means over an epoch while the network was still changing, on augmented images; ' \
           'validation figures are taken at its end.'
    if not any(e.get('val_top1') is not None for e in run.epochs):
        note = 'There was no validation split. ' + note.split(';')[0] + '.'
    if len(rates) == 1:
        note += f' The learning rate was {number(*rates)} throughout.'
    return section('Training', tag('p', note, class_='soft'), tag('div', figures, class_='charts'),
                    _epoch_table(run.epochs))


def _percent0(share):
    return f'{100 * share:.0f}\u00a0%' if abs(100 * share - round(100 * share)) < 1e-6 else percent(share)


def _spoken(name, series, form):
    ends = [f'{s.name} {form(points[0][1])} to {form(points[-1][1])}'.strip()
            for s, points in ((s, finite(s)) for s in series) if points]
    return f'{name} by epoch: ' + '; '.join(ends)


def _phases(epochs):
    """Return the ranges of epochs of each phase, or nothing where there is but one."""
    bands = []
    for e in epochs:
        name = str(e.get('phase', ''))
        if bands and bands[-1].name == name:
            bands[-1] = bands[-1]._replace(end=e['epoch'] + 1.5)
        else:
            bands.append(Band(name, e['epoch'] + 0.5, e['epoch'] + 1.5))
    return bands if len(bands) > 1 else []


def _epoch_table(epochs):
    columns = [('epoch', 'Epoch', lambda epoch: f'{epoch + 1:,}'), ('phase', 'Phase', str),
               ('lr', 'Learning rate', number), ('train_loss', 'Training loss', number),
               ('train_top1', 'Training top-1', percent), ('val_loss', 'Validation loss', number),
               ('val_top1', 'Validation top-1', percent), ('val_top3', 'top-3', percent),
               ('val_top5', 'top-5', percent), ('seconds', 'Seconds', number)]
    columns = [c for c in columns if any(e.get(c[0]) is not None for e in epochs)]
    rows = [tag('tr', [tag('td', form(e[key]) if e.get(key) is not None else '–',
                           class_=None if key == 'phase' else 'number') for key, _, form in columns]) for e in epochs]
    head = tag('tr', [tag('th', name, scope='col', class_=None if key == 'phase' else 'number')
                      for key, name, _ in columns])
    return tag('details', tag('summary', 'The numbers of each epoch'),
               tag('div', tag('table', tag('thead', head), tag('tbody', rows)), class_='scroll', tabindex=0,
                   role='region', aria_label='Numbers of each epoch'))

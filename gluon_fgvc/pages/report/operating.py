"""What may be decided without a person: accuracy by the share of images answered, and thresholds of two classes."""
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.line_charts import Line, line_chart
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import section


def selective_section(run):
    """Return the section of accuracy by the share of images that are answered, or None where nothing was evaluated."""
    rows = (run.evaluation or {}).get('selective')
    if not rows:
        return None
    upper = [row for row in rows if row['coverage'] >= 0.5]
    text = (f"Of all images {percent(rows[-1]['accuracy'])} are right; of the {percent(upper[0]['coverage'], 0)} that "
            f"the network is surest of, {percent(upper[0]['accuracy'])}. What is less sure may be left to a person.")
    line = Line('accuracy', [100 * row['coverage'] for row in rows], [row['accuracy'] for row in rows])
    chart = tag('figure', line_chart([line], summary=text, form=lambda share: percent(share, 0), limits=(0, 1),
                                     x_label='% of images answered'),
                tag('figcaption', 'Accuracy on the images that the network is surest of.'))
    table = _table(('Answered', 'Probability from', 'Images', 'Wrong', 'Accuracy'), [
        (percent(row['coverage']), f"{row['probability']:.4f}", f"{row['images']:,}",
         f"{row['images'] - row['correct']:,}", percent(row['accuracy'])) for row in upper], 'Accuracy by coverage')
    return section('Selective prediction', tag('p', text, class_='soft'),
                   tag('div', chart, table, class_='side-by-side'))


def points_section(run):
    """Return the section of the thresholds of two classes, or None where there are more."""
    rows = (run.evaluation or {}).get('operating_points')
    if not rows:
        return None
    split, auc = run.evaluation['split'], run.evaluation['roc_auc']
    text = (f'An image of one class has a larger probability of it than an image of the other in {percent(auc)} of all '
            'pairs (area under the ROC curve). Taking a class from a smaller probability on finds more of it, and '
            'mistakes more of the others for it.' + (
                ' These thresholds are of the test images themselves; choose yours by those of validation '
                '(fgvc evaluate RUN --split val).' if split == 'test' else ''))
    table = _table(('Class', 'Taken from', 'Found', 'Of the others', 'Precision'), [
        (tag('span', row['name'], class_='name'), f"{row['probability']:.4f}",
         f"{percent(row['recall'])} ({row['found']:,})", f"{percent(row['false_positive_rate'])} ({row['mistaken']:,})",
         percent(row['precision'])) for row in rows], 'Operating points')
    return section('Operating points', tag('p', text, class_='soft'), table)


def _table(heads, rows, label):
    head = [tag('th', name, scope='col', class_='number' if k else None) for k, name in enumerate(heads)]
    body = [tag('tr', tag('th', row[0], scope='row'), [tag('td', cell, class_='number') for cell in row[1:]])
            for row in rows]
    return tag('div', tag('table', tag('thead', tag('tr', head)), tag('tbody', body)), class_='scroll', tabindex=0,
               role='region', aria_label=label)

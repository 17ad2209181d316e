"""Which classes are told apart: the confusion matrix, and the accuracy of each class and super-category."""
import numpy as np

from gluon_fgvc.engine.statistics import wilson
from gluon_fgvc.pages import charts as plots
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, interval, section
from gluon_fgvc.run_folder import RunFolder

PAIRS = 15             # confused pairs in the table
LABELLED_CLASSES = 30  # up to here the confusion matrix has names
TABLE_CLASSES = 600    # more classes than this and only the worst are listed


def _matrix(run):
    """Return (class names, confusion matrix as an array) of the evaluation, or None."""
    try:
        confusion = np.asarray(run.evaluation['confusion'], dtype='int64')
    except (TypeError, KeyError, ValueError):
        return None
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or not len(confusion):
        return None
    names = [str(c.get('name', k)) for k, c in enumerate(run.evaluation.get('per_class') or ())]
    if len(names) != len(confusion):
        names = run.classes or []
    if len(names) != len(confusion):
        names = [str(k) for k in range(len(confusion))]
    return names, confusion


def _no_matrix(run):
    return absent(run, RunFolder.evaluation) or tag('p', 'evaluation.json holds no confusion matrix.', class_='soft')


def confusion_section(run):
    """Return the section of the confusion matrix."""
    matrix = _matrix(run)
    if matrix is None:
        return section('Confusion', _no_matrix(run))
    names, confusion = matrix
    wrong = confusion * (1 - np.eye(len(names), dtype='int64'))
    errors = int(wrong.sum())
    order = np.argsort(-wrong, axis=None, kind='stable')[:PAIRS]
    pairs = [(int(i) // len(names), int(i) % len(names)) for i in order if wrong.flat[i]]
    images = int(confusion.sum())
    summary = f'Confusion matrix of {len(names):,} classes: {errors:,} of {images:,} images off the diagonal'
    if len(names) <= LABELLED_CLASSES:
        picture, reading = plots.confusion_cells(confusion, names, summary), ''
    else:
        picture = plots.confusion_heat_map(confusion, summary)
        reading = 'Classes are in the order of the class list, labels downwards, predictions to the right. '
    figure = tag('figure', tag('div', picture, class_='matrix', tabindex=0, role='region',
                               aria_label='Confusion matrix'), tag(
        'figcaption', reading + 'Shade: share of the label’s images. Blue is right, orange is wrong.'))
    table = _pair_table(pairs, names, confusion, errors) if len(names) > 2 and pairs else None
    return section('Confusion', tag('p', f'{errors:,} of {images:,} images were given a wrong class.'
                                     if errors else 'Every image was given its right class.', class_='soft'),
                    tag('div', figure, table, class_='side-by-side' if table else None))


def _pair_table(pairs, names, confusion, errors):
    rows = [tag('tr', tag('th', names[label], class_='name', scope='row'), tag('td', names[predicted], class_='name'),
                tag('td', f'{int(confusion[label, predicted]):,}', class_='number'),
                tag('td', percent(confusion[label, predicted] / confusion[label].sum(), 0), class_='number'))
            for label, predicted in pairs]
    head = [tag('th', 'Label', scope='col'), tag('th', 'Predicted as', scope='col'),
            tag('th', 'Images', scope='col', class_='number'), tag('th', 'Of label', scope='col', class_='number')]
    shown = sum(int(confusion[pair]) for pair in pairs)
    return tag('table', tag('caption', f'Most confused pairs: {shown:,} of the {errors:,} errors'),
               tag('thead', tag('tr', head)), tag('tbody', rows))


def classes_section(run):
    """Return the section of the accuracy of each class."""
    matrix = _matrix(run)
    if matrix is None:
        return section('Classes', _no_matrix(run))
    names, confusion = matrix
    images, correct, taken = confusion.sum(axis=1), np.diag(confusion), confusion.sum(axis=0)
    order = np.argsort(correct / np.maximum(images, 1) + (images == 0), kind='stable')
    rows = [_class_row(names, confusion[k], k, int(taken[k])) for k in order[:TABLE_CLASSES]]
    note = 'Lowest accuracy first; a heading sorts by its column. The bar is the 95 % Wilson interval. Accuracy is ' \
           'recall; precision is the share of right ones among the images that were taken for the class.'
    if len(names) > TABLE_CLASSES:
        note = f'The {TABLE_CLASSES:,} lowest of {len(names):,} classes; evaluation.json has all. ' + note
    head = [_sortable('Class', False), *_accuracy_heads(), _sortable('Precision', True), _sortable('F1', True),
            _sortable('Most confused with', False)]
    return section('Classes', tag('p', note, class_='soft'), _sorted_table(head, rows, 'Accuracy of each class'))


def groups_section(run):
    """Return the section of super-categories, or None where there are none."""
    groups = (run.evaluation or {}).get('per_group')
    if not groups:
        return None
    rows = [tag('tr', tag('th', group['name'], class_='name', scope='row'), _number(group['classes']),
                _accuracy(group['images'], group['correct'])) for group in groups]
    head = [_sortable('Super-category', False), _sortable('Classes', True), *_accuracy_heads()]
    return section('Super-categories', tag('p', 'Top-1 accuracy over the images of all classes of a super-category.',
                                            class_='soft'),
                    _sorted_table(head, rows, 'Accuracy of each super-category'))


def certainty_section(run):
    """Return the section of the accuracy by how sure the annotators were, or None where all were sure."""
    found = (run.evaluation or {}).get('per_certainty')
    if not found or all(row['certainty'] == 1 for row in found):
        return None
    rows = [tag('tr', tag('th', row['name'], class_='name', scope='row'),
                tag('td', f"{row['certainty']:.2f}", class_='number', data_value=row['certainty']),
                _accuracy(row['images'], row['correct'])) for row in found]
    head = [_sortable('Class', False), _sortable('Probability of the label', True), *_accuracy_heads()]
    return section('Sure and doubtful labels', tag('p', 'The probability is that which the annotators gave the label: '
                                                   'where it is low they were not sure.', class_='soft'),
                    _sorted_table(head, rows, 'Accuracy by how sure the annotators were'))


def _accuracy_heads():
    return [*(_sortable(name, True) for name in ('Images', 'Right', 'Accuracy')),
            tag('th', '95 % interval', scope='col')]


def _sorted_table(head, rows, label):
    return tag('div', tag('table', tag('thead', tag('tr', head)), tag('tbody', rows), class_='sortable'),
               class_='scroll', tabindex=0, role='region', aria_label=label)


def _sortable(name, numeric):
    return tag('th', tag('button', name, type='button'), scope='col', class_='number' if numeric else None)


def _class_row(names, row, k, taken):
    wrong = row.copy()
    wrong[k] = 0
    most = int(wrong.argmax())
    confused = [tag('span', names[most], class_='name'), f' ({int(wrong[most]):,})'] if wrong[most] else '–'
    return tag('tr', tag('th', names[k], class_='name', scope='row'), _accuracy(int(row.sum()), int(row[k])),
               _share(int(row[k]), taken), _share(2 * int(row[k]), int(row.sum()) + taken), tag('td', confused))


def _share(part, whole):
    if not whole:
        return tag('td', '–', class_='number', data_value=-1)
    return tag('td', percent(part / whole), class_='number', data_value=f'{part / whole:.6f}')


def _accuracy(images, correct):
    """Return the cells under Images, Right, Accuracy and 95 % interval."""
    if not images:
        share = [tag('td', '–', class_='number', data_value=-1), tag('td', 'no images')]
    else:
        low, high = wilson(correct, images)
        share = [tag('td', percent(correct / images), class_='number', data_value=f'{correct / images:.6f}'),
                 tag('td', tag('div', plots.interval_bar(correct / images, low, high), interval(low, high),
                               class_='interval'))]
    return [_number(images), _number(correct), *share]


def _number(value):
    return tag('td', f'{value:,}', class_='number', data_value=value)

"""The page of suspect labels: each image with its label and what the runs say of it; one file, no network."""
from pathlib import Path

from gluon_fgvc.files import write_atomically
from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.data import picture
from gluon_fgvc.pages.markup import page, tag

PAGE = 'labels.html'
SHOWN = 200  # images; the list in the CSV file is whole


def write_page(folder, found, read=pictures.read):
    """Write ``labels.html`` into ``folder``, which is made; return its path.

    :param found: :class:`gluon_fgvc.studies.labels.Found`.
    :param read: called with the name of an image; returns (H,W,3) uint8 RGB, or None if it cannot be read.
    """
    count, more = len(found.suspects), len(found.suspects) - SHOWN
    text = page('Suspect labels',
                tag('header', tag('h1', f'{count:,} of {found.images:,} labels are suspect'),
                    tag('p', 'Images of which a run that was not trained on them says another class, as surely as it '
                             'does on average of images that have that class for a label. Some labels are wrong, other '
                             'images are hard or show both; nothing has been changed.')),
                tag('main', tag('div', [_suspect(one, found.classes, read) for one in found.suspects[:SHOWN]],
                                class_='findings even'),
                    tag('p', f'and {more:,} more in the CSV file') if more > 0 else None),
                styles=('data.css',))
    Path(folder).mkdir(parents=True, exist_ok=True)
    return write_atomically(Path(folder) / PAGE, text)


def _suspect(suspect, classes, read):
    agree = f'{suspect.agree} of {suspect.runs} runs agree' if suspect.runs > 1 else None
    return tag('figure', tag('div', tag('div', picture(suspect.path, read)), class_='members'), tag(
        'figcaption',
        tag('div', 'labelled ', tag('strong', classes[suspect.label]), f', {percent(suspect.label_probability)}'),
        tag('div', 'looks like ', tag('strong', classes[suspect.suggested]),
            f', {percent(suspect.suggested_probability)}'),
        tag('div', agree) if agree else None,
        tag('div', '/'.join(Path(suspect.path).parts[-3:]), class_='name', title=suspect.path)))

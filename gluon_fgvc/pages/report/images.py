"""Images of a run: the errors that it was most confident of, and where it looks."""
from pathlib import Path

from gluon_fgvc.pages import pictures
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.maps import drawn, reading_aid
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, section
from gluon_fgvc.run_folder import RunFolder

WORST = 24             # thumbnails of the most confident errors
THUMBNAIL = 224        # their longer side in pixels, twice what is shown, for sharp screens
LOOKS = 3              # most confident errors, and most confident right answers, whose maps are shown


def errors_section(run, read):
    """Return the section of the most confident errors."""
    title = 'Most confident errors'
    if run.predictions is None:
        return section(title, absent(run, RunFolder.predictions))
    wrong = [p for p in run.predictions if not p.correct]
    if not wrong:
        none = f'None of {len(run.predictions):,} images was given a wrong class.'
        return section(title, tag('p', none, class_='soft'))
    wrong.sort(key=lambda p: (-p.probability, p.path))
    figures = [figure(p, read(p.path)) for p in wrong[:WORST]]
    which = f'the {WORST}' if len(wrong) > WORST else 'all'
    note = (f'Label → prediction with its probability; {which} of {len(wrong):,} errors that the network was '
            'surest of. Look here for wrong labels first.')
    return section(title, tag('p', note, class_='soft'), tag('div', figures, class_='thumbnails'))


def figure(prediction, image):
    """Return the picture of a wrong prediction with label, prediction and file name; ``image`` as of ``read``."""
    verdict = tag('div', tag('span', prediction.label_name, class_='name'), ' → ',
                  tag('strong', prediction.predicted_name, class_='name'), class_='verdict')
    name = tag('span', Path(prediction.path).name, class_='name', title=prediction.path)
    return tag('figure', _thumbnail(prediction, image), tag(
        'figcaption', verdict, tag('div', percent(prediction.probability, 0), ' ', name)))


def _thumbnail(prediction, image):
    if image is None:
        return tag('div', 'image cannot be read', class_='placeholder', role='img',
                   aria_label=f'{prediction.path}: image cannot be read')
    image = pictures.fit(image, min(THUMBNAIL, max(image.shape[:2])))
    return tag('img', src=pictures.jpeg_uri(image, 82), width=image.shape[1], height=image.shape[0], loading='lazy',
               alt=f'{Path(prediction.path).name}: {prediction.label_name}, taken for {prediction.predicted_name}')


def looks_section(run, look):
    """Return the section of where the network looks, or None without ``look`` or anything that it can show."""
    if look is None or not run.predictions:
        return None
    surest = sorted(run.predictions, key=lambda p: (-p.probability, p.path))
    right, classes = [], set()
    for prediction in (p for p in surest if p.correct and len(right) < LOOKS):
        if prediction.label not in classes:
            right.append(prediction)
            classes.add(prediction.label)
    chosen = [p for p in surest if not p.correct][:LOOKS] + right
    rows = [(p, row) for p, row in ((p, look(p.path, p.label_name)) for p in chosen) if row is not None]
    if not rows:
        return None
    narrow = all(len(row.maps) < 2 and not row.grids and not row.regions for _, row in rows)
    note = ('The most confident errors, then the most confident right answers, one of a class each. fgvc visualize '
            'shows other images.')
    return section('Where it looks', tag('p', note, class_='soft'), reading_aid(),
                    tag('div', [_example(*pair) for pair in rows], class_='examples' if narrow else None))


def _example(prediction, row):
    verdict = tag('strong', prediction.predicted_name, class_='name')
    if not prediction.correct:
        verdict = [tag('span', prediction.label_name, class_='name'), ' → ', verdict]
    return tag('article', tag('h3', verdict, f' {percent(prediction.probability, 0)}'),
               tag('p', tag('span', Path(prediction.path).name, class_='name', title=prediction.path), class_='soft'),
               drawn(row))

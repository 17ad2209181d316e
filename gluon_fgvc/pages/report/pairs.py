"""The pairs of classes that are confused more often than by chance, with the pictures."""
from collections import Counter, defaultdict

from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.images import figure
from gluon_fgvc.pages.report.parts import section

PAIRS, PICTURES = 30, 8  # most that are shown; of a pair, the surest errors
RARE = 0.05              # a pair counts as confused where errors dealt out evenly would be as many with less than this


def above_chance(predictions, num_classes):
    """Return dict of (label, predicted) → its errors, surest first, of confused pairs, the most frequent first.

    A pair is confused if, were the errors of its label spread evenly over the other classes, it would get as many
    errors with probability below ``RARE`` (binomial). Of two classes nothing else than the other is possible.
    """
    from scipy.stats import binom  # a second, when it is needed
    errors, of_label = defaultdict(list), Counter()
    for prediction in sorted(predictions, key=lambda p: (-p.probability, p.path)):
        if not prediction.correct:
            errors[prediction.label, prediction.predicted].append(prediction)
            of_label[prediction.label] += 1
    confused = {(label, predicted): wrong for (label, predicted), wrong in errors.items() if num_classes > 2
                and len(wrong) > 1 and binom.sf(len(wrong) - 1, of_label[label], 1 / (num_classes - 1)) < RARE}
    return dict(sorted(confused.items(), key=lambda item: (-len(item[1]), item[0])))


def pairs_section(run, read):
    """Return the section of the confused pairs, or None where there are none."""
    pairs = above_chance(run.predictions or (), len(run.classes or ()))
    if not pairs:
        return None
    shown = list(pairs.values())[:PAIRS]
    images = Counter(p.label for p in run.predictions)
    which = f'; the {PAIRS} most frequent of {len(pairs):,}' if len(pairs) > PAIRS else ''
    note = (f'Label → prediction, where it is given more often than errors spread evenly would be{which}. A pair that '
            'nobody can tell apart, or a folder with wrong labels, shows here.')
    return section('Classes that are confused', tag('p', note, class_='soft'),
                   [_pair(wrong, images[wrong[0].label], read) for wrong in shown])


def _pair(wrong, images, read):
    first = wrong[0]
    title = [tag('span', first.label_name, class_='name'), ' → ', tag('span', first.predicted_name, class_='name')]
    count = f'{len(wrong):,} of {images:,} images' + (f', the {PICTURES} surest' if len(wrong) > PICTURES else '')
    return tag('article', tag('h3', title), tag('p', count, class_='soft'),
               tag('div', [figure(prediction, read(prediction.path)) for prediction in wrong[:PICTURES]],
                   class_='thumbnails'))

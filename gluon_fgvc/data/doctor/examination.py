"""What is wrong with a data set: broken files, odd modes, thin classes, duplicates, contradicting labels.

:func:`examine` looks at every image once and compares their fingerprints; its :class:`Report` becomes a table,
a JSON tree, or a page (``gluon_fgvc.pages.data``).
"""
import os
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from textwrap import shorten
from typing import List

import numpy as np

from gluon_fgvc.data.doctor.fingerprints import near_pairs
from gluon_fgvc.data.doctor.inspection import inspect
from gluon_fgvc.data.findings import KINDS, Finding
from gluon_fgvc.data.pool import map_in_order
from gluon_fgvc.data.splits import torn_units

ALIKE = ('label_conflict', 'duplicate_across', 'near_duplicate_across', 'duplicate_inside', 'near_duplicate_inside')
CHUNK = 32  # images that a worker gets at a time


@dataclass
class Report:
    """Findings, the worst kinds first, and what the data set looks like."""

    findings: List[Finding]
    statistics: dict

    def counts(self):
        """Return a dict of kind → findings, in the order of ``KINDS``, without those that have none."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}

    def without(self, kinds):
        """Return the report without the findings of ``kinds``."""
        return Report([finding for finding in self.findings if finding.kind not in kinds], self.statistics)

    def look_alikes(self):
        """Return the groups of images that are or look like one photograph, of one class or several: lists of paths."""
        return [list(finding.files) for finding in self.findings if finding.kind in ALIKE]

    def tree(self):
        """Return what ``json.dumps`` can write."""
        return {'problems': len(self.findings), 'counts': self.counts(),
                'findings': [asdict(finding) for finding in self.findings], 'statistics': self.statistics}


def examine(source, findings=(), workers=0, progress=None):
    """Look at every image of a :class:`~gluon_fgvc.data.base.Source` once and return the :class:`Report`.

    :param findings: what reading its lists has found, as :func:`gluon_fgvc.data.survey` returns both.
    :param workers: processes that look; 0 is this one.
    :param progress: called with the number of images looked at since the last call.
    :raises DataError: if a worker process dies.
    """
    if source is None:
        return Report(list(findings), {})
    splits = source.splits()
    where = [(images, index) for images in splits for index in range(len(images))]
    seen = []
    for chunk in _inspections(splits, workers):
        seen += chunk
        if progress is not None:
            progress(len(chunk))
    found = list(findings)
    for (images, index), inspection in zip(where, seen):
        found += [Finding(kind, detail, (images.paths[index],)) for kind, detail in inspection.problems]
    found += _gray(where, seen) + _classes(source, splits, {name for f in findings for name in f.classes})
    found += _duplicates(source, where, seen) + _torn_units(source, splits)
    order = list(KINDS)
    found.sort(key=lambda finding: order.index(finding.kind))
    return Report(found, _statistics(source, splits, seen))


def count(source):
    """Return how many images :func:`examine` will look at."""
    return sum(map(len, source.splits())) if source else 0


def _inspections(splits, workers):
    """Yield lists of inspections, in order."""
    def look(chunk):
        images, indices = chunk
        return [inspect(splits[images], index) for index in indices]

    chunks = [(number, range(start, min(start + CHUNK, len(images))))
              for number, images in enumerate(splits) for start in range(0, len(images), CHUNK)]
    return map_in_order(look, chunks, workers, 'use fewer --workers')


# --- findings --------------------------------------------------------------------------------

def _gray(where, seen):
    """Report the fewer of gray and colour images."""
    readable = [(images.paths[index], inspection.gray) for (images, index), inspection in zip(where, seen)
                if inspection.readable]
    fewer = 2 * sum(gray for _, gray in readable) <= len(readable)
    kind, detail = ('gray', 'gray among colour images') if fewer else ('colour', 'in colour among gray images')
    return [Finding(kind, detail, (path,)) for path, gray in readable if gray == fewer]


def _classes(source, splits, known):
    """Report classes that are empty, have one training image, or are absent from a split."""
    counts, found = _class_counts(source, splits), []
    for label, name in enumerate(source.classes):
        have = {split: int(count[label]) for split, count in counts.items()}
        absent = [split for split, count in have.items() if not count]
        says = ', '.join(f'{count} in {split}' for split, count in have.items() if count)
        if name in known:
            pass  # an empty folder
        elif len(absent) == len(have):
            found.append(Finding('empty_class', f"class '{name}' has no image", classes=(name,)))
        elif absent:
            found.append(Finding('class_mismatch', f"class '{name}' has no image in {', '.join(absent)} ({says})",
                                 classes=(name,)))
        if have['train'] == 1:
            found.append(Finding('one_image_class', f"class '{name}' has one image in train", classes=(name,)))
    return found


def _torn_units(source, splits):
    """Report each unit of images that is in several splits."""
    return [Finding('torn_unit', f"unit '{unit}' has images in {' and '.join(names)}",
                    tuple(images.paths[index] for images in splits if images.units is not None
                          for index in np.flatnonzero(images.units == unit)))
            for unit, names in torn_units(source)]


def _class_counts(source, splits):
    return {images.name: np.bincount(images.labels, minlength=len(source.classes)) for images in splits}


def _duplicates(source, where, seen):
    """Report groups of images that are one photograph, each group once."""
    by_digest = defaultdict(list)
    for position, inspection in enumerate(seen):
        if inspection.readable:
            by_digest[inspection.digest].append(position)
    first = [positions[0] for positions in by_digest.values()]  # one of each content is enough to compare
    group = {position: {position} for position in first}
    if first:
        hashes, thumbnails = (np.stack([getattr(seen[position], name) for position in first])
                              for name in ('hash', 'thumbnail'))
        for i, j in near_pairs(hashes, thumbnails):
            one, other = group[first[i]], group[first[j]]
            if one is not other:
                one |= other
                for position in other:
                    group[position] = one
    found, done = [], set()
    for position in first:
        if position in done:
            continue
        done |= group[position]
        members = sorted(p for one in group[position] for p in by_digest[seen[one].digest])
        if len(members) > 1:
            found.append(_group(source, [where[p] for p in members], exact=len(group[position]) == 1))
    return found


def _group(source, members, exact):
    labels = sorted({int(images.labels[index]) for images, index in members})
    splits = list(dict.fromkeys(images.name for images, _ in members))
    names = ', '.join(f"'{source.classes[label]}'" for label in labels)
    what = ('identical' if exact else 'look like one photograph') + f" in {' and '.join(splits)}"
    if len(labels) > 1:
        kind, what = 'label_conflict', f'{what}, as {names}'
    else:
        kind = ('duplicate_' if exact else 'near_duplicate_') + ('across' if len(splits) > 1 else 'inside')
        what = f'{what} ({names})'
    return Finding(kind, what, tuple(images.paths[index] for images, index in members))


# --- statistics ------------------------------------------------------------------------------

def _statistics(source, splits, seen):
    sizes = np.array([inspection.size for inspection in seen if inspection.size]).reshape(-1, 2)
    formats = Counter(inspection.format for inspection in seen if inspection.format)
    counts = _class_counts(source, splits)
    train = counts['train']
    filled = train[train > 0]
    return {
        'images': len(seen), 'readable': sum(inspection.readable for inspection in seen),
        'classes': len(source.classes),
        'splits': {images.name: len(images) for images in splits},
        'formats': dict(formats.most_common()),
        'gray': sum(bool(inspection.gray) for inspection in seen),
        'width': _range(sizes[:, 0]), 'height': _range(sizes[:, 1]),
        'aspect': _range(sizes[:, 0] / sizes[:, 1]) if len(sizes) else None,
        'train_images_a_class': _range(train),
        'imbalance': round(float(filled.max() / filled.min()), 2) if len(filled) else None,
        'class_counts': {name: {split: int(count[label]) for split, count in counts.items()}
                         for label, name in enumerate(source.classes)},
    }


def _range(values):
    """Return smallest, median and largest, or None of nothing."""
    if not len(values):
        return None
    return {name: round(float(value), 3) for name, value in
            (('min', np.min(values)), ('median', np.median(values)), ('max', np.max(values)))}


def _range_text(found):
    """Return what :func:`_range` found in words: ``10 to 40, median 30``, or one number where all are equal."""
    low, median, high = (f'{found[name]:,g}' for name in ('min', 'median', 'max'))
    return low if low == high else f'{low} to {high}, median {median}'


def table(report):
    """Return the lines that sum a report up."""
    s = report.statistics
    lines = []
    if s:
        splits = ', '.join(f'{name} {count:,}' for name, count in s['splits'].items())
        lines.append(f"{s['images']:,} images ({s['readable']:,} readable) of {s['classes']:,} classes: {splits}")
        if s['width']:
            formats = ', '.join(f'{name} {count:,}' for name, count in s['formats'].items())
            lines.append('sizes: ' + '; '.join(f'{name} {_range_text(s[name])}'
                                              for name in ('width', 'height', 'aspect')))
            lines.append(f"formats: {formats or 'none (no files)'}; {s['gray']:,} gray")
        per_class = s['train_images_a_class']
        lines.append(f"training images a class: {_range_text(per_class)}; imbalance {s['imbalance']:g} (largest to "
                     'smallest that has any)')
    counts = report.counts()
    if not counts:
        return lines + ['no problems found']
    lines.append('')
    width = max(map(len, counts))
    for kind, count in counts.items():
        example = next(finding for finding in report.findings if finding.kind == kind)
        says = example.detail  # of the whole data set: what is wrong may stand at its end
        if example.files:
            says = shorten(f'{os.path.basename(example.files[0])}: {says}', 110, placeholder=' …')
        lines += [f'{kind:<{width}} {count:>6,}  {KINDS[kind][0]}; {KINDS[kind][1]}',
                  f"{'':<{width}}         e.g. {says}"]
    return lines + ['', f'{len(report.findings):,} problems of {len(counts)} kinds']

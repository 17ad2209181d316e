"""What each format of an export computes, compared with the network it came from, and what it costs.

Every format is opened from its folder as a stranger would and shown images of the run: as they are, and tinted, because
the photographs may be grey and say nothing about the order of colours. What lies beyond the bounds fails.
"""
import datetime
import json
import os
import platform
from dataclasses import dataclass

import mxnet as mx
import numpy as np

import gluon_fgvc
from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.measure import measure
from gluon_fgvc.deploy.metadata import METADATA, PARAMETERS, Metadata
from gluon_fgvc.deploy.metadata import SYMBOL as SYMBOL_FILE
from gluon_fgvc.engine.statistics import mcnemar, wilson
from gluon_fgvc.errors import CheckFailed
from gluon_fgvc.files import hash_of_file, write_atomically
from gluon_fgvc.machine import processor
from gluon_fgvc.pages import certificate as certificate_page
from gluon_fgvc.runs.conversion import judging_sample, probabilities

TINTED = 32  # images with other colours


@dataclass(frozen=True)
class Bound:
    """What a format may do to probabilities in [0, 1] and to decisions."""

    largest: float    # difference of a probability
    mean: float       # of the largest difference of each image
    agreement: float  # share of images with the same most probable class, at least


# In 8 bits a single image may cross over; the loss of accuracy is bound as well.
BOUNDS = {'symbol': Bound(1e-5, 1e-5, 0.999), 'onnx': Bound(1e-4, 1e-4, 0.999), 'float16': Bound(2e-2, 2e-3, 0.99),
          'bfloat16': Bound(0.2, 2e-2, 0.97),
          'int8': Bound(1.0, 0.05, 0.9)}
INT8_LOSS = 1.0  # points


def certify(run, folder, *, int8_loss=INT8_LOSS, time=True):
    """Compare all formats of ``folder`` with the network of a :class:`Run`; write ``certificate.json`` and its page.

    :param int8_loss: the largest loss of accuracy of int8, in points.
    :param time: measure speed and memory as well.
    :returns: what ``certificate.json`` has.
    """
    judged, names = judging_sample(run), formats.written(folder)
    rng = np.random.RandomState(0)
    some = judged.images[:TINTED]
    tinted = (some * rng.uniform(0.2, 1, (len(some), 1, 1, 3))).astype('uint8')
    metadata = Metadata.read(folder)
    reference = Reference(run, calibrated=metadata.temperature is not None)
    expected = [probabilities(reference, images) for images in (judged.images, tinted)]
    entries = {name: _compared(folder, name, metadata, judged, tinted, expected, run.classes, int8_loss)
               for name in names}
    costs = measure(folder, [name for name in names if entries[name]['runs']]) if time else {}
    for name, cost in costs.items():
        entries[name].update(images_a_second={str(batch): _short(batch / seconds)
                                              for batch, seconds in cost['seconds'].items()},
                             peak_memory_mib=cost['peak_memory_mib'])
    right = int((expected[0].argmax(axis=1) == judged.labels).sum())
    tree = {
        'format': 1, 'passed': all(entry['passed'] for entry in entries.values()), 'isa': processor.onednn_choice(),
        'instruction_sets': processor.instruction_sets(), 'machine': platform.machine(), 'cores': os.cpu_count(),
        'threads': os.environ.get('OMP_NUM_THREADS'), 'versions': _versions(),
        'made_at': datetime.datetime.now(datetime.timezone.utc).isoformat(timespec='seconds'),
        'run': run.folder.resolve().name, 'images': {'split': judged.split, 'count': len(judged.labels),
                                                     'tinted': len(tinted)},
        'network': {'top1': _short(right / len(judged.labels)),
                    'interval': [_short(share) for share in wilson(right, len(judged.labels))]},
        'formats': entries}
    write_atomically(os.path.join(folder, formats.CERTIFICATE), json.dumps(tree, indent=1) + '\n')
    write_atomically(os.path.join(folder, formats.CERTIFICATE_PAGE), certificate_page.page_of(tree))
    return tree


class Reference:
    """The network of a run, pixels uint8 (N,H,W,3) → probabilities (N,K): what every format has to be."""

    def __init__(self, run, calibrated=True):
        self._run, self._calibrated = run, calibrated

    def __call__(self, pixels):
        images = self._run.normalize(mx.nd.array(pixels, ctx=self._run.ctx, dtype='uint8'))
        return self._run.probabilities(images, self._calibrated).asnumpy()


def _compared(folder, name, metadata, judged, tinted, expected, classes, int8_loss):
    entry, faults = _identity(folder, name), []
    for file, found in entry['files'].items():
        if found['sha256'] != metadata.files[file]['sha256']:
            faults.append(f'{file} has another SHA-256 than {METADATA} says')
    if tuple(metadata.classes) != tuple(classes):
        faults.append('its classes are not those of the run, in their order')
    try:
        model = formats.open_format(folder, name, fuse=False)
        found = [probabilities(model, images) for images in (judged.images, tinted)]
    except Exception as error:  # a damaged file fails the certificate, in whatever way a runtime says so
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        return {**entry, 'runs': False, 'passed': False, 'faults': [*faults, f'it cannot be run: {reason}']}
    differences = np.concatenate([np.abs(a - b).max(axis=1) for a, b in zip(found, expected)])
    scale = np.concatenate([b.max(axis=1) for b in expected])
    best, wanted = found[0].argmax(axis=1), expected[0].argmax(axis=1)
    was, now = wanted == judged.labels, best == judged.labels
    only_network, only_format = int((was & ~now).sum()), int((now & ~was).sum())
    agreement, loss = float((best == wanted).mean()), 100 * float(was.mean() - now.mean())
    faults += _beyond(BOUNDS[name], differences, agreement)
    if name == 'int8' and loss > int8_loss:
        faults.append(f'{loss:.2f} points of accuracy are lost, allowed are {int8_loss:g}')
    return {**entry, 'runs': True, 'passed': not faults, 'faults': faults,
            'largest_difference': _short(differences.max()), 'mean_difference': _short(differences.mean()),
            'largest_relative_difference': _short((differences / scale).max()), 'agreement': _short(agreement),
            'top1': _short(now.mean()), 'loss_points': _short(loss),
            'mcnemar': {'only_network': only_network, 'only_format': only_format,
                        'p': _short(mcnemar(only_network, only_format))},
            **_by_class(judged.labels, was, now, classes)}


def _beyond(bound, differences, agreement):
    """Return what lies beyond ``bound``, in words; NaN does."""
    largest, mean = differences.max(), differences.mean()
    words = []
    if not largest <= bound.largest:
        words.append(f'a probability differs by {largest:.3g}, allowed is {bound.largest:g}')
    if not mean <= bound.mean:
        words.append(f'probabilities differ by {mean:.3g} in the mean, allowed is {bound.mean:g}')
    if not agreement >= bound.agreement:
        words.append(f'the most probable class is the same on {agreement:.1%} of images, at least '
                     f'{bound.agreement:.1%} are asked for')
    return words


def _identity(folder, name):
    files = (SYMBOL_FILE, PARAMETERS) if name == formats.SYMBOL else (formats.FILES[name],)
    paths = {file: os.path.join(folder, file) for file in files}
    return {'files': {file: {'bytes': os.path.getsize(path), 'sha256': hash_of_file(path)}
                      for file, path in paths.items()}}


def _by_class(labels, was, now, classes):
    """Return the classes whose number of right images has changed, and the one that loses most."""
    rows = []
    for k in np.unique(labels):
        images, change = int((labels == k).sum()), int(now[labels == k].sum()) - int(was[labels == k].sum())
        rows.append({'name': classes[k], 'images': images, 'change': change,
                     'change_points': _short(100 * change / images)})
    worst = min(rows, key=lambda row: (row['change'], row['change_points']))
    return {'worst_class': worst, 'changed_classes': [row for row in rows if row['change']]}


def _versions():
    import importlib.metadata
    found = {'gluon_fgvc': gluon_fgvc.__version__, 'mxnet': mx.__version__, 'numpy': np.__version__,
             'python': platform.python_version()}
    for name in ('onnx', 'onnxruntime'):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def _short(value):
    return float(f'{float(value):.4g}')


def summary(tree):
    """Return a line for each format."""
    lines = []
    for name, entry in tree['formats'].items():
        if not entry['runs']:
            lines.append(f"{name:8} FAILED: {'; '.join(entry['faults'])}")
            continue
        speed = entry.get('images_a_second', {})
        costs = ''.join(f', {value:g} images/s at {batch}' for batch, value in speed.items())
        verdict = 'ok' if entry['passed'] else 'FAILED: ' + '; '.join(entry['faults'])
        lines.append(f"{name:8} top-1 {entry['top1']:.2%}, agrees on {entry['agreement']:.2%}, largest difference "
                     f"{entry['largest_difference']:.2g}{costs}: {verdict}")
    return '\n'.join(lines)


def check(tree):
    """Raise CheckFailed if a format of a certificate failed."""
    failed = [name for name, entry in tree['formats'].items() if not entry['passed']]
    if failed:
        name = failed[0]
        raise CheckFailed(f"the certificate failed: format '{name}': {'; '.join(tree['formats'][name]['faults'])}"
                          + (f' (and {len(failed) - 1} more formats)' if failed[1:] else ''))

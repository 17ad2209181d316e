"""``MODEL.md``: what an exported model is, for those who were not there; only what the run knows."""
import importlib.metadata
import os
import re

import numpy as np

from gluon_fgvc.deploy import formats
from gluon_fgvc.deploy.metadata import Metadata
from gluon_fgvc.engine.statistics import calibration, wilson
from gluon_fgvc.errors import UserError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.run_folder import read_predictions

MODEL_CARD = 'MODEL.md'
MARK = '<!-- Written by fgvc export, which leaves a card without this line alone. -->'
CLASSES_SHOWN = 30
WEAKEST = 3
_ZOO = "the model zoo of GluonCV (the package's licence is Apache-2.0; the zoo states none for single files)"


def write(run, folder, certified=None):
    """Write ``MODEL.md`` of a :class:`Run` into the exported model's ``folder``, unless somebody else's is there.

    :param certified: what :func:`gluon_fgvc.runs.certificate.certify` returned, if there is one.
    :returns: whether it was written.
    """
    path = os.path.join(folder, MODEL_CARD)
    if os.path.exists(path):
        with open(path, encoding='utf-8', errors='replace') as stream:
            if MARK not in stream.read():
                return False
    metadata = Metadata.read(folder)
    evaluation = run.files.read_evaluation()
    sections = [_head(run, metadata), _data(run), _accuracy(run, evaluation),
                _calibration(run, metadata, evaluation), _weights(run), _formats(certified),
                _limits(run, metadata, evaluation)]
    text = '\n\n'.join('\n'.join(lines) for lines in sections if lines)
    write_atomically(path, f'{text}\n\n{MARK}\n')
    return True


def _head(run, metadata):
    view = metadata.view
    size = 'x'.join(map(str, view.resize)) if isinstance(view.resize, tuple) else f'shorter side {view.resize}'
    return [f'# {run.folder.resolve().name}', '',
            f"Method `{run.cfg.method.name}` on backbone `{run.cfg.backbone.name}`, made by gluon_fgvc "
            f"{metadata.versions.get('gluon_fgvc', '')}; checkpoint `{run.which}`, epoch {run.epoch}.", '',
            f"- takes RGB images, resized to {size} px" + (f', centre crop {view.crop} px' if view.crop else ''),
            f"- returns {metadata.output} of {len(metadata.classes)} classes: {_classes(metadata.classes)}",
            f"- configuration: `{run.files.config.name}`, SHA-256 `{metadata.source.get('config_sha256', 'unknown')}`"]


def _classes(names):
    shown = ', '.join(_text(name) for name in names[:CLASSES_SHOWN])
    return shown if len(names) <= CLASSES_SHOWN else f'{shown} and {len(names) - CLASSES_SHOWN} more (`model.json`)'


def _data(run):
    lines = ['## Data', '', f"Data set `{run.cfg.data.name}`."]
    try:
        source = run.source
    except UserError as error:
        return [*lines, f'It could not be read when this was written: {_text(error)}']
    lines += ['', '| split | images | smallest class | largest class |', '|---|--:|--:|--:|']
    for images in source.splits():
        counts = np.bincount(images.labels, minlength=len(source.classes))
        lines.append(f'| {images.name} | {len(images):,} | {counts.min():,} | {counts.max():,} |')
    return lines


def _accuracy(run, evaluation):
    chosen = run.chosen_by
    lines = ['## Accuracy', '', f"The epoch was chosen by the {chosen['metric']} on the {chosen['split']} split."
             if chosen['split'] else 'The epoch is the last' +
             ('.' if run.which == 'last' else ': no validation split chose one.')]
    if evaluation is None:
        return [*lines, 'The test split has not been evaluated (`fgvc evaluate`).']
    if evaluation['checkpoint'] != run.which:
        return [*lines, f"The test split was evaluated at checkpoint `{evaluation['checkpoint']}`, not at this one."]
    low, high = wilson(evaluation['top1'] * evaluation['images'], evaluation['images'])
    times = run.files.count_tests()
    lines += [f"Top-1 {evaluation['top1']:.2%} (95 % interval {low:.1%} to {high:.1%}), mean over classes "
              f"{evaluation['mean_class_accuracy']:.2%}, on {evaluation['images']:,} images of the "
              f"{evaluation['split']} split, which this run has looked at {times} time{'s' * (times != 1)}."]
    try:
        rows = read_predictions(run.files.predictions_file())
    except UserError:
        return lines
    error = calibration([row.probability for row in rows], [row.correct for row in rows])[1]
    confidence = np.mean([row.probability for row in rows])
    return [*lines, f"Calibration error of the logits as they are: {error:.3f} (10 bins); the mean probability of what "
                    f'it names is {confidence:.1%}.']


def _calibration(run, metadata, evaluation):
    if metadata.temperature is None:
        return ['## Probabilities', '', 'They are those of the logits as the network gives them, not calibrated.']
    lines = ['## Probabilities', '',
             f'They are calibrated: the graph divides its logits by {metadata.temperature:.4g}, a temperature fitted '
             'on validation and never on test. The order of the classes is the same without it; '
             'logits multiplied by it are those of the network.']
    measured = evaluation and evaluation['checkpoint'] == run.which and evaluation.get('calibrated_ece')
    if measured:
        lines.append(f"On the {evaluation['split']} split the calibration error is {measured:.3f} with it and "
                     f"{evaluation['ece']:.3f} without.")
    return lines


def _weights(run):
    options = run.cfg.method.options
    sources = [('backbone', run.cfg.backbone.weights)]
    sources += [(name, value) for name, value in sorted(vars(options).items()) if name.endswith('weights')]
    return ['## Weights it began with', '', *(f'- {name}: {_origin(source)}' for name, source in sources)]


def _origin(source):
    if source == 'none':
        return 'none, random numbers'
    if source == 'zoo':
        return f'`zoo`, {_ZOO}'
    if source.startswith('package:'):
        return f'`{source}`, {_licence(source.split(":", 1)[1])}'
    return f'`{_text(source)}`, licence not known to this program'


def _licence(package):
    """Return what an installed package says of its licence."""
    for distribution in importlib.metadata.distributions():
        name = re.sub(r'[-_.]+', '-', distribution.metadata['Name'] or '').lower()
        if name.startswith(package):
            stated = distribution.metadata.get('License-Expression') or distribution.metadata.get('License')
            stated = stated if stated and stated != 'UNKNOWN' else 'no licence in its metadata'
            return f'package {name} {distribution.version}: {_text(stated.splitlines()[0])}'
    return 'the package is not installed here: licence not known'


def _formats(certified):
    if not certified:
        return []
    lines = ['## Formats', '', f"Compared with the network on {certified['images']['count']:,} images of the "
             f"{certified['images']['split']} split, with {certified['isa']}; see `{formats.CERTIFICATE_PAGE}`.", '',
             '| format | top-1 | same class | largest difference | verdict |', '|---|--:|--:|--:|---|']
    for name, entry in certified['formats'].items():
        verdict = 'passed' if entry['passed'] else 'FAILED'
        figures = (f"{entry['top1']:.2%} | {entry['agreement']:.2%} | {entry['largest_difference']:.2g}"
                   if entry['runs'] else '– | – | –')
        lines.append(f'| {name} | {figures} | {verdict} |')
    return lines


def _limits(run, metadata, evaluation):
    lines = ['## Known limits', '',
             f'- It names one of {len(metadata.classes)} classes for whatever it is shown, and cannot say that it is '
             'none of them.',
             f'- Its figures are of images like those of `{run.cfg.data.name}`; of others nothing is known.']
    if not metadata.flexible:
        lines.append(f"- It takes images of {metadata.size[0]} x {metadata.size[1]} px only.")
    if evaluation is not None:
        rows = sorted((row for row in evaluation['per_class'] if row['images']), key=lambda row: row['accuracy'])
        for row in rows[:min(WEAKEST, len(rows) // 2)]:
            low, high = wilson(row['correct'], row['images'])
            lines.append(f"- {_text(row['name'])}: {row['correct']} of {row['images']} right "
                         f'({low:.0%} to {high:.0%}), among the weakest classes.')
    return lines


def _text(value):
    """Return a name on one line, without what Markdown reads as marks."""
    return re.sub(r'([\\`*_{}\[\]<>|#])', r'\\\1', ' '.join(str(value).split()))

"""Whether a network is as sure as it is right."""
import numpy as np

from gluon_fgvc.engine import statistics
from gluon_fgvc.pages import charts as plots
from gluon_fgvc.pages.charts import percent
from gluon_fgvc.pages.markup import tag
from gluon_fgvc.pages.report.parts import absent, section
from gluon_fgvc.run_folder import RunFolder


def calibration_section(run):
    """Return the section of calibration."""
    if not run.predictions:
        return section('Calibration', absent(run, RunFolder.predictions)
                        or tag('p', 'predictions.csv holds no labelled image.', class_='soft'))
    bins, error = statistics.calibration([p.probability for p in run.predictions], [p.correct for p in run.predictions])
    accuracy = sum(p.correct for p in run.predictions) / len(run.predictions)
    confidence = float(np.mean([p.probability for p in run.predictions]))
    low, high = statistics.wilson(accuracy * len(run.predictions), len(run.predictions))
    tendency = 'over-confident' if confidence > high else 'under-confident' if confidence < low else \
        'about as sure as it is right'
    text = (f'The network is {tendency}: its mean confidence is {percent(confidence)}, its accuracy '
            f'{percent(accuracy)}. Expected calibration error over ten bins: {percent(error)}.' + _calibrated(run))
    figure = tag('figure', plots.reliability(bins, text), tag(
        'figcaption', 'Share of right predictions by confidence, with 95 % intervals; grey: how many images.'))
    return section('Calibration', tag('p', text, class_='soft'), tag('div', figure, class_='charts'))


def _calibrated(run):
    """Return what the temperature that validation has fitted would make of it, as a sentence, or nothing."""
    found = run.evaluation or {}
    if not all(isinstance(found.get(key), float) for key in ('temperature', 'calibrated_ece')):
        return ''
    return (f" With logits divided by {found['temperature']:.2f}, the temperature fitted on validation, it is "
            f"{percent(found['calibrated_ece'])}.")

"""All that a run left in its folder, for pages about it; a file that is absent or broken is explained."""
import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import yaml

from gluon_fgvc.errors import CheckpointError
from gluon_fgvc.run_folder import predictions
from gluon_fgvc.run_folder.folder import RunFolder, check_measures, suffix_of
from gluon_fgvc.run_folder.predictions import WRITTEN_BY, Prediction

_TRAINING, _EVALUATION = 'training writes it when it starts', WRITTEN_BY
WRITERS = {
    RunFolder.config: _TRAINING,
    RunFolder.environment: _TRAINING,
    RunFolder.classes: _TRAINING,
    RunFolder.metrics: 'training writes it while it runs',
    RunFolder.predictions: _EVALUATION,
    RunFolder.evaluation: _EVALUATION,
}


class Choice(NamedTuple):
    """What chose the epoch: the best ``metric`` on ``split``, or nothing (None: the last epoch was kept)."""

    epoch: Optional[int]  # counted from 0
    split: Optional[str]
    metric: Optional[str] = None
    value: Optional[float] = None


@dataclass
class RunFiles:
    """The contents of a run folder; ``missing`` tells why a file gave nothing."""

    folder: Path
    config_text: Optional[str] = None
    config: Optional[dict] = None
    env: Optional[dict] = None
    classes: Optional[List[str]] = None
    epochs: Optional[List[dict]] = None             # 'epoch' records of metrics.jsonl, in order, one an epoch
    predictions: Optional[List[Prediction]] = None
    evaluation: Optional[dict] = None
    chosen_by: Optional[dict] = None                # of the best checkpoint so far
    test_evaluations: List[dict] = field(default_factory=list)  # every one on record, oldest first
    missing: Dict[str, str] = field(default_factory=dict)  # file name → one sentence


def read(folder):
    """Read the run folder ``folder``.

    ``evaluation`` and ``predictions`` are those of the test split, or else of the validation split.

    :raises CheckpointError: if it is not a folder, or has none of a run's files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"'{folder}' is not a folder; give the run folder that fgvc train printed")
    run, names = RunFiles(folder), RunFolder(folder)
    suffix = ''
    if not names.evaluation_file().exists() and names.evaluation_file(suffix_of('val')).exists():
        suffix = suffix_of('val')

    def get(name, parse, path=None):
        try:
            return parse((path or folder / name).read_text(encoding='utf-8', errors='surrogateescape'))
        except FileNotFoundError:
            run.missing[name] = f'{name} is missing: {WRITERS[name]}.'
        except OSError as error:
            run.missing[name] = f'{name} cannot be read: {error.strerror}.'
        except (ValueError, KeyError, TypeError, csv.Error, yaml.YAMLError) as error:
            run.missing[name] = f'{name} is broken: {" ".join(str(error).split())}.'
        return None

    run.config_text = get(RunFolder.config, str)
    run.config = get(RunFolder.config, lambda text: _mapping(yaml.safe_load(text)))
    run.env = get(RunFolder.environment, lambda text: _mapping(json.loads(text)))
    run.classes = get(RunFolder.classes, lambda text: [str(name) for name in json.loads(text)])
    run.epochs = get(RunFolder.metrics, _epochs)
    run.predictions = get(RunFolder.predictions, predictions.parse, names.predictions_file(suffix))
    run.evaluation = get(RunFolder.evaluation, _evaluation, names.evaluation_file(suffix))
    if names.best.exists():
        run.chosen_by = get(RunFolder.best, lambda text: _mapping(json.loads(text)['chosen_by']))
    if len(run.missing) == len(WRITERS):
        raise CheckpointError(f"'{folder}' is not a run folder: it has no readable {', '.join(WRITERS)}")
    if names.test_evaluations.exists():
        run.test_evaluations = _json_lines(names.test_evaluations.read_text(encoding='utf-8'))
    elif run.evaluation and run.evaluation.get('split') == 'test':
        run.test_evaluations = [run.evaluation]
    return run


def _mapping(value):
    if not isinstance(value, dict):
        raise ValueError('expected a mapping')
    return value


def _evaluation(text):
    evaluation = _mapping(json.loads(text))
    evaluation['images'], evaluation['top1'] = int(evaluation['images']), float(evaluation['top1'])
    return evaluation


def _json_lines(text):
    """Parse one object a line; a last line cut off by a killed process is dropped."""
    records, lines = [], text.strip().split('\n') if text.strip() else []
    for number, line in enumerate(lines, 1):
        try:
            records.append(_mapping(json.loads(line)))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f'line {number}: {error}') from None
    return records


def _epochs(text):
    """Return one record an epoch; an epoch repeated after a resume counts as it was last written."""
    by_epoch = {int(record['epoch']): record for record in _json_lines(text) if record.get('kind') == 'epoch'}
    for record in by_epoch.values():
        check_measures(record)
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def choice(run):
    """Return the :class:`Choice` of a run, as its evaluation or else its best checkpoint says."""
    chosen = (run.evaluation or {}).get('chosen_by') or run.chosen_by or {}
    if not isinstance(chosen.get('epoch'), int):
        return Choice(None, None)
    return Choice(chosen['epoch'], chosen.get('split'), chosen.get('metric'), chosen.get('value'))

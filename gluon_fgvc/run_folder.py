"""Reads what a run left in its folder, without MXNet; a file that is absent or broken is explained."""
import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import yaml

from gluon_fgvc.errors import CheckpointError

WRITTEN_BY = {
    'config.yaml': 'training writes it when it starts',
    'env.json': 'training writes it when it starts',
    'classes.json': 'training writes it when it starts',
    'metrics.jsonl': 'training writes it while it runs',
    'predictions.csv': 'tools/train.py writes it at its end, tools/evaluate.py at any time',
    'evaluation.json': 'tools/train.py writes it at its end, tools/evaluate.py at any time',
}


class Choice(NamedTuple):
    """What chose the epoch: the best ``metric`` on ``split``, or nothing (None: the last epoch was kept)."""

    epoch: Optional[int]  # counted from 0
    split: Optional[str]
    metric: Optional[str] = None
    value: Optional[float] = None


class Prediction(NamedTuple):
    """One line of predictions.csv that has a label."""

    path: str
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    probability: float  # of the predicted class
    correct: bool


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
        raise CheckpointError(f"'{folder}' is not a folder; give the run folder that tools/train.py printed")
    run = RunFiles(folder)

    untested = not (folder / 'evaluation.json').exists() and (folder / 'evaluation_val.json').exists()

    def get(name, parse):
        actual = name.replace('.', '_val.') if untested and name in ('predictions.csv', 'evaluation.json') else name
        try:
            return parse((folder / actual).read_text(encoding='utf-8', errors='surrogateescape'))
        except FileNotFoundError:
            run.missing[name] = f'{name} is missing: {WRITTEN_BY[name]}.'
        except OSError as error:
            run.missing[name] = f'{name} cannot be read: {error.strerror}.'
        except (ValueError, KeyError, TypeError, csv.Error, yaml.YAMLError) as error:
            run.missing[name] = f'{name} is broken: {" ".join(str(error).split())}.'
        return None

    run.config_text = get('config.yaml', str)
    run.config = get('config.yaml', lambda text: _mapping(yaml.safe_load(text)))
    run.env = get('env.json', lambda text: _mapping(json.loads(text)))
    run.classes = get('classes.json', lambda text: [str(name) for name in json.loads(text)])
    run.epochs = get('metrics.jsonl', _epochs)
    run.predictions = get('predictions.csv', _predictions)
    run.evaluation = get('evaluation.json', _evaluation)
    if (folder / 'best.json').exists():
        run.chosen_by = get('best.json', lambda text: _mapping(json.loads(text)['chosen_by']))
    if len(run.missing) == len(WRITTEN_BY):
        raise CheckpointError(f"'{folder}' is not a run folder: it has no readable {', '.join(WRITTEN_BY)}")
    if (folder / 'test_evaluations.jsonl').exists():
        run.test_evaluations = _json_lines((folder / 'test_evaluations.jsonl').read_text(encoding='utf-8'))
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
    return [by_epoch[epoch] for epoch in sorted(by_epoch)]


def read_predictions(path):
    """Return the labelled :class:`Prediction` rows of a ``predictions*.csv``.

    :raises CheckpointError: if there is none, or it is broken.
    """
    try:
        return _predictions(Path(path).read_text(encoding='utf-8', errors='surrogateescape'))
    except FileNotFoundError:
        raise CheckpointError(f"there is no '{path}': {WRITTEN_BY['predictions.csv']}") from None
    except (ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(f"'{path}' is not a predictions.csv of tools/evaluate.py: {error!r}") from None


def _predictions(text):
    rows = []
    reader = csv.DictReader(io.StringIO(text, newline=''))
    for row in reader:
        if row['label'] in ('', None):
            continue
        try:
            rows.append(Prediction(
                row['path'], int(row['label']), row['label_name'], int(row['predicted']), row['predicted_name'],
                float(row['probability']), row['correct'].strip().lower() in ('1', 'true')))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f'line {reader.line_num}: {error}') from None
    return rows


def choice(run):
    """Return the :class:`Choice` of a run, as its evaluation or else its best checkpoint says."""
    chosen = (run.evaluation or {}).get('chosen_by') or run.chosen_by or {}
    if not isinstance(chosen.get('epoch'), int):
        return Choice(None, None)
    return Choice(chosen['epoch'], chosen.get('split'), chosen.get('metric'), chosen.get('value'))

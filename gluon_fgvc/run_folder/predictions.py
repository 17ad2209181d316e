"""The table ``predictions*.csv``: what a network said of each image of a split."""
import csv
import io
from pathlib import Path
from typing import Mapping, NamedTuple, Optional

from gluon_fgvc.errors import CheckpointError

WRITTEN_BY = 'fgvc train writes it at its end, fgvc evaluate at any time'
PREDICTION_COLUMNS = ('path', 'label', 'label_name', 'predicted', 'predicted_name', 'probability', 'label_probability',
                      'correct', 'top5', 'top5_probabilities')


class Prediction(NamedTuple):
    """One line that has a label."""

    path: str
    label: int
    label_name: str
    predicted: int
    predicted_name: str
    probability: float  # of the predicted class
    correct: bool
    label_probability: Optional[float] = None
    top: Optional[Mapping[int, float]] = None  # of up to five most probable classes, the most probable first


def read_predictions(path):
    """Return the labelled :class:`Prediction` rows of a ``predictions*.csv``.

    :raises CheckpointError: if there is none, or it is broken.
    """
    try:
        return parse(Path(path).read_text(encoding='utf-8', errors='surrogateescape'))
    except FileNotFoundError:
        raise CheckpointError(f"there is no '{path}': {WRITTEN_BY}") from None
    except (ValueError, KeyError, csv.Error) as error:
        raise CheckpointError(f"'{path}' is not a predictions.csv of fgvc evaluate: {error!r}") from None


def parse(text):
    """Return the labelled rows of the table ``text``.

    :raises ValueError, KeyError, csv.Error: if it is broken.
    """
    rows = []
    reader = csv.DictReader(io.StringIO(text, newline=''))
    for row in reader:
        if row['label'] in ('', None):
            continue
        try:
            rows.append(Prediction(
                row['path'], int(row['label']), row['label_name'], int(row['predicted']), row['predicted_name'],
                float(row['probability']), row['correct'].strip().lower() in ('1', 'true'),
                *(_details(row) if 'label_probability' in row else ())))
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(f'line {reader.line_num}: {error}') from None
    return rows


def _details(row):
    """Return probability of the label and of the top classes; tables for a comparison need not have them."""
    classes = [int(k) for k in row['top5'].split()]
    probabilities = [float(p) for p in row['top5_probabilities'].split()]
    if len(classes) != len(probabilities):
        raise ValueError(f'{len(classes)} classes have {len(probabilities)} probabilities')
    return float(row['label_probability']), dict(zip(classes, probabilities))


def table(columns, rows):
    """Return ``rows``, each a value for each of ``columns``, as the text of a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()

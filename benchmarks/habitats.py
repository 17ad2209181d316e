"""Whether a network reads the object or its habitat: its test answers, apart by whose texture lies behind the object.

For runs on ``cluttered_mnist`` with ``data.habitat``, whose test images have the texture of any class. A network that
reads the object alone is as often right on a foreign texture as on its own; one that reads the texture answers with
the texture's class. Of wrong answers that do not look at the texture, one in K - 1 names its class by chance.
"""
from dataclasses import dataclass
from typing import Mapping

import numpy as np

from gluon_fgvc.errors import ConfigError
from gluon_fgvc.run_folder import RunFolder, read_predictions
from gluon_fgvc.runs import open_run


def add_options(parser):
    """Add the options that :func:`measure` reads."""
    parser.add_argument('--runs', required=True, nargs='+', metavar='RUN', help='run folders, evaluated on test')


@dataclass(frozen=True)
class Habit:
    """What a run answers, of one test split."""

    own: float      # top-1 where the texture is that of the object's class
    foreign: float  # where it is another's
    named: float    # of the wrong answers there, the share that names the class of the texture


@dataclass(frozen=True)
class Reading:
    """The :class:`Habit` of each run, by its folder."""

    settings: Mapping
    rows: Mapping

    def table(self):
        """Return a line for each run, in percent."""
        return ['| run | own texture | foreign texture | wrong answers that name the texture |', '|---|--:|--:|--:|',
                *(f'| {name} | {100 * row.own:.2f} | {100 * row.foreign:.2f} | {100 * row.named:.1f} |'
                  for name, row in self.rows.items())]

    def kept(self):
        return True  # nothing is promised

    def record(self):
        """Return what a JSON file keeps."""
        return {'rows': {name: vars(row) for name, row in self.rows.items()}}


def habit(labels, predicted, textures):
    """Return the :class:`Habit` of answers; all three are (N,) of classes."""
    own = labels == textures
    wrong = ~own & (predicted != labels)
    right = predicted == labels
    return Habit(*(float(np.mean(part)) if len(part) else float('nan')
                   for part in (right[own], right[~own], predicted[wrong] == textures[wrong])))


def measure(options):
    """Return the :class:`Reading` of the runs.

    :raises ConfigError: if one has no habitats.
    """
    rows = {}
    for name in options.runs:
        reader = open_run(name).source.test.reader
        if getattr(reader, 'habitats', None) is None:
            raise ConfigError(f"--runs: '{name}' is not a run with data.habitat")
        found = read_predictions(RunFolder(name).predictions)
        labels, predicted = np.array([[row.label, row.predicted] for row in found]).T
        textures = np.array([reader.habitats.place(index)[0] for index in range(len(found))])
        rows[name] = habit(labels, predicted, textures)
    return Reading({'runs': len(rows)}, rows)

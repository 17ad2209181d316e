"""Times of contenders that took turns, and what they say: medians, spread, ratios."""
from dataclasses import dataclass
from typing import Mapping, Sequence, Union

import numpy as np


@dataclass(frozen=True)
class Comparison:
    """Seconds per ``unit`` of each contender, one sample a round; the first contender is the baseline."""

    settings: Mapping                       # what was compared, for whoever repeats it
    unit: str                               # what took those seconds, e.g. 'step'
    seconds: Mapping[str, Sequence[float]]  # contender → samples, those of a round at the same place
    # Largest ratio to the baseline that is fine: one for all contenders, or some contenders' own.
    target: Union[None, float, Mapping[str, float]] = None

    def summary(self):
        """Return one dict a contender: ``name``, ``seconds`` and ``ratio``, see :func:`spread`.

        Ratios are taken within each round, so that what slows both contenders down cancels.
        """
        baseline = np.array(next(iter(self.seconds.values())))
        return [{'name': name, 'seconds': spread(samples), 'ratio': spread(np.array(samples) / baseline)}
                for name, samples in self.seconds.items()]

    def kept(self):
        """Whether the median ratio of every contender is within its target; the baseline has none."""
        return all(row['ratio']['median'] <= self._target(row['name']) for row in self.summary()[1:])

    def _target(self, name):
        if isinstance(self.target, Mapping):
            return self.target.get(name, float('inf'))
        return float('inf') if self.target is None else self.target

    def table(self):
        """Return the summary as lines of text."""
        rows = self.summary()
        width = max(len(row['name']) for row in rows)
        lines = [f"{'':<{width}}  {'ms a ' + self.unit:>10}  {'middle half':>19}  {'ratio':>7}  {'middle half':>15}"]
        for row in rows:
            ms, ratio = ({key: scale * value for key, value in row[what].items()}
                         for what, scale in (('seconds', 1000), ('ratio', 1)))
            middle = f"{ms['first_quartile']:.2f} – {ms['third_quartile']:.2f}"
            ratios = f"{ratio['first_quartile']:.3f} – {ratio['third_quartile']:.3f}" if row is not rows[0] else ''
            lines.append(f"{row['name']:<{width}}  {ms['median']:>10.2f}  {middle:>19}  {ratio['median']:>7.3f}  "
                         f'{ratios:>15}'.rstrip())
        if self.target is not None:
            targets = self.target if isinstance(self.target, Mapping) else {'': self.target}
            bounds = ', '.join(f'{name} {target:.3g}'.strip() for name, target in targets.items())
            lines.append(f"target: a ratio of at most {bounds}, {'kept' if self.kept() else 'missed'}")
        return lines

    def record(self):
        """Return all samples and what they say, for a JSON file."""
        return {'unit': self.unit, 'target': self.target, 'kept': self.kept(), 'summary': self.summary(),
                'seconds': self.seconds}


def spread(samples):
    """Return median, quartiles, least and largest of ``samples`` and how many they are."""
    least, first, median, third, largest = np.percentile(samples, (0, 25, 50, 75, 100)).tolist()
    return {'median': median, 'first_quartile': first, 'third_quartile': third, 'least': least, 'largest': largest,
            'samples': len(samples)}

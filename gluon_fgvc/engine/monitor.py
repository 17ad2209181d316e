"""What is watched while an epoch runs, kept on the devices until it is asked for."""
import numpy as np

from gluon_fgvc.engine.metrics import FirstBad, RunningMeans
from gluon_fgvc.errors import TrainingError

REMEDY = 'lower train.optimizer.lr or add a warm-up; the checkpoints of earlier epochs are intact'


class Monitor:
    """Running means of loss terms and top-1 since the last line of the log, and over the epoch; the first bad loss.

    :param place: words for errors, e.g. ``epoch 2, phase 'all'``.
    """

    def __init__(self, place):
        self.place = place
        self._since_line, self._epoch, self._bad, self._terms = RunningMeans(), RunningMeans(), FirstBad(), {}

    def see(self, step, terms, total, logits, labels):
        """Take in one update on one device, without waiting for it.

        :param terms: dict of name → NDArray (n,) or (1,); ``total`` (n,) their weighted sum.
        :param logits: (n,K), or None where the update has none of the deployed network.
        """
        for name, values in {**terms, 'loss': total}.items():
            self._bad.watch(name, values, step)
            self._since_line.add(name, values)
        for name, values in terms.items():
            self._terms.setdefault(name, None)
            self._epoch.add(f'train_{name}', values)
        self._epoch.add('train_loss', total)
        if logits is not None:
            hard = labels if labels.ndim == 1 else labels.argmax(axis=1)
            hit = logits.argmax(axis=1) == hard
            self._since_line.add('top1', hit)
            self._epoch.add('train_top1', hit)

    def read(self, team=None):
        """Return name → mean since the last call, over all processes of ``team``. One synchronisation.

        :raises TrainingError: where a loss was not finite, naming term and step.
        """
        self.stop_if_bad()
        return self._since_line.read(team)

    def stop_if_bad(self):
        """Raise TrainingError if a loss was not finite, naming the term and the step."""
        found = self._bad.read()
        if found:
            step, term = found
            raise TrainingError(f"loss '{term}' is not finite at step {step} ({self.place}); {REMEDY}")

    def stop_if_broken(self, parameters):
        """Look at what is about to be kept: a ReLU can turn NaN into 0, and the loss then stays finite."""
        for name, parameter in parameters.items():
            if not np.isfinite(parameter.list_data()[0].asnumpy()).all():
                raise TrainingError(f"parameter '{name}' is not finite ({self.place}); {REMEDY}")

    def state(self):
        """Return (arrays, counts), JSON-able counts, with which :meth:`restore` goes on in the middle of an epoch."""
        arrays, counts = {}, {'terms': list(self._terms)}
        for name, means in (('line', self._since_line), ('epoch', self._epoch)):
            sums, counts[name] = means.state()
            arrays.update({f'{name}:{key}': value for key, value in sums.items()})
        return arrays, counts

    def restore(self, arrays, counts, contexts):
        """Take up where :meth:`state` left off; ``contexts`` are the devices there are now."""
        self._terms = dict.fromkeys(counts['terms'])
        for name, means in (('line', self._since_line), ('epoch', self._epoch)):
            means.restore({key[len(name) + 1:]: value for key, value in arrays.items() if key.startswith(f'{name}:')},
                          counts[name], contexts)

    def row(self, team=None):
        """Return the means over the epoch, ``train_…``; a single term says no more than the loss and is left out."""
        means = self._epoch.means(team)
        if len(self._terms) == 1:
            means.pop(f'train_{next(iter(self._terms))}')
        return means

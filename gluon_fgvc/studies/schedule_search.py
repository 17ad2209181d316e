"""Search for a schedule of attention-scaled training (future work 3 of its paper) by successive halving.

Many schedules of the same length are drawn. All are trained for their first few epochs, the better half for twice as
many, and so on until the last are trained in full: most of the budget goes to what begins well. Jamieson and
Talwalkar, "Non-stochastic Best Arm Identification and Hyperparameter Optimization", AISTATS 2016. Each training starts
anew, so that what one cost does not depend on the others; schedules that begin alike share their trainings.
"""
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Tuple

import numpy as np

from gluon_fgvc.config import digest as digest_of
from gluon_fgvc.errors import ConfigError
from gluon_fgvc.files import write_atomically
from gluon_fgvc.run_folder import RunFolder
from gluon_fgvc.studies import runs as study

LETTERS = 'FABE'
PAPER = 'FFAAABAAABAA'
SHORTEST = 3  # epochs that say anything


@dataclass(frozen=True)
class Round:
    """So many schedules trained for so many epochs."""

    schedules: int
    epochs: int


def plan(length, budget):
    """Return the list of :class:`Round` s that end with ``length`` epochs and cost at most ``budget`` epochs in all.

    Each round has half the epochs of the next one and, where the budget is even, twice its schedules.

    :raises ConfigError: if the budget is too small to train one schedule in each round.
    """
    if length < 1:
        raise ConfigError(f'--length {length} must be at least 1')
    epochs = [length]
    while epochs[0] // 2 >= SHORTEST:
        epochs.insert(0, epochs[0] // 2)
    if budget < sum(epochs):
        raise ConfigError(f'--budget {budget} epochs are too few: rounds of {", ".join(map(str, epochs))} epochs need '
                          f'at least {sum(epochs)}')
    counts = [max(1, int(budget / len(epochs) / count)) for count in epochs]
    while sum(n * count for n, count in zip(counts, epochs)) > budget:  # the last round was rounded up to 1
        counts[counts.index(max(counts))] -= 1
    return [Round(schedules, count) for schedules, count in zip(counts, epochs)]


def candidates(count, length, seed, first=PAPER):
    """Return ``count`` different schedules of ``length`` letters, ``first`` cut to that length the first of them.

    All begin with F: a classifier that knows nothing would drive attention astray.
    """
    rng, found = np.random.default_rng(seed), dict.fromkeys([first[:length].ljust(length, 'A')])
    while len(found) < min(count, len(LETTERS) ** (length - 1)):
        found['F' + ''.join(rng.choice(list(LETTERS), length - 1))] = None
    return list(found)


def search(rounds, schedules, score):
    """Return one list of (schedule, score) a round, best first.

    :param score: schedule → comparable, larger is better, or None if it could not be trained, which ends it.
    """
    results = []
    for number, current in enumerate(rounds):
        scores = {}
        for schedule in schedules:
            beginning = schedule[:current.epochs]
            if beginning not in scores:
                scores[beginning] = score(beginning)
        alive = [schedule for schedule in schedules if scores[schedule[:current.epochs]] is not None]
        alive.sort(key=lambda schedule: scores[schedule[:current.epochs]], reverse=True)
        trained = [item for item in scores.items() if item[1] is not None]
        ranked = sorted(trained, key=lambda item: item[1], reverse=True)
        results.append(ranked)
        if number + 1 < len(rounds):
            schedules = alive[:rounds[number + 1].schedules]
    return results


def trained_score(config, folder, seed, overrides, train, say):
    """Return a function schedule → validation score, which trains it in a folder of its own unless that was done.

    :param train: the training command as a list of words.
    :param overrides: further ``KEY=VALUE``.
    """
    digest = digest_of(config)

    def score(schedule):
        own: Tuple[str, ...] = (*overrides, f'method.schedule={schedule}', f'train.epochs={len(schedule)}')
        run = study.StudyRun(config=Path(config), sha256=digest, overrides=own, seed=seed, fold=None,
                             folder=Path(folder) / schedule)
        if study.execute([run], train, say=lambda line: say(f'{schedule}: {line}')):
            return None
        chosen = RunFolder(run.folder).best_so_far()
        if 'score' not in chosen:
            raise ConfigError('--search needs a validation split; set data.val_fraction')
        return chosen['score']
    return score


def write(path, rounds, results):
    """Write the outcome as JSON; return ``path``."""
    return write_atomically(path, json.dumps([
        {'epochs': current.epochs, 'ranked': [{'schedule': schedule, 'score': score} for schedule, score in ranked]}
        for current, ranked in zip(rounds, results)], indent=1) + '\n')

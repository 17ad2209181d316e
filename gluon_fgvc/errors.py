"""Errors that are the user's to mend: one line each, with the value, the rule and the place.

The command-line tools print these without a traceback and end with ``exit_code``; anything else
that escapes is a defect of ours and keeps its traceback.
"""
import difflib


class UserError(Exception):
    """Base of all errors a user can mend. ``exit_code`` is what a command-line tool returns."""

    exit_code = 1


class ConfigError(UserError, ValueError):
    """A configuration, override or command-line value is wrong (exit code 2)."""

    exit_code = 2


class DataError(UserError, ValueError):
    """A data set, list file or image cannot be used."""


class WeightsError(UserError, ValueError):
    """A weight file is missing, broken, of another network, or refused for safety."""


class CheckpointError(UserError, ValueError):
    """A run folder or checkpoint cannot be used."""


class TrainingError(UserError, RuntimeError):
    """Training cannot go on, e.g. a loss is no longer finite."""


class Interrupted(UserError):
    """The process was asked to end, and has kept what it had (exit code 75, EX_TEMPFAIL: try again)."""

    exit_code = 75


class CheckFailed(UserError):
    """A check that the user asked for found problems (exit code 3)."""

    exit_code = 3


LISTED = 150  # names that an error lists; of more, the names of images for one, only the nearest is told


def did_you_mean(given, allowed):
    """Return ``"; did you mean 'x'?"`` for the nearest of ``allowed``, plus all names if LISTED or fewer."""
    allowed = [str(name) for name in allowed]
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.6)
    hint = f"; did you mean '{near[0]}'?" if near else ''
    return f"{hint} (allowed: {', '.join(allowed)})" if len(allowed) <= LISTED else hint

"""Mistakes that a user can mend, told in one line and never as a traceback."""

import difflib
from collections.abc import Iterable

# Of a run that was stopped and goes on when the same command is typed again (EX_TEMPFAIL).
EXIT_AGAIN = 75
# Of a crash, which another start may outlive (EX_SOFTWARE); Python's own 1 says that none would.
EXIT_CRASH = 70


class UserError(Exception):
    """Base of the errors that commands print as one line; `exit_code` is the process's."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong setting: the message says what is wrong, where, and what to write instead."""

    exit_code = 2


class DataError(UserError):
    """A record that can't be read; the message names the record."""

    exit_code = 1


class TrainingError(UserError):
    """The run itself went wrong, for example a loss that is no longer finite."""

    exit_code = 1


def one_line(error: BaseException | str) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'resnet50'?"` for the choice nearest to `word`; '' if none is near."""
    near = difflib.get_close_matches(str(word), list(choices), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""

"""Errors that a user can fix, reported as one line without a traceback."""

import difflib
import errno
from collections.abc import Iterable

# Exit code of a run that was stopped, and that the same command resumes (EX_TEMPFAIL).
EXIT_AGAIN = 75
# Exit code of a crash, after which a restart may succeed (EX_SOFTWARE). Python's own code, 1, means
# that a restart would fail again.
EXIT_CRASH = 70

# Errors of writing: the disk is full or broken, a file may not grow (`ulimit -f`, a quota), or the
# directory may not be written to.
WRITE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
)


class UserError(Exception):
    """Base class of the errors that commands print as one line; they exit with `exit_code`."""

    exit_code = 1


class ConfigError(UserError):
    """A wrong setting. The message states what is wrong, where, and what to write instead."""

    exit_code = 2


class DataError(UserError):
    """A record that can't be read. The message names the record."""

    exit_code = 1


class TrainingError(UserError):
    """A failure of the run itself, such as a loss that is not finite."""

    exit_code = 1


def one_line(error: BaseException | str) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """`"; did you mean 'resnet50'?"` for the choice nearest to `word`; '' if none is near."""
    near = difflib.get_close_matches(str(word), list(choices), n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""

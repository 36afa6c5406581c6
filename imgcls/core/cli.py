"""What every command shares: mistakes end in one line and an exit code, never a traceback."""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable

from imgcls.core import log
from imgcls.core.errors import UserError, one_line

# What a disk, or a folder's owner, may answer to whoever writes.
REFUSED = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
)


# What the command is called, where it is not `python -m imgcls.NAME`.
_program: str | None = None


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its code.

    A `UserError` becomes one line, and so does a disk that is full or may not be written.
    """
    try:
        code = main()
        sys.stdout.flush()
    except UserError as e:
        log.error(one_line(e))
        code = e.exit_code
    except BrokenPipeError:
        _forget_output()
        code = 0
    except OSError as e:
        if e.errno not in REFUSED:
            raise
        where = f"{e.filename}: " if e.filename else ""
        log.error(f"{where}{e.strerror}")
        _forget_output()
        code = 1
    sys.exit(code)


def set_program(name: str) -> None:
    """Sets what the help of the command calls itself, in place of `python -m imgcls.NAME`."""
    global _program
    _program = name


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of `python -m imgcls.NAME`; its help shows the description as written."""
    return argparse.ArgumentParser(
        prog=_program or f"python -m imgcls.{name}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _forget_output() -> None:
    """What waits for a standard output that takes no more would be written again at the exit."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

"""Shared by all commands: the argument parser, and errors as one line and an exit code."""

import argparse
import contextlib
import errno
import os
import sys
from collections.abc import Callable

from imgcls.core import log
from imgcls.core.errors import UserError, one_line

# Errors of writing: the disk is full or broken, or the folder may not be written to.
WRITE_ERRORS = (
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    *(errno.EROFS, errno.EACCES, errno.EPERM),
)

# Help of a flag that takes a checkpoint, see `imgcls.runs.load.find_checkpoint`.
CHECKPOINT_HELP = (
    "a workdir, WORKDIR:best, WORKDIR:newest, WORKDIR:STEP, or a checkpoint's directory"
)

# Name of the command in its help; None: `python -m imgcls.NAME`.
_program: str | None = None


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its code.

    A `UserError` is reported as one line, and so is a disk that is full or not writable.
    """
    try:
        code = main()
        sys.stdout.flush()
    except UserError as e:
        log.error(one_line(e))
        code = e.exit_code
    except BrokenPipeError:
        _discard_output()
        code = 0
    except OSError as e:
        if e.errno not in WRITE_ERRORS:
            raise
        where = f"{e.filename}: " if e.filename else ""
        log.error(f"{where}{e.strerror}")
        _discard_output()
        code = 1
    sys.exit(code)


def set_program(name: str) -> None:
    """Sets the name of the command in its help, instead of `python -m imgcls.NAME`."""
    global _program
    _program = name


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of `python -m imgcls.NAME`; its help keeps the description's lines."""
    return argparse.ArgumentParser(
        prog=_program or f"python -m imgcls.{name}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def _discard_output() -> None:
    """Discards buffered output that can't be written; Python would try again when it exits."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

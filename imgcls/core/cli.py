"""Shared by all commands: the argument parser, and errors as one line and an exit code."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from imgcls.core import log
from imgcls.core.errors import WRITE_ERRORS, ConfigError, UserError, did_you_mean, one_line

# Help of a flag that takes a checkpoint, see `imgcls.runs.load.find_checkpoint`.
CHECKPOINT_HELP = (
    "a workdir, WORKDIR:best, WORKDIR:newest, WORKDIR:STEP, or a checkpoint's directory"
)

_output_is_closed = False
# Name of the command in its help; None: `python -m imgcls.NAME`.
_program: str | None = None


def run(main: Callable[[], int | None]) -> NoReturn:
    """Runs a command's `main` and exits with its code.

    A `UserError` is reported as one line, and so is a disk that is full or not writable.
    """
    _open_closed_streams()
    try:
        code = main()
        sys.stdout.flush()
        log.check_written()
    except UserError as e:
        log.error(one_line(e))
        code = e.exit_code
    except BrokenPipeError:
        log.discard(sys.stdout)
        code = 0
    except OSError as e:
        if e.errno not in WRITE_ERRORS:
            raise
        where = f"{e.filename}: " if e.filename else ""
        log.error(f"{where}{e.strerror}")
        log.flush_or_discard(sys.stdout)
        code = 1
    sys.exit(code)


def require_output() -> None:
    """Raises a ConfigError if standard output, where the result of a command goes, is closed."""
    if _output_is_closed:
        raise ConfigError("standard output is closed, but the result is printed there; add > FILE")


def _open_closed_streams() -> None:
    """Opens the null device for standard streams that are closed (`>&-`).

    Otherwise Python has None for them, and the next file that is opened takes their number.
    """
    global _output_is_closed
    _output_is_closed = sys.stdout is None
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))


def set_program(name: str) -> None:
    """Sets the name of the command in its help, instead of `python -m imgcls.NAME`."""
    global _program
    _program = name


class _Parser(argparse.ArgumentParser):
    """A parser that answers an unknown flag with the nearest one, in one line.

    `parse_known_args` is for commands with overrides, which it returns: `--config.KEY=VALUE`.
    """

    def parse_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        self._refuse(unknown, "--help lists the flags")
        return namespace

    def parse_known_args(self, args=None, namespace=None):
        namespace, unknown = super().parse_known_args(args, namespace)
        wrong = [word for word in unknown if not word.startswith("--config.")]
        self._refuse(wrong, "overrides are --config.KEY=VALUE")
        return namespace, unknown

    def _refuse(self, words: list[str], hint: str) -> None:
        if words:
            flags = [flag for action in self._actions for flag in action.option_strings]
            flag = words[0].partition("=")[0]
            near = did_you_mean(flag, flags) if flag.startswith("-") else ""
            raise ConfigError(f"{words[0]}: not understood{near}; {hint}")


def create_parser(name: str, description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of `python -m imgcls.NAME`; its help keeps the description's lines."""
    return _Parser(
        prog=_program or f"python -m imgcls.{name}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )

"""What every command shares: mistakes end in one line and an exit code, never a traceback."""

import argparse
import sys
from collections.abc import Callable

from imgcls.errors import UserError


def run(main: Callable[[], int | None]) -> None:
    """Runs a command's `main` and exits with its code; a `UserError` becomes one line."""
    try:
        code = main()
    except UserError as e:
        print(f"error: {one_line(e)}", file=sys.stderr)
        code = e.exit_code
    except BrokenPipeError:
        code = 0
    sys.exit(code)


def create_parser(name: str, description: str) -> argparse.ArgumentParser:
    """The parser of `python -m imgcls.NAME`; its help shows the description as it is written."""
    return argparse.ArgumentParser(
        prog=f"python -m imgcls.{name}",
        description=description,
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def one_line(error: BaseException | str) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())

"""What every command shares: mistakes end in one line and an exit code, never a traceback."""

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


def one_line(error: BaseException | str) -> str:
    """The error's message on one line."""
    return " ".join(str(error).split())

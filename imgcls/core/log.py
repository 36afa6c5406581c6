"""Log lines, warnings, errors and progress bars of the commands.

Lines are written above a progress bar. The result of a command (JSON, a table, the name of a file)
is printed, not logged.
"""

import functools
import sys
import time

from tqdm import tqdm


def info(message: str) -> None:
    """Writes a line with the time to standard output, on process 0 only."""
    import jax  # Imported here so that `imgcls --help` is fast.

    if jax.process_index() == 0:
        tqdm.write(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stdout)
        sys.stdout.flush()


def warning(message: str) -> None:
    """Writes a warning to standard error, on every process that calls this."""
    tqdm.write(f"warning: {message}", file=sys.stderr)


def note(message: str) -> None:
    """Writes a line to standard error, on process 0 only: standard output is for results."""
    import jax

    if jax.process_index() == 0:
        tqdm.write(message, file=sys.stderr)


@functools.cache
def warn_once(message: str) -> None:
    """Writes a warning unless it was written before."""
    warning(message)


def error(message: str) -> None:
    """Writes the error that ends a command to standard error."""
    print(f"error: {message}", file=sys.stderr)


def progress(
    total: int, unit: str, *, description: str | None = None, first: int = 0, leave: bool = True
) -> tqdm:
    """Creates a progress bar on standard error, shown only if that is a terminal.

    Args:
      total: count at which the bar is full.
      unit: unit of the count, such as "img".
      description: text before the bar.
      first: initial count.
      leave: whether the bar stays on the screen when it is closed.
    """
    return tqdm(
        total=total,
        unit=unit,
        desc=description,
        initial=first,
        leave=leave,
        disable=None,
        dynamic_ncols=True,
    )

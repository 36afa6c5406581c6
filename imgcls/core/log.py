"""What a command says while it works: log lines, warnings, errors and progress bars.

None of them tears a progress bar. The result of a command (JSON, a table, the name of a file) is
not logged but printed.
"""

import functools
import sys
import time

from tqdm import tqdm


def info(message: str) -> None:
    """Writes a line with the time to standard output, from process 0 alone."""
    import jax  # Here, so that `imgcls --help` does not wait for it.

    if jax.process_index() == 0:
        tqdm.write(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stdout)
        sys.stdout.flush()


def warning(message: str) -> None:
    """Writes a warning to standard error, from the process that has it."""
    tqdm.write(f"warning: {message}", file=sys.stderr)


@functools.cache
def warn_once(message: str) -> None:
    """Writes a warning that has not been written before."""
    warning(message)


def error(message: str) -> None:
    """Writes the line that says why a command ends."""
    print(f"error: {message}", file=sys.stderr)


def progress(
    total: int, unit: str, *, description: str | None = None, first: int = 0, leave: bool = True
) -> tqdm:
    """A progress bar on standard error, which shows only where that is a terminal.

    Args:
      total: count at which it is full.
      unit: of the count, such as "img".
      description: text before the bar.
      first: count to start from.
      leave: keep the bar on the screen when it is closed.
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

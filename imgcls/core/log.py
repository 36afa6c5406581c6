"""Log lines, warnings, errors and progress bars of the commands.

Lines are written above a progress bar. If nobody reads them any more, as with `| head`, or the disk
is full, the command goes on. A result that is not in a file (JSON, a table) is printed, not logged.
"""

import contextlib
import errno
import functools
import os
import sys
import time
from typing import TextIO

from tqdm import tqdm

from imgcls.core.errors import WRITE_ERRORS

# Errors of writing when nobody reads: the reader of a pipe has ended, a terminal was closed.
UNREAD = (errno.EPIPE, errno.EIO)
_failures: list[OSError] = []


def info(message: str) -> None:
    """Writes a line with the time to standard output, on process 0 only."""
    import jax  # Imported here so that `imgcls --help` is fast.

    if jax.process_index() == 0:
        _write(f"[{time.strftime('%H:%M:%S')}] {message}", sys.stdout)


def result(message: str) -> None:
    """Writes what a command found or where it wrote its files to standard output."""
    _write(message, sys.stdout)


def warning(message: str) -> None:
    """Writes a warning to standard error, on every process that calls this."""
    _write(f"warning: {message}", sys.stderr)


def note(message: str) -> None:
    """Writes a line to standard error, on process 0 only: standard output is for results."""
    import jax

    if jax.process_index() == 0:
        _write(message, sys.stderr)


@functools.cache
def warn_once(message: str) -> None:
    """Writes a warning unless it was written before."""
    warning(message)


def error(message: str) -> None:
    """Writes the error that ends a command to standard error."""
    _write(f"error: {message}", sys.stderr)


def discard(stream: TextIO) -> None:
    """Discards what is written to a stream from now on, and what it has buffered."""
    # Streams without a file descriptor raise both.
    with contextlib.suppress(OSError, ValueError):
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())


def flush_or_discard(stream: TextIO) -> None:
    """Writes what a stream has buffered, or discards it if it can't be written."""
    try:
        stream.flush()
    except OSError:
        discard(stream)


def _write(line: str, stream: TextIO) -> None:
    """Writes a line, or discards it and all later ones if nobody reads the stream any more."""
    try:
        tqdm.write(line, file=stream)
        stream.flush()
    except OSError as e:
        if e.errno in UNREAD:
            discard(stream)
        elif e.errno not in WRITE_ERRORS:
            raise
        else:
            _failures.append(e)


def check_written() -> None:
    """Raises the OSError of the first line that could not be written."""
    if _failures:
        first = _failures[0]
        _failures.clear()
        raise first


def shows_progress() -> bool:
    """Whether progress bars are shown: standard error is a terminal, or this is a notebook."""
    return sys.stderr.isatty() or _in_notebook()


def progress(
    total: int, unit: str, *, description: str | None = None, first: int = 0, leave: bool = True
) -> tqdm:
    """Creates a progress bar: on standard error if that is a terminal, or in a notebook's cell.

    Args:
      total: count at which the bar is full.
      unit: unit of the count, such as "img".
      description: text before the bar.
      first: initial count.
      leave: whether the bar stays on the screen when it is closed.
    """
    bar = tqdm
    if _in_notebook():
        # Imported here, since it looks for the widgets of notebooks.
        from tqdm.auto import tqdm as bar
    return bar(
        total=total,
        unit=unit,
        desc=description,
        initial=first,
        leave=leave,
        disable=not shows_progress(),
        dynamic_ncols=True,
    )


def _in_notebook() -> bool:
    """Whether this process is the kernel of a notebook (Jupyter, Colab)."""
    # Never imported here: a process without IPython is no kernel.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and "IPKernelApp" in shell.config

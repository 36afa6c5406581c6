"""Log lines of a run."""

import sys
import time

import jax
from tqdm import tqdm


def say(message: str) -> None:
    """A log line, from process 0, that does not tear a progress bar."""
    if jax.process_index() == 0:
        tqdm.write(f"[{time.strftime('%H:%M:%S')}] {message}", file=sys.stdout)
        sys.stdout.flush()

"""Locks on files, which the operating system releases when their process ends or is killed."""

import contextlib
import errno
import fcntl
import os
import pathlib
from collections.abc import Iterator

from imgcls.core.errors import ConfigError, one_line
from imgcls.runs.lock import LOCK as LOCK_OF_RUN

# Held by the worker that a trial belongs to, in the trial's workdir.
LOCK_OF_TRIAL = ".worker"


class FileLock:
    """A lock that one process holds, also among machines that share the file system.

    Args:
      path: file of the lock.
    """

    def __init__(self, path: pathlib.Path):
        self._path, self._file = path, None

    def acquire(self, wait: bool = True) -> bool:
        """Takes the lock, and waits for it or returns False while another process holds it."""
        file = open(self._path, "a")
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except OSError as e:
            file.close()
            if e.errno in (errno.EACCES, errno.EAGAIN):
                return False
            raise ConfigError(
                f"{self._path.parent}: files can't be locked here: {one_line(e)}; choose a "
                "directory on another disk"
            ) from e
        self._file = file
        return True

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock in a `with` block."""
        self.acquire()
        try:
            yield
        finally:
            self.release()


def take_trial(folder: pathlib.Path) -> FileLock | None:
    """Locks a trial's workdir for this worker; None if another worker, or its run, is alive.

    A run may outlive its worker for as long as it saves a checkpoint.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock, run = FileLock(folder / LOCK_OF_TRIAL), FileLock(folder / LOCK_OF_RUN)
    if not lock.acquire(wait=False):
        return None
    if (folder / LOCK_OF_RUN).exists():
        if not run.acquire(wait=False):
            lock.release()
            return None
        run.release()
    os.utime(folder / LOCK_OF_TRIAL)
    return lock

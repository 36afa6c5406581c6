"""A lock on the workdir, so that only one run uses it."""

import errno
import os
import socket

import jax
from etils import epath

from imgcls.core.errors import ConfigError
from imgcls.core.storage import is_local, reason
from imgcls.distributed.agreement import agree

try:
    import fcntl
except ImportError:  # Windows, where a second run is not detected.
    fcntl = None


LOCK = ".lock"


class Lock:
    """Locks a workdir for this run until `release` is called or the process ends.

    The operating system releases the lock with the process, so none is left behind. Where there are
    no locks (object stores, some network file systems), a second run is not detected.

    Args:
      workdir: directory to lock; created if it does not exist.

    Raises:
      ConfigError: another run holds the lock, or the workdir is not writable. The first process
        finds out, and all processes raise.
    """

    def __init__(self, workdir: epath.Path):
        self._workdir, self._file, problem = workdir, None, None
        if jax.process_index() == 0:
            try:
                self._file = _take(workdir)
            except ConfigError as e:
                problem = e
        if not agree(problem is None):
            raise problem or ConfigError(f"{workdir}: the first process can't use it")

    def check(self) -> None:
        """Raises an OSError if the workdir is on another disk now, as its own was unmounted."""
        if self._file is None:
            return
        if os.stat(self._workdir).st_dev != os.fstat(self._file.fileno()).st_dev:
            raise OSError(errno.ESTALE, "its disk is gone", os.fspath(self._workdir))

    def release(self) -> None:
        """Releases the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _take(workdir: epath.Path):
    """Opens and locks the lock file; returns None for an object store."""
    advice = "choose a writable --workdir"
    if not is_local(workdir):
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            # Stores have no directories, so only writing an object shows that it is possible.
            (workdir / LOCK).write_text(_holder())
        except Exception as e:  # Libraries of object stores raise many types.
            raise ConfigError(f"{workdir}: {reason(e)}; {advice}") from e
        return None
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / LOCK, "a+")
    except OSError as e:
        raise ConfigError(f"{workdir}: {reason(e)}; {advice}") from e
    try:
        # Not flock, which worker processes would inherit and hold after the run is killed.
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            holder = " ".join(file.read(300).split()) or "another run"
            file.close()
            raise ConfigError(
                f"{workdir}: another run is using it ({holder}); wait for it, stop it, or choose "
                "another --workdir"
            ) from None
    try:
        file.truncate(0)
        file.write(_holder())
        file.flush()
    except OSError:  # The disk is full; the lock holds nevertheless.
        pass
    return file


def _holder() -> str:
    return f"host {socket.gethostname()}, pid {os.getpid()}\n"

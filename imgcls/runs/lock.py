"""One run at a time in a workdir."""

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
except ImportError:  # Windows: two runs in a folder are not noticed there.
    fcntl = None


LOCK = ".lock"


class Lock:
    """A workdir as this run's alone, until `release`, or until the process ends in any way.

    A lock that is left behind blocks nobody: the system takes it back with the process. Where it
    knows no locks (object stores, some network file systems) two runs are not noticed.

    Args:
      workdir: is made where it is not there yet.

    Raises:
      ConfigError: another run has it, or it can't be written. With many processes the first one
        finds out and all raise.
    """

    def __init__(self, workdir: epath.Path):
        self._workdir, self._file, told = workdir, None, None
        if jax.process_index() == 0:
            try:
                self._file = _take(workdir)
            except ConfigError as e:
                told = e
        if not agree(told is None):
            raise told or ConfigError(f"{workdir}: the first process refuses it")

    def check(self) -> None:
        """Raises an OSError if the folder is another one now: its disk is gone."""
        if self._file is None:
            return
        if os.stat(self._workdir).st_dev != os.fstat(self._file.fileno()).st_dev:
            raise OSError(errno.ESTALE, "its disk is gone", os.fspath(self._workdir))

    def release(self) -> None:
        """Gives it back."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _take(workdir: epath.Path):
    """The open lock file; None where there are no locks."""
    advice = "choose a --workdir that can be written"
    if not is_local(workdir):
        try:
            workdir.mkdir(parents=True, exist_ok=True)
            # A store has no folders to make: only an object tells that it can be written.
            (workdir / LOCK).write_text(_holder())
        except Exception as e:  # Whatever the store's library raises.
            raise ConfigError(f"{workdir}: {reason(e)}; {advice}") from e
        return None
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        file = open(workdir / LOCK, "a+")
    except OSError as e:
        raise ConfigError(f"{workdir}: {reason(e)}; {advice}") from e
    try:
        # Not flock: worker processes would inherit that and keep it after the run is killed.
        if fcntl is not None:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        if e.errno in (errno.EACCES, errno.EAGAIN):
            file.seek(0)
            holder = " ".join(file.read(300).split()) or "another run"
            file.close()
            raise ConfigError(
                f"{workdir}: a run is going on there ({holder}); wait for it, end it, or choose "
                "another --workdir"
            ) from None
    try:
        file.truncate(0)
        file.write(_holder())
        file.flush()
    except OSError:  # On a full disk it is locked all the same.
        pass
    return file


def _holder() -> str:
    return f"host {socket.gethostname()}, pid {os.getpid()}\n"

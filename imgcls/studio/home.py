"""A home: the directory that has everything of one studio."""

import errno
import os
import pathlib
import socket

from imgcls.core.errors import ConfigError
from imgcls.core.storage import reason

try:
    import fcntl
except ImportError:  # Windows, where a second server is not detected.
    fcntl = None

_FOLDERS = ("pictures", "thumbnails", "features", "versions", "runs", "exports", "uploads")


class Home:
    """Paths of a home, and its lock.

    Args:
      directory: created if it does not exist.
      database_url: `postgresql://...`; empty: `studio.sqlite` in the directory.

    Attributes:
      root: the directory, absolute.
      pictures: originals, `ab/<sha256>.<extension>`.
      thumbnails, features, versions, runs, exports, uploads: directories of what their names say.

    Raises:
      ConfigError: the directory can't be made or written.
    """

    def __init__(self, directory: str | os.PathLike, database_url: str = ""):
        self.root = pathlib.Path(directory).expanduser().absolute()
        self.database_url = database_url or f"sqlite:///{self.root / 'studio.sqlite'}"
        self.pictures = self.root / "pictures"
        self.thumbnails = self.root / "thumbnails"
        self.features = self.root / "features"
        self.versions = self.root / "versions"
        self.runs = self.root / "runs"
        self.exports = self.root / "exports"
        self.uploads = self.root / "uploads"
        self._lock = None
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True, mode=0o700)
        except OSError as e:
            raise ConfigError(f"--home={directory}: {reason(e)}; choose a writable one") from e

    def picture(self, sha256: str, extension: str) -> pathlib.Path:
        """Path of an original; `extension` has no dot."""
        return self.pictures / sha256[:2] / f"{sha256}.{extension}"

    def lock(self) -> None:
        """Locks the home for this process, until it ends or calls `release`.

        Raises:
          ConfigError: another server has it.
        """
        file = open(self.root / ".lock", "a+")
        try:
            if fcntl is not None:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            if e.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            file.seek(0)
            holder = " ".join(file.read(300).split()) or "another server"
            file.close()
            raise ConfigError(
                f"--home={self.root}: another server uses it ({holder}); stop it, or choose "
                "another --home"
            ) from None
        file.truncate(0)
        file.write(f"host {socket.gethostname()}, pid {os.getpid()}\n")
        file.flush()
        self._lock = file

    def release(self) -> None:
        """Releases the lock."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

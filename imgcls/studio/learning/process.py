"""A process of its own for long work: `python -m imgcls.studio.learning.process DIRECTORY`.

The directory has `task.json`, which says what to do. The process holds a lock on `process.lock`
while it lives, so that a studio that was restarted finds it, prints to `log.txt`, and leaves its
exit code in `exit.json`. It does not end with the studio.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from typing import Any

from imgcls.core import cli
from imgcls.core.storage import replace_text

try:
    import fcntl
except ImportError:  # Windows, where a process is known by its number alone.
    fcntl = None

TASK, LOCK, LOG, EXIT = "task.json", "process.lock", "log.txt", "exit.json"
# Is there once the process was asked to stop: a second signal would end it before it has saved.
ASKED = "stop.asked"


def start(folder: pathlib.Path, task: dict[str, Any]) -> subprocess.Popen[bytes]:
    """Starts a process in a directory.

    Args:
      folder: of the task.
      task: `{"kind": ...}` and what the kind needs, see `imgcls.studio.learning.tasks`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in (EXIT, ASKED):
        (folder / name).unlink(missing_ok=True)
    replace_text(folder / TASK, json.dumps(task))
    with open(folder / LOG, "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "imgcls.studio.learning.process", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Not of the studio's group, which Ctrl-C ends.
            start_new_session=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )


def ask_to_stop(folder: pathlib.Path, pid: int | None) -> None:
    """Sends SIGTERM to the process of a directory, once."""
    if pid is not None and not (folder / ASKED).exists():
        (folder / ASKED).touch()
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)


def is_alive(folder: pathlib.Path) -> bool:
    """Whether the process of a directory lives, of whatever studio it was started."""
    try:
        with open(folder / LOCK, "r+") as file:
            if fcntl is None:
                return _exists(int(file.read() or 0))
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
    except FileNotFoundError:
        return False
    except OSError:
        return True


def read_exit(folder: pathlib.Path) -> int | None:
    """The exit code that the process left; None if it left none."""
    try:
        return int(json.loads((folder / EXIT).read_text())["code"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def read_pid(folder: pathlib.Path) -> int | None:
    """The number of the process that holds the lock, or held it last."""
    try:
        return int((folder / LOCK).read_text())
    except (OSError, ValueError):
        return None


def main(argv: list[str]) -> None:
    """Does the task of a directory."""
    folder = pathlib.Path(argv[0])
    lock = open(folder / LOCK, "a+")
    if fcntl is not None:
        fcntl.lockf(lock, fcntl.LOCK_EX)  # A server holds it for a moment when it looks.
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    task = json.loads((folder / TASK).read_text())
    code: Any = 1
    try:
        cli.run(lambda: _run(task, folder))
    except SystemExit as e:
        code = 0 if e.code is None else e.code
        raise
    finally:
        # Before the lock is released, so that nobody finds the process gone without a code.
        replace_text(folder / EXIT, json.dumps({"code": code if isinstance(code, int) else 1}))


def _run(task: dict[str, Any], folder: pathlib.Path) -> int | None:
    from imgcls.studio.learning import tasks

    return tasks.TASKS[task["kind"]](task, folder)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return pid > 0


if __name__ == "__main__":
    main(sys.argv[1:])

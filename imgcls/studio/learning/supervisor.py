"""Starts, watches and ends the processes of runs, on a thread of the server."""

import logging
import os
import pathlib
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any

from imgcls.studio.home import Home
from imgcls.studio.learning import process, runs
from imgcls.studio.store.connect import Database

# Seconds between two looks at the runs, while there are any.
PAUSE = 0.25
# Seconds that a process has to take its lock, after a server that had started it is gone.
_GRACE = 10.0

# `{kind: task(database, home, row)}`: what the process of a run gets.
MakeTask = Callable[[Database, Home, Any], dict[str, Any]]
# Called with the row of a run that is done, before it is marked so.
Finish = Callable[[Database, Home, Any], None]

_log = logging.getLogger(__name__)


class Supervisor:
    """The processes of a home's runs.

    Args:
      database: of the home.
      home: whose runs.
      tasks: what to do for a run, by kind.
      finish: what to do with the results of a run, by kind.
      publish: called with `{"id", "state", "step", ...}` of a run whenever they change.
    """

    def __init__(
        self,
        database: Database,
        home: Home,
        tasks: dict[str, MakeTask],
        finish: dict[str, Finish],
        publish: Callable[[int, dict[str, Any]], None],
    ):
        self._database, self._home = database, home
        self._tasks, self._finish, self._publish = tasks, finish, publish
        self._children: dict[int, subprocess.Popen[bytes]] = {}
        self._shown: dict[int, dict[str, Any]] = {}
        self._wake, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._loop, name="studio-runs", daemon=True)

    def start(self) -> None:
        """Starts to watch: adopts the processes that live."""
        self._thread.start()

    def wake(self) -> None:
        """Looks at the runs now, as one was added or is to be stopped."""
        self._wake.set()

    def close(self) -> None:
        """Ends the watching. The processes go on."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _loop(self) -> None:
        while not self._closed:
            try:
                busy = self._look()
            except Exception:  # A full disk, for example: the next look may succeed.
                _log.exception("runs")
                busy = True
            self._wake.wait(PAUSE if busy else None)
            self._wake.clear()

    def _look(self) -> bool:
        """Looks at all runs once; returns whether any waits or runs."""
        with self._database.read() as connection:
            seen = runs.active(connection)
        for row in seen:
            if row.state != "waiting":
                self._watch(row)
        with self._database.read() as connection:
            rows = runs.active(connection)
        taken = {runs.LANES[row.kind] for row in rows if row.state != "waiting"}
        for row in rows:
            if row.state == "waiting" and runs.LANES[row.kind] not in taken:
                taken.add(runs.LANES[row.kind])
                self._launch(row)
        for run_id in sorted({row.id for row in [*seen, *rows]}):
            self._show(run_id)
        return bool(rows)

    def _launch(self, row: Any) -> None:
        folder = runs.folder_of(self._home, row)
        try:
            task = self._tasks[row.kind](self._database, self._home, row)
            self._set(row.id, state="running", started=time.time(), pid=None)
            self._children[row.id] = child = process.start(folder, {"kind": row.kind, **task})
        except Exception as e:
            self._set(row.id, state="failed", error=str(e), ended=time.time())
            return
        self._set(row.id, pid=child.pid)

    def _watch(self, row: Any) -> None:
        folder = runs.folder_of(self._home, row)
        child = self._children.get(row.id)
        code = child.poll() if child is not None else None
        if child is None and not process.is_alive(folder):
            code = process.read_exit(folder)
            if code is None and time.time() - (row.started or 0) < _GRACE and not self._gone(row):
                return
            self._end(row, folder, code)
        elif code is not None:
            self._end(row, folder, process.read_exit(folder))
        elif row.state == "stopping":
            pid = child.pid if child is not None else process.read_pid(folder)
            process.ask_to_stop(folder, pid)

    def _end(self, row: Any, folder: pathlib.Path, code: int | None) -> None:
        values = runs.outcome(folder, row, code)
        if values["state"] == "done" and row.kind in self._finish:
            try:
                self._finish[row.kind](self._database, self._home, row)
            except Exception as e:
                _log.exception("run %s", row.id)
                values = {"state": "failed", "error": str(e)}
        self._children.pop(row.id, None)
        self._set(row.id, **values, ended=time.time(), pid=None)

    def _gone(self, row: Any) -> bool:
        """Whether the process of a run, which holds no lock, is known to have ended."""
        if row.pid is None:
            return False
        try:
            os.kill(row.pid, 0)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return False

    def _set(self, run_id: int, **values: Any) -> None:
        self._database.write(runs.update, run_id, **values)

    def _show(self, run_id: int) -> None:
        """Publishes what has changed of a run."""
        with self._database.read() as connection:
            row = runs.get(connection, run_id)
        shown = runs.public(self._home, row)
        kept = ("id", "kind", "state", "step", "total", "error", "has_report")
        event = {name: shown[name] for name in kept}
        if self._shown.get(run_id) != event:
            self._shown[run_id] = event
            self._publish(row.dataset_id, event)

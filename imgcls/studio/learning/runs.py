"""Runs: processes of the studio, each with a row, a directory and a state.

States: waiting -> running -> done | failed, and running -> stopping -> stopped, which may be
continued. A run belongs to its directory, not to the server: a server that starts finds those that
live, and takes note of those that ended meanwhile.
"""

import json
import pathlib
import re
import time
from typing import Any

import sqlalchemy as sa
from sqlalchemy import Connection

from imgcls.core.errors import EXIT_AGAIN
from imgcls.studio.errors import Conflict, NotFound
from imgcls.studio.home import Home
from imgcls.studio.learning import process
from imgcls.studio.store import changes, datasets
from imgcls.studio.store.changes import Action
from imgcls.studio.store.schema import run
from imgcls.studio.store.users import User

ACTIVE = ("waiting", "running", "stopping")
# Runs of a lane run one after the other: training beside the short ones.
LANES = {"train": "train", "suggest": "short", "features": "short", "audit": "short"}
_STEP = re.compile(rb"step (\d+)/(\d+)")
_ERROR = re.compile(r"^error: (.*)$", re.MULTILINE)
# Bytes at the end of a log in which the newest step, or the error, is looked for.
_TAIL = 16_384
_MOST_LOG = 262_144


def add(
    connection: Connection,
    user: User,
    dataset_id: int,
    request_id: str,
    *,
    kind: str,
    arguments: dict[str, Any],
    recipe: str = "",
    version_id: int | None = None,
    what: str,
) -> dict[str, Any]:
    """Adds a run that waits for its turn; returns `{"seq", "id"}`."""
    if again := changes.repeated(connection, request_id, user.id):
        return again
    datasets.get(connection, dataset_id)
    values = {"dataset_id": dataset_id, "kind": kind, "version_id": version_id, "recipe": recipe}
    values |= {"started_by": user.id, "arguments": arguments, "state": "waiting", "workdir": ""}
    values["created"] = time.time()
    key = connection.execute(run.insert().values(values)).inserted_primary_key
    assert key is not None
    update(connection, key[0], workdir=f"runs/{key[0]}")
    action = Action(*(request_id, user.id, dataset_id, f"run.{kind}"), what=what, undoable=False)
    return changes.record(connection, action, result={"id": key[0]})


def get(connection: Connection, run_id: int) -> Any:
    """The row of a run.

    Raises:
      NotFound: there is none.
    """
    row = connection.execute(sa.select(run).where(run.c.id == run_id)).first()
    if row is None:
        raise NotFound(f"there is no run {run_id}; GET /api/datasets/DATASET/runs lists them")
    return row


def listing(connection: Connection, dataset_id: int) -> list[Any]:
    """The rows of the runs of a data set, newest first."""
    datasets.get(connection, dataset_id)
    query = sa.select(run).where(run.c.dataset_id == dataset_id)
    return list(connection.execute(query.order_by(run.c.id.desc())))


def active(connection: Connection) -> list[Any]:
    """The rows of the runs that wait or run, oldest first."""
    query = sa.select(run).where(run.c.state.in_(ACTIVE)).order_by(run.c.id)
    return list(connection.execute(query))


def update(connection: Connection, run_id: int, **values: Any) -> None:
    """Sets columns of a run."""
    connection.execute(run.update().where(run.c.id == run_id).values(values))


def ask_to_stop(connection: Connection, user: User, run_id: int, request_id: str) -> dict[str, Any]:
    """Marks a run to be stopped.

    Raises:
      Conflict: it does not run.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = get(connection, run_id)
    if row.state not in ACTIVE:
        raise Conflict(f"run {run_id} is {row.state}: there is nothing to stop")
    state = "stopped" if row.state == "waiting" else "stopping"
    update(connection, run_id, state=state)
    return _record(connection, user, row, request_id, "stop", state)


def ask_to_continue(
    connection: Connection, user: User, run_id: int, request_id: str
) -> dict[str, Any]:
    """Marks a run that was stopped or failed to be continued where it stopped.

    Raises:
      Conflict: it runs, or is done.
    """
    if again := changes.repeated(connection, request_id, user.id):
        return again
    row = get(connection, run_id)
    if row.state not in ("stopped", "failed"):
        raise Conflict(f"run {run_id} is {row.state}: only a stopped or failed one is continued")
    update(connection, run_id, state="waiting", error="", exit=None, ended=None)
    return _record(connection, user, row, request_id, "continue", "waiting")


def folder_of(home: Home, row: Any) -> pathlib.Path:
    """Directory of a run; of one of training, its workdir."""
    return home.root / row.workdir


def public(home: Home, row: Any) -> dict[str, Any]:
    """A run as the API shows it, with its progress."""
    names = ("id", "dataset_id", "kind", "version_id", "recipe", "state", "error")
    names += ("created", "started", "ended", "exit", "started_by")
    folder = folder_of(home, row)
    shown = {name: row._mapping[name] for name in names}
    given = row.arguments
    shown |= {"arguments": given.get("arguments", {}), "config": given.get("config", {})}
    shown |= {"message": row.error, "has_report": report_file(home, row) is not None}
    return shown | progress(folder)


def report_file(home: Home, row: Any) -> pathlib.Path | None:
    """The page of a run: the report of training, or the audit's; None as long as there is none."""
    name = {"train": "report/report.html", "audit": "audit.html"}.get(row.kind)
    file = None if name is None else folder_of(home, row) / name
    return file if file is not None and file.is_file() else None


def progress(folder: pathlib.Path) -> dict[str, Any]:
    """`{"step", "total", "metrics"}`: how far a run is; None where that is not known yet."""
    found = _STEP.findall(_tail(folder / process.LOG))
    step, total = map(int, found[-1]) if found else (None, None)
    metrics: dict[str, Any] = {}
    for line in _tail(folder / "metrics.jsonl").split(b"\n"):
        values = _row(line)
        if values is not None:
            metrics |= values
            step = max(step or 0, int(values["step"]))
    return {"step": step, "total": total, "metrics": metrics}


def metrics_since(folder: pathlib.Path, since: int) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl` after a step."""
    try:
        lines = (folder / "metrics.jsonl").read_bytes().split(b"\n")
    except OSError:
        return []
    rows = (_row(line) for line in lines)
    return [row for row in rows if row is not None and row["step"] > since]


def log_since(folder: pathlib.Path, since: int) -> dict[str, Any]:
    """`{"text", "next"}`: the log from a byte on, and the byte to ask for next."""
    try:
        with open(folder / process.LOG, "rb") as file:
            file.seek(max(0, since))
            data = file.read(_MOST_LOG)
    except OSError:
        data = b""
    if len(data) == _MOST_LOG:  # Whole lines, so that no character is cut.
        data = data[: data.rfind(b"\n") + 1] or data
    return {"text": data.decode(errors="replace"), "next": max(0, since) + len(data)}


def outcome(folder: pathlib.Path, row: Any, code: int | None) -> dict[str, Any]:
    """State, exit code and error of a run whose process has ended with a code, or without one."""
    if code == 0:
        return {"state": "done", "exit": 0, "error": ""}
    if code == EXIT_AGAIN or row.state == "stopping":
        return {"state": "stopped", "exit": code, "error": ""}
    errors = _ERROR.findall(_tail(folder / process.LOG).decode(errors="replace"))
    error = errors[-1] if errors else "the process was ended from outside, or crashed: see the log"
    return {"state": "failed", "exit": code, "error": error}


def _record(
    connection: Connection, user: User, row: Any, request_id: str, verb: str, state: str
) -> dict[str, Any]:
    action = Action(
        *(request_id, user.id, row.dataset_id, f"run.{verb}"),
        what=f"{verb} run {row.id}",
        undoable=False,
    )
    return changes.record(connection, action, result={"id": row.id, "state": state})


def _row(line: bytes) -> dict[str, Any] | None:
    """A line of `metrics.jsonl`; None for one that is not whole."""
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and isinstance(values.get("step"), int) else None


def _tail(path: pathlib.Path) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            return file.read()
    except OSError:
        return b""

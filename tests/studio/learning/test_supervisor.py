"""Processes of runs: one after the other, killed, found again by another server.

`pytest -m slow tests/studio/learning` runs all.
"""

import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest

from imgcls.studio.learning import process, runs, tasks
from imgcls.studio.learning.supervisor import Supervisor
from tests.studio.learning.homes import make_home


@pytest.fixture
def made(tmp_path, shared_data):
    made = make_home(tmp_path, shared_data, each=1)
    yield made
    made.database.close()


def _features(made) -> dict[str, Any]:
    return {
        "images": [[i, str(f), "image"] for i, f in zip(made.ids, _files(made), strict=True)],
        "checkpoint": None,
    }


def _files(made) -> list[pathlib.Path]:
    return sorted(made.home.pictures.rglob("*.jpg"))


def _supervise(made, events, finish=None) -> Supervisor:
    return Supervisor(
        made.database,
        made.home,
        tasks={"features": lambda *_: _features(made)},
        finish=finish or {},
        publish=lambda dataset, event: events.append((dataset, event)),
    )


def _add(made, request: str) -> int:
    return made.database.write(
        *(runs.add, made.user, made.dataset, request),
        kind="features",
        arguments={"checkpoint": None},
        what="features",
    )["id"]


def _wait(made, run: int, *states: str):
    for _ in range(600):
        with made.database.read() as connection:
            row = runs.get(connection, run)
        if row.state in states:
            return row
        time.sleep(0.05)
    raise AssertionError(row)


@pytest.mark.slow
def test_runs_of_a_lane_come_one_after_the_other(made):
    events = []
    supervisor = _supervise(made, events)
    first, second = _add(made, "a"), _add(made, "b")
    supervisor.start()
    _wait(made, first, "done")
    row = _wait(made, second, "done")
    with made.database.read() as connection:
        assert runs.get(connection, first).ended <= row.started
    supervisor.close()
    states = [event["state"] for _, event in events if event["id"] == second]
    assert [s for n, s in enumerate(states) if states[:n][-1:] != [s]] == [
        "waiting",
        "running",
        "done",
    ]
    with np.load(made.home.root / row.workdir / tasks.FEATURES) as file:
        assert file["ids"].tolist() == made.ids
        np.testing.assert_allclose(np.linalg.norm(file["features"], axis=1), 1, rtol=1e-5)


def test_a_killed_process_is_a_failed_run(made):
    supervisor = _supervise(made, [])
    run = _add(made, "a")
    supervisor.start()
    row = _wait(made, run, "running")
    while (row := _wait(made, run, "running")).pid is None:
        time.sleep(0.01)
    os.kill(row.pid, signal.SIGKILL)
    failed = _wait(made, run, "failed")
    assert "ended from outside" in failed.error and failed.pid is None
    supervisor.close()


@pytest.mark.slow
def test_a_run_whose_results_can_not_be_stored_has_failed(made):
    def finish(*_: Any) -> None:
        raise OSError("no space")

    supervisor = _supervise(made, [], {"features": finish})
    run = _add(made, "a")
    supervisor.start()
    assert "no space" in _wait(made, run, "failed").error
    supervisor.close()


def test_a_process_that_ended_while_no_studio_ran(made):
    """Its exit code tells what became of it; without one it has failed."""
    for request, code, state in (("a", 0, "done"), ("b", 75, "stopped"), ("c", None, "failed")):
        run = _add(made, request)
        folder = made.home.root / f"runs/{run}"
        folder.mkdir()
        (folder / process.LOCK).write_text("0")
        if code is not None:
            (folder / process.EXIT).write_text(f'{{"code": {code}}}')
        made.database.write(runs.update, run, state="running", started=1.0, pid=None)
        supervisor = _supervise(made, [])
        supervisor.start()
        assert _wait(made, run, state).exit == code
        supervisor.close()


def test_the_lock_says_whether_a_process_lives(tmp_path):
    assert not process.is_alive(tmp_path)
    code = "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); fcntl.lockf(f, fcntl.LOCK_EX); "
    code += "print('held', flush=True); time.sleep(60)"
    command = [sys.executable, "-c", code, str(tmp_path / process.LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline()
        assert process.is_alive(tmp_path)
        holder.kill()
    assert not process.is_alive(tmp_path)


def test_small_pictures_of_volumes_and_videos(tmp_path, shared_data):
    clip = next((shared_data / "video_real").glob("*.mp4"))
    assert tasks.small_picture(str(clip), "video").shape == (32, 32, 3)
    file = next((shared_data / "cryo_maps").glob("*.mrc"))
    assert tasks.small_picture(str(file), "volume").shape == (32, 32, 3)

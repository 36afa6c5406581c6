"""Goodput with a clock set by the test, and of a run that is killed and resumed."""

import json
import signal

import pytest

from imgcls.runs import goodput
from imgcls.runs.goodput import Goodput
from imgcls.runs.record import Record
from tests.end_to_end.test_resume import run_until


class Clock:
    """Replaces `time`: `wait` advances both clocks, `jump` only the wall clock."""

    def __init__(self):
        self._monotonic, self._time = 1000.0, 1e9

    def monotonic(self) -> float:
        return self._monotonic

    def time(self) -> float:
        return self._time

    def wait(self, seconds: float) -> None:
        self._monotonic += seconds
        self._time += seconds

    def jump(self, seconds: float) -> None:
        self._time += seconds


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(goodput, "time", clock)
    return clock


def start(workdir, clock, step=0, **record) -> Goodput:
    """The goodput of a process of the run, after ten seconds of set-up."""
    made = Goodput(str(workdir), clock.monotonic())
    clock.wait(10)
    made.begin(step, Record(**record))
    return made


def assert_is(made: Goodput, useful: float, wall: float, restarts: int) -> None:
    found = made.metrics()
    assert found["goodput/useful_seconds"] == pytest.approx(useful)
    assert found["goodput/wall_seconds"] == pytest.approx(wall)
    assert found["goodput"] == pytest.approx(useful / wall)
    assert found["goodput/restarts"] == restarts


def test_one_process(tmp_path, clock):
    made = start(tmp_path, clock)
    clock.wait(30)  # compilation
    made.restart()
    clock.wait(40)
    made.count(10, Record())
    clock.wait(20)  # evaluation
    made.restart()
    clock.wait(40)
    made.count(20, Record(skipped=3))
    assert_is(made, 40 + 0.7 * 40, 140, restarts=0)
    assert made.summary() == ", goodput 49 % of 140 s"
    assert json.loads((tmp_path / "goodput.json").read_text())["goodput/restarts"] == 0


def test_repeated_steps_count_once(tmp_path, clock):
    """Killed 50 s after its last log line, resumed 100 s later from an earlier checkpoint."""
    made = start(tmp_path, clock)
    clock.wait(40)
    made.count(10, Record())
    saved = made.useful
    clock.wait(40)
    made.count(20, Record())
    made.keep()
    clock.wait(50 + 100)
    again = start(tmp_path, clock, step=10, useful_seconds=saved)
    assert_is(again, 40, 250, restarts=1)
    clock.wait(60)
    again.count(20, Record())
    assert_is(again, 100, 310, restarts=1)
    # The run goes back to the checkpoint, in the same process.
    clock.wait(5)
    again.begin(10, Record(useful_seconds=saved))
    assert_is(again, 40, 315, restarts=1)


def test_killed_before_the_first_log_line(tmp_path, clock):
    start(tmp_path, clock)
    clock.wait(90)
    assert_is(start(tmp_path, clock), 0, 110, restarts=1)


@pytest.mark.parametrize("seconds", [-1e6, 1e6])
def test_wall_clock_jumps(seconds, tmp_path, clock):
    """A jump within a process has no effect; after one between two, goodput stays in 0..1."""
    made = start(tmp_path, clock)
    clock.wait(20)
    clock.jump(seconds)
    clock.wait(20)
    made.count(10, Record())
    assert_is(made, 40, 50, restarts=0)
    made.keep()
    clock.wait(60)
    made.count(20, Record())
    clock.jump(seconds)
    again = start(tmp_path, clock, step=20, useful_seconds=made.useful)
    found = again.metrics()
    assert 0 <= found["goodput"] <= 1 and found["goodput/useful_seconds"] == 100
    assert found["goodput/wall_seconds"] >= 100


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"time": "x"}', "\0"])
def test_damaged_record_is_ignored(text, tmp_path, clock):
    (tmp_path / "goodput.json").write_text(text)
    assert_is(start(tmp_path, clock), 0, 10, restarts=0)


@pytest.mark.slow
def test_killed_run(cache, tmp_path):
    """Wall time includes the time between two processes, and no step counts twice."""
    killed = run_until([30], signal.SIGKILL, tmp_path, cache)
    assert killed.returncode == -signal.SIGKILL, "".join(killed.lines)
    before = json.loads((tmp_path / "goodput.json").read_text())
    again = run_until([], signal.SIGKILL, tmp_path, cache)
    assert again.returncode == 0 and ", goodput " in again.lines[-1], "".join(again.lines)
    lines = map(json.loads, (tmp_path / "metrics.jsonl").read_text().splitlines())
    found = [line for line in lines if "goodput" in line]
    assert [line["step"] for line in found] == list(range(5, 65, 5))
    useful, wall = ([x[f"goodput/{key}_seconds"] for x in found] for key in ("useful", "wall"))
    assert useful == sorted(useful) and wall == sorted(wall) and 0 < useful[0]
    assert all(0 < line["goodput"] < 1 for line in found)
    assert found[-1]["goodput/restarts"] == 1
    after = json.loads((tmp_path / "goodput.json").read_text())
    elapsed = after["time"] - before["time"]
    passed = after["goodput/wall_seconds"] - before["goodput/wall_seconds"]
    assert passed == pytest.approx(elapsed, abs=0.5)

"""The launcher for one machine, with real training."""

import contextlib
import functools
import os
import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest

from tests.conftest import command_env
from tests.end_to_end.test_devices import RECIPE, losses
from tests.end_to_end.test_resume import final_state
from tests.launch.conftest import LAUNCH

SHORT = (*RECIPE, "--config.checkpoint.every=5 steps")


def children(pid: int) -> list[int]:
    """Processes below this one, the nearest first."""
    found = []
    # Threads and processes may end while they are looked at.
    with contextlib.suppress(OSError):
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
            with contextlib.suppress(OSError):
                for child in map(int, (task / "children").read_text().split()):
                    found += [child, *children(child)]
    return found


def trainers(pid: int) -> list[int]:
    """Of these, the ones that are `python -m imgcls.main`."""
    lines = {p: pathlib.Path(f"/proc/{p}/cmdline").read_bytes() for p in children(pid)}
    return [p for p, line in lines.items() if line.split(b"\0")[:1] == [sys.executable.encode()]]


def train(cache, *args: str, kill=None, sent=signal.SIGKILL, at: int = 12) -> tuple[int, str]:
    """Trains; at this step the process of index `kill` gets a signal, once."""
    process = subprocess.Popen(
        [LAUNCH / "local.sh", *args],
        env=command_env(cache) | {"PYTHON": sys.executable, "IMGCLS_PAUSE": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    printed = ""
    for line in process.stdout:
        printed += line
        if kill is not None and f"step {at}/20" in line:
            os.kill(trainers(process.pid)[kill], sent)
            kill = None
    return process.wait(), printed


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    done = command("main", *SHORT, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.mark.slow
def test_a_killed_run_is_restarted_and_ends_the_same(cache, whole, tmp_path):
    code, printed = train(cache, *SHORT, f"--workdir={tmp_path}", kill=0)
    assert code == 0, printed
    assert "exit 137: again in 0 seconds" in printed and "continue at step" in printed
    ours, theirs = final_state(tmp_path), final_state(whole)
    for key in theirs:
        np.testing.assert_array_equal(ours[key], theirs[key], err_msg=key)


def test_a_mistake_is_told_once(launch, tmp_path):
    args = ("--config=configs/digits.py", "--config.nothing=1", f"--workdir={tmp_path}")
    done = launch("local.sh", *args)
    assert done.returncode == 2
    assert [line[:6] for line in done.stderr.splitlines()] == ["error:"]


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 1])
def test_of_two_processes_one_is_killed(index, cache, whole, tmp_path):
    """The other notices, ends with 75 or a crash, and both are started anew."""
    # The other may wait for as long as this before it takes the killed one for lost.
    timeout = "--config.processes.timeout=30"
    args = (*SHORT, timeout, f"--workdir={tmp_path}", "--processes=2")
    code, printed = train(cache, *args, kill=index)
    assert code == 0, printed
    assert "again in 0 seconds" in printed and "continue at step" in printed
    np.testing.assert_allclose(losses(tmp_path), losses(whole), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "codes, expected",
    [("0 0", 0), ("0 75", 75), ("75 139", 139), ("139 2", 2), ("1 75", 1), ("75 75", 75)],
)
def test_the_code_of_several_processes(codes, expected, launch):
    script = 'codes=($CODES); exit "${codes[${*: -1:1}]}"'
    script = script.replace("${*: -1:1}", "${3#*=}")
    done = launch("processes.sh", "2", "bash", "-c", script, "x", CODES=codes)
    assert done.returncode == expected, done.stderr


def test_processes_know_each_other(launch):
    done = launch("processes.sh", "2", "bash", "-c", 'echo "$JAX_LOCAL_DEVICE_IDS $*"', "x")
    rows = [line.split() for line in sorted(done.stdout.splitlines())]
    assert len({row[1] for row in rows}) == 1 and rows[0][1].startswith("--coordinator=localhost:")
    assert [row[2:] for row in rows] == [
        ["--num_processes=2", f"--process_id={i}"] for i in range(2)
    ]
    assert [row[0] for row in rows] == ["0", "1"]


def test_a_process_that_hangs_is_killed(launch):
    script = "[[ $3 == *=1 ]] && exit 75; exec sleep 100"
    done = launch("processes.sh", "2", "bash", "-c", script, "x", IMGCLS_GRACE="0", timeout=60)
    assert done.returncode == 75 and "1 did not follow" in done.stderr


def test_dry_run_and_mistakes(launch, tmp_path):
    args = ("--config=a b.py", f"--workdir={tmp_path}", "--config.model.stage_sizes=(1, 1)")
    done = launch("local.sh", "--dry_run", "--processes=2", *args)
    assert done.returncode == 0 and not list(tmp_path.iterdir())
    assert (
        "processes.sh 2 " in done.stdout
        and "--config.model.stage_sizes=\\(1\\,\\ 1\\)" in done.stdout
    )
    launch_local = functools.partial(launch, "local.sh")
    for wrong, told in [
        (args[1:], "--config is missing"),
        (args[:1], "--workdir is missing"),
        ((*args, "--processes=two"), "--processes=two is not a number"),
    ]:
        done = launch_local(*wrong)
        assert done.returncode == 2 and told in done.stderr
        assert len(done.stderr.splitlines()) == 1


# A config whose first training meets an error of the disk.
CRASHING = """
import pathlib, sys
from ml_collections import ConfigDict

def train(*args):
    once = pathlib.Path("{once}")
    if not once.exists():
        once.touch()
        raise OSError("Stale file handle")
    return "done"

def get_config():
    sys.modules["__main__"].train = train
    return ConfigDict()
"""


def test_a_crash_is_no_mistake(cache, launch, tmp_path):
    """An exception that nobody foresaw: another start may go well."""
    config = tmp_path / "crashing.py"
    once = tmp_path / "once"
    config.write_text(CRASHING.format(once=once))
    done = launch("local.sh", f"--config={config}", f"--workdir={tmp_path / 'run'}", HOME=cache)
    assert done.returncode == 0, done.stderr
    assert "exit 70: again in 0 seconds" in done.stderr
    assert "Stale file handle" in done.stderr

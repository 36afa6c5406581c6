"""Checkpoints on disks that are full, unmounted, or used by another run."""

import contextlib
import functools
import gc
import json
import re
import signal
import socket
import subprocess
import time

import pytest
from etils import epath

from imgcls.core.errors import ConfigError, TrainingError
from imgcls.runs import checksums
from imgcls.runs.best import BestMetric
from imgcls.runs.load import find_checkpoint
from imgcls.runs.save import Checkpointer
from tests.conftest import REPO, command_env, command_line, make_mesh
from tests.disks import fill
from tests.end_to_end.test_resume import RECIPE
from tests.runs.test_load import INFO, assert_equal, make_config, make_state

MEGABYTE = 1_000_000


def make_large(on_error="continue"):
    """A config whose state takes 8.7 MB, and 4 MB on disk."""
    config = make_config()
    config.model.update({"width": 256, "mlp_dim": 512})
    config.checkpoint.on_error = on_error
    return config


def kept(folder) -> list[str]:
    return sorted(p.name for p in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("known", [True, False])
def test_full_disk(small_disk, capfd, known):
    """Earlier checkpoints stay, the space of the failed one is freed, and the next one is tried.

    Args:
      known: whether the size of a checkpoint is known, so that writing does not even start.
    """
    config = make_large()
    state, abstract = make_state(config, make_mesh())
    with small_disk(40 * MEGABYTE) as disk:
        checkpointer = Checkpointer(str(disk), config, INFO)
        for step in (1, 2):
            checkpointer.save(step, state)
        checkpointer.finish()
        if not known:
            checkpointer._size = 0
        fill(disk, but=2 * MEGABYTE)
        checkpointer.save(3, state)
        with pytest.raises(TrainingError, match="the run's last checkpoint, of step 3, could not"):
            checkpointer.finish()
        out, err = capfd.readouterr()
        (line,) = out.splitlines()
        assert f"of step 3, could not be written: {disk / 'checkpoints'}: No space left" in line
        size = r"4\.\d" if known else r"8\.7"
        assert re.search(rf"it takes {size} MB, [12]\.\d MB are free; earlier ones are kept", line)
        assert "Traceback" not in err
        assert kept(disk) == ["1", "2"]
        assert find_checkpoint(disk).step == 2
        assert_equal(checkpointer.restore(abstract, 2), state)
        (disk / "fill").unlink()
        checkpointer.save(4, state)
        checkpointer.finish()
        assert "checkpoints are written again: that of step 4 is on disk" in capfd.readouterr().out
        checkpointer.save(5, state)
        checkpointer.close()
        assert kept(disk) == ["4", "5"]


@pytest.mark.slow
def test_writes_that_fail_together_are_reported_once(small_disk, capfd):
    """The writes of all arrays fail, and Orbax waits only for the first one."""
    config = make_config()
    config.model.depth = 8
    state, _ = make_state(config, make_mesh())
    with small_disk(MEGABYTE) as disk:
        fill(disk, but=MEGABYTE // 5)
        checkpointer = Checkpointer(str(disk), config, INFO)
        for step in range(1, 11):
            checkpointer.save(step, state)
        checkpointer.close()
        gc.collect()
    out, err = capfd.readouterr()
    assert err == ""
    assert re.findall(r"of step (\d+), could not be written", out) == [*map(str, range(1, 11))]


def test_interrupted_deletion_leaves_no_checkpoint(tmp_path, monkeypatch):
    """As if the process were killed while it deletes an old checkpoint."""

    def remove_one_file(path):
        (path / checksums.CHECKSUMS).unlink(missing_ok=True)
        raise OSError("killed")

    config = make_config()
    config.checkpoint.keep_last = 1
    state, _ = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(tmp_path), config, INFO)
    with monkeypatch.context() as killed:
        killed.setattr(type(epath.Path(tmp_path)), "rmtree", remove_one_file)
        for step in (1, 2):
            checkpointer.save(step, state)
        checkpointer.finish()
        assert checksums.checkpoint_steps(epath.Path(tmp_path) / "checkpoints") == [2]
    checkpointer.close()
    assert kept(tmp_path) == ["2"]


def test_the_best_is_known_after_a_full_disk(small_disk):
    config = make_large()
    config.checkpoint.keep_last = 1
    best = BestMetric("test/accuracy", "higher")
    state, _ = make_state(config, make_mesh())
    with small_disk(40 * MEGABYTE) as disk:
        checkpointer = Checkpointer(str(disk), config, INFO, best)
        checkpointer.save(1, state, {"test/accuracy": 0.9})
        checkpointer.save(2, state, {"test/accuracy": 0.5})
        checkpointer.finish()
        fill(disk)
        checkpointer.save(3, state, {"test/accuracy": 0.7})
        (disk / "fill").unlink()
        checkpointer.save(4, state, {"test/accuracy": 0.6})
        checkpointer.close()
        assert kept(disk) == ["1", "4"]
        # A resumed run knows it too.
        checkpointer = Checkpointer(str(disk), config, INFO, best)
        checkpointer.save(5, state, {"test/accuracy": 0.8})
        checkpointer.close()
        assert kept(disk) == ["1", "5"]


def test_on_error_stop(small_disk):
    config = make_large("stop")
    state, _ = make_state(config, make_mesh())
    with small_disk(40 * MEGABYTE) as disk:
        checkpointer = Checkpointer(str(disk), config, INFO)
        checkpointer.save(1, state)
        checkpointer.finish()
        fill(disk)
        with pytest.raises(TrainingError, match="of step 2, could not be written"):
            checkpointer.save(2, state)
        checkpointer.close()
        assert kept(disk) == ["1"]


def test_disk_that_is_unmounted(small_disk, capsys):
    config = make_config()
    state, _ = make_state(config, make_mesh())
    with small_disk(40 * MEGABYTE) as disk:
        checkpointer = Checkpointer(str(disk), config, INFO)
        checkpointer.save(1, state)
        checkpointer.finish()
    checkpointer.save(2, state)
    assert "its disk is gone" in capsys.readouterr().out
    assert list(disk.iterdir()) == []  # Nothing is written to the directory below the mount.
    with pytest.raises(TrainingError, match="its disk is gone"):
        checkpointer.finish()
    checkpointer.close()


def test_failure_of_another_process_fails_the_checkpoint(tmp_path, monkeypatch, capsys):
    """This process has no problem itself."""
    config = make_config()
    state, _ = make_state(config, make_mesh())
    checkpointer = Checkpointer(str(tmp_path), config, INFO)
    checkpointer.save(1, state)
    checkpointer.finish()
    monkeypatch.setattr("imgcls.runs.save.agree", lambda ok: False)
    checkpointer.save(2, state)
    monkeypatch.undo()
    assert "another process failed" in capsys.readouterr().out
    with pytest.raises(TrainingError, match="step 2"):
        checkpointer.finish()
    assert find_checkpoint(tmp_path).step == 1
    checkpointer.close()


def test_wrong_on_error(tmp_path):
    with pytest.raises(ConfigError, match="checkpoint.on_error='stpo'.*did you mean 'stop'"):
        Checkpointer(str(tmp_path / "run"), make_large("stpo"), INFO)
    assert not (tmp_path / "run").exists()


# ---- The command.


@pytest.fixture
def start(cache):
    """Starts a run of the recipe in a workdir; kills it after the test if it is still running."""
    with contextlib.ExitStack() as stack:
        yield functools.partial(_start, stack, cache)


def _start(stack, cache, workdir, *more: str) -> subprocess.Popen:
    process = subprocess.Popen(
        command_line("main", *RECIPE, *more, f"--workdir={workdir}"),
        env=command_env(cache),
        cwd=REPO,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def read_until(process: subprocess.Popen, text: str) -> str:
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"it ended before {text!r}")


LONG = ("--config.total=4000 steps", "--config.checkpoint.every=40 steps")


SPARSE = ("--config.total=800 steps", "--config.checkpoint.every=200 steps")


def fill_between_saves(disk) -> None:
    """Fills the disk once the first checkpoint is written and before the next one is started.

    A checkpoint in progress would fail and free its space, in which another one might fit.
    """
    end = time.monotonic() + 120
    while not (disk / "run" / "checkpoints" / "200").exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    fill(disk)


@pytest.mark.slow
def test_run_on_a_disk_that_fills_up(small_disk, start):
    """The run continues, and nothing is lost once there is room."""
    with small_disk(40 * MEGABYTE) as disk:
        process = start(disk / "run", *SPARSE)
        fill_between_saves(disk)
        line = read_until(process, "checkpoint, of step 400, could not be written")
        assert "No space left on device" in line and "MB are free" in line
        assert find_checkpoint(disk / "run").step == 200
        (disk / "fill").unlink()
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0 and "done: 800 steps" in output, output
        lines = map(json.loads, (disk / "run" / "metrics.jsonl").read_text().splitlines())
        assert {5 * i for i in range(1, 161)} <= {line["step"] for line in lines}
        assert find_checkpoint(disk / "run").step == 800


@pytest.mark.slow
@pytest.mark.parametrize("sigterm", [False, True])
def test_run_whose_last_checkpoint_does_not_fit(sigterm, small_disk, start):
    with small_disk(40 * MEGABYTE) as disk:
        process = start(disk / "run", *SPARSE)
        fill_between_saves(disk)
        if sigterm:
            process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 1, output
        assert "error: the run's last checkpoint, of step" in output.splitlines()[-1], output
        assert "Traceback" not in output
        assert ("of step 800" in output) is not sigterm
        assert find_checkpoint(disk / "run").step == 200


@pytest.mark.slow
def test_two_runs_in_a_workdir(command, start, tmp_path):
    first = start(tmp_path, *LONG)
    try:
        read_until(first, "step 50/4000")
        second = command("main", *RECIPE, *LONG, f"--workdir={tmp_path}")
        assert second.returncode == 2
        assert f"host {socket.gethostname()}, pid {first.pid}" in second.stderr
        assert second.stderr.count("\n") == 1
        reading = command("evaluate", f"--workdir={tmp_path}")
        assert reading.returncode == 0, reading.stderr
    finally:
        first.kill()
        first.wait()
    again = start(tmp_path, *LONG)
    read_until(again, "continue at step")
    again.send_signal(signal.SIGTERM)
    again.communicate(timeout=120)


@pytest.mark.slow
def test_workdir_that_cannot_be_created(command, small_disk, tmp_path):
    (tmp_path / "file").write_text("x")
    done = command("main", *RECIPE, f"--workdir={tmp_path / 'file'}")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"{tmp_path / 'file'}: " in done.stderr and "choose a writable --workdir" in done.stderr
    with small_disk(MEGABYTE, "ro") as disk:
        done = command("main", *RECIPE, f"--workdir={disk}")
        assert done.returncode == 2 and done.stderr.count("\n") == 1
        assert f"{disk}: Read-only file system" in done.stderr

"""Output that nobody reads: training goes on, and other commands end in order."""

import json
import shlex
import shutil
import subprocess

import pytest

from tests.conftest import REPO, command_env, command_line

RUN = (
    "--config=configs/digits.py",
    "--config.total=8 steps",
    "--config.log.every=1 steps",
    "--config.model.width=4",
    "--config.model.stage_sizes=(1,)",
    "--config.log.tensorboard=False",
)


@pytest.fixture
def shell(cache):
    """Runs a command with something after it, in bash; its exit code is that of the command."""

    def run(name: str, *args: str, after: str):
        line = f"{shlex.join(command_line(name, *args))} {after}; exit ${{PIPESTATUS[0]}}"
        return subprocess.run(
            ["bash", "-c", line],
            env=command_env(cache),
            cwd=REPO,
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


SLOW = {"marks": pytest.mark.slow}


@pytest.mark.parametrize(
    "after",
    ["| head -2", ">&-", pytest.param("2>&1 | head -1", **SLOW), pytest.param("<&- 2>&-", **SLOW)],
)
def test_training_goes_on_without_a_reader(shell, tmp_path, after):
    done = shell("main", *RUN, f"--workdir={tmp_path}", after=after)
    assert (done.returncode, done.stderr) == (0, "")
    if "head" in after:
        assert len(done.stdout.splitlines()) == int(after[-1])
    steps = [json.loads(line)["step"] for line in open(tmp_path / "metrics.jsonl")]
    assert steps[:8] == list(range(1, 9)) and (tmp_path / "checkpoints" / "8").is_dir()


def test_files_that_may_not_grow(cache, tmp_path):
    """`ulimit -f`, or a quota: the same error as on a full disk, without a traceback."""
    # Above the size of config.json, below that of the metrics and of any checkpoint.
    line = shlex.join(command_line("main", *RUN, f"--workdir={tmp_path / 'run'}"))
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 3; exec {line} > {tmp_path / 'log'}"],
        env=command_env(cache),
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: the run's last checkpoint, of step 8, could not be written")
    assert "File too large" in error and (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "command",
    [
        "list",
        pytest.param("models alexnet", **SLOW),
        pytest.param("predict --checkpoint=/x x.png", **SLOW),
        "evaluate --workdir=/x",
    ],
)
def test_a_result_without_a_place_is_refused(shell, command):
    done = shell(*command.split(), after=">&-")
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == (
        "error: standard output is closed, but the result is printed there; add > FILE\n"
    )


def test_a_reader_of_a_result_may_stop(shell):
    done = shell("list", "transforms", after="| head -1")
    assert (done.returncode, done.stderr) == (0, "") and len(done.stdout.splitlines()) == 1


@pytest.mark.parametrize("after", [pytest.param("| true", **SLOW), ">&-"])
def test_files_are_written_without_a_reader(shell, workdir, tmp_path, after):
    """The report prints a line, flushed, before it writes the page."""
    page, run = tmp_path / "report.html", tmp_path / "run"
    shutil.copytree(workdir, run)  # Calibration is stored in the checkpoint.
    line = ("report", f"--workdir={run}", "--calibrate_on=train[:200]", f"--out={page}")
    done = shell(*line, "--examples=1", "--batch_size=64", after=after)
    assert (done.returncode, done.stderr) == (0, "") and page.stat().st_size > 1000
